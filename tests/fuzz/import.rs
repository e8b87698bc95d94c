//! Domains, and the hooks beside them.

use std::path::Path;

use vfio_run::host::Root;
use vfio_run::import::{Beside, Imported, Scripts, Unreadable, domain, script};
use vfio_run::report;

use super::mutate::Mutator;
use super::{fuzz, seeds};

/// Imports a text.
fn import(text: &str, hooks: Option<Scripts>) {
    check(domain(text, Beside { root: None, home: None, hooks, path: Path::new("/m.ron") }));
}

/// What can be imported is a file that ends; and nothing that is shown does anything to a terminal.
fn check(read: Result<Imported, Unreadable>) {
    let shown = match read {
        Ok(imported) => {
            assert!(imported.file.ends_with(")\n"), "{}", imported.file);
            imported.file.clone() + &report::import(&imported, None, true, false, 80)
        }
        Err(error) => error.to_string(),
    };
    assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
}

#[test]
fn domains() {
    let texts: Vec<String> =
        seeds("tests/domains", ".xml").iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    fuzz("domains", |mutator: &mut Mutator| {
        let text = mutator.one_of(&texts).clone();
        let damaged = mutator.bytes(text.as_bytes());
        import(&String::from_utf8_lossy(&damaged), None);
    });
}

#[test]
fn hooks_of_libvirt() {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let below = folder.path().join("qemu.d/desk/prepare/begin");
    std::fs::create_dir_all(&below).unwrap();
    let script = seeds("tests/domains/hooks/qemu.d/desk/prepare/begin", ".sh").remove(0);
    let script = std::fs::read(script).unwrap();
    let text = "<domain><name>desk</name><memory>1048576</memory></domain>";
    let root = Root::new("/");
    fuzz("hooks_of_libvirt", |mutator| {
        std::fs::write(below.join("start.sh"), mutator.bytes(&script)).unwrap();
        import(text, Some(Scripts { root: &root, folder: folder.path(), named: true, host: None }));
    });
}

#[test]
fn command_lines() {
    let words = [
        "host,kvm=off,hv_time,hv_vendor_id=whatever,+topoext,-svm,phys-bits=39",
        "input-linux,id=kbd,evdev=/dev/input/event3,grab_all=on,repeat=on",
        "{\"driver\":\"ivshmem-plain\",\"id\":\"shmem0\",\"memdev\":\"looking-glass\"}",
        "memory-backend-file,id=looking-glass,mem-path=/dev/kvmfr0,size=64M,share=yes",
        "vfio-pci,host=01:00.0,multifunction=on,x-vga=on,romfile=/a",
        "type=4,manufacturer=AMD,version=AMD Ryzen,max-speed=5000",
        "device.hostdev0.x-igd-opregion=on",
        "opt/ovmf/X-PciMmio64Mb,string=65536",
        "pa,id=pa1,server=/run/user/1000/pulse/native",
    ];
    let options = [
        "-cpu",
        "-device",
        "-object",
        "-smbios",
        "-set",
        "-fw_cfg",
        "-audiodev",
        "-chardev",
        "-usb",
        "-x",
        "-\u{9b}2J",
    ];
    fuzz("command_lines", |mutator| {
        let mut arguments = String::new();
        for _ in 0..4 {
            let option = *mutator.one_of(&options);
            let word = mutator.one_of(&words).to_owned();
            let word = String::from_utf8_lossy(&mutator.bytes(word.as_bytes())).into_owned();
            let escaped =
                word.replace('&', "&amp;").replace('<', "&lt;").replace('\'', "&apos;").replace(char::is_control, "");
            arguments.push_str(&format!("<arg value='{option}'/><arg value='{escaped}'/>"));
        }
        let text =
            format!("<domain><name>win</name><memory>1048576</memory><commandline>{arguments}</commandline></domain>");
        import(&text, None);
    });
}

#[test]
fn scripts_that_start_qemu() {
    let text = std::fs::read(seeds("tests/domains", ".sh").remove(0)).unwrap();
    fuzz("scripts_that_start_qemu", |mutator| {
        let damaged = String::from_utf8_lossy(&mutator.bytes(&text)).into_owned();
        let beside = Beside { root: None, home: None, hooks: None, path: Path::new("/m.ron") };
        check(script(&damaged, "start-vm.sh", beside));
    });
}
