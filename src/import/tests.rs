//! Domains of tests/domains against the files and reports that were reviewed, and what holds for every one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::*;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/domains")
}

fn texts() -> Vec<(String, String)> {
    let entries = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "xml")).collect();
    paths.sort();
    let name = |path: &PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    paths.into_iter().map(|path| (name(&path), std::fs::read_to_string(&path).unwrap())).collect()
}

/// An import with the hooks that are beside the domains.
fn imported(text: &str) -> Imported {
    let (root, hooks) = (Root::new("/"), folder().join("hooks"));
    let scripts = Scripts { root: &root, folder: &hooks, named: false, host: None };
    domain(text, Beside { root: None, home: None, hooks: Some(scripts), path: Path::new("/machine.ron") }).unwrap()
}

/// Holds the file and the report against the snapshot of this name.
fn is_as_reviewed(name: &str, imported: &Imported) {
    let report = crate::report::import(imported, None, false, false, usize::MAX);
    insta::with_settings!({
        snapshot_path => folder(),
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        insta::assert_snapshot!(name, format!("{}\n{report}\n", imported.file));
    });
}

/// What becomes of a domain with this in `os`, and this in `devices`: the file, and the words of each entry with its verdict.
fn small(os: &str, devices: &str, root: Option<&Root>) -> String {
    let text = format!(
        "<domain type='kvm'><name>linux</name><memory>1048576</memory><os><type>hvm</type>{os}</os>\
         <devices>{devices}</devices></domain>"
    );
    let imported = domain(&text, Beside { root, home: None, hooks: None, path: Path::new("/machine.ron") }).unwrap();
    let entries = imported.entries.iter().map(|entry| format!("\n{:?}: {}", entry.verdict, entry.words));
    imported.file.clone() + &entries.collect::<String>()
}

#[test]
fn a_card_is_named_as_a_whole_only_by_a_host_that_knows_its_functions() {
    let host = tempfile::tempdir().unwrap();
    for (function, class) in
        [("0a:00.0", "0x030000"), ("0a:00.1", "0x040300"), ("0a:00.4", "0x0c0330"), ("00:02.0", "0x00ff00")]
    {
        let folder = host.path().join(format!("sys/bus/pci/devices/0000:{function}"));
        std::fs::create_dir_all(&folder).unwrap();
        for (name, value) in [("vendor", "0x1002"), ("device", "0x15bf"), ("class", class)] {
            std::fs::write(folder.join(name), value).unwrap();
        }
    }
    let root = Root::new(host.path());
    let given = |functions: &[(&str, u8)], root| {
        let device = |(place, function): &(&str, u8)| {
            let (bus, slot) = place.split_once(':').unwrap();
            format!(
                "<hostdev mode='subsystem' type='pci' managed='yes'><source><address domain='0x0000' bus='0x{bus}' \
                 slot='0x{slot}' function='0x{function}'/></source></hostdev>"
            )
        };
        small("", &functions.iter().map(device).collect::<String>(), root)
    };
    let two = [("0a:00", 0), ("0a:00", 1)];
    for (functions, root, written) in [
        (&two[..], None, "pci: [\"0a:00.0\", \"0a:00.1\"]"),
        // The third is the host's.
        (&two, Some(&root), "(address: \"0a:00.1\", expect: \"1002:15bf\")"),
        (&[two[0], two[1], ("0a:00", 4)], Some(&root), "(address: \"0a:00.*\", expect: \"1002:15bf\")"),
        // This host has no graphics there, so the domain is another's.
        (&[("00:02", 0)], Some(&root), "pci: [\"00:02.0\"]"),
    ] {
        let text = given(functions, root);
        assert!(text.contains(written), "{written}: {text}");
    }
}

#[test]
fn small_parts_of_a_domain_are_what_they_are() {
    let console = "<console type='pty'><target type='virtio' port='0'/></console>";
    let event = |name: &str| {
        format!("<input type='evdev'><source dev='/dev/input/by-id/{name}' grab='all' repeat='on'/></input>")
    };
    let keyboards =
        ["a-event-kbd", "b-event-kbd", "c-event-kbd", "usb-X_Keyboard_Mouse-if01-event-mouse"].map(event).concat();
    for (os, devices, expected) in [
        ("<loader>/usr/share/seabios/bios.bin</loader>", "", vec!["firmware: Bios", "SeaBIOS is QEMU's own"]),
        ("<loader type='rom'>/usr/share/qemu/bios-256k.bin</loader>", "", vec!["firmware: Bios"]),
        ("<loader type='rom'>/usr/share/ovmf/OVMF.fd</loader>", "", vec!["OVMF as a ROM has no variable store"]),
        ("", console, vec!["NeedsYou: there is no console on virtio (hvc0)"]),
        ("", &format!("<serial type='pty'/>{console}"), vec!["LeftOut: the guest's serial port is its console"]),
        (
            "",
            "<rng model='virtio'># random<backend model='random'>/dev/urandom</backend></rng>",
            vec!["nobody reads a text"],
        ),
        (
            "",
            &keyboards,
            vec![
                "(keyboard: \"/dev/input/by-id/b-event-kbd\", grab_all: true)",
                "(keyboard: \"/dev/input/by-id/c-event-kbd\", grab_all: true)",
                "(mouse: \"/dev/input/by-id/usb-X_Keyboard_Mouse-if01-event-mouse\", repeat: true)",
            ],
        ),
    ] {
        let text = small(os, devices, None);
        expected.iter().for_each(|words| assert!(text.contains(words), "{words}: {text}"));
    }
    let empty = "<domain><name>a</name><memory>1048576</memory><os><type>hvm</type></os><cputune/><memoryBacking/>\
                 <features/><pm/><devices/></domain>";
    let imported = domain(empty, Beside { root: None, home: None, hooks: None, path: Path::new("/a.ron") }).unwrap();
    assert!(imported.entries.iter().all(|entry| entry.verdict != Verdict::NeedsYou), "{:?}", imported.entries);
    let old = empty.replace("<os>", "<metadata><x:os xmlns:x='a' id='http://microsoft.com/win/7'/></metadata><os>");
    let imported = domain(&old, Beside { root: None, home: None, hooks: None, path: Path::new("/a.ron") }).unwrap();
    let told = imported.entries.iter().any(|entry| entry.words.contains("this computer is for Windows 10 and 11"));
    assert!(told && imported.file.contains("// The domain said an older Windows"), "{}", imported.file);
    let beside = Beside { root: None, home: None, hooks: None, path: Path::new("/a.ron") };
    let refused = domain("## my machine\n<domain/>", beside).err().unwrap().to_string();
    assert!(refused.contains("there is text before `<domain>`; remove it"), "{refused}");
}

#[test]
fn what_would_be_refused_is_named_by_a_file_only_if_there_is_one() {
    let text = "<domain><name>a</name><memory>1048576</memory><os><type>hvm</type></os><devices><interface type='bridge'>\
                <source bridge='a/b'/></interface></devices></domain>";
    let words = |path| {
        let imported = domain(text, Beside { root: None, home: None, hooks: None, path: Path::new(path) }).unwrap();
        let all: Vec<String> = imported.entries.into_iter().map(|entry| entry.words).collect();
        all.join("\n")
    };
    let (printed, written) = (words("/machine.ron"), words("/vm/a.ron"));
    assert!(printed.contains("what is printed would be refused as a machine file, at "), "{printed}");
    assert!(!printed.contains("machine.ron"), "{printed}");
    assert!(written.contains("the machine file would be refused: /vm/a.ron:"), "{written}");
}

#[test]
fn files_and_reports_are_as_reviewed() {
    for (name, text) in texts() {
        let imported = imported(&text);
        is_as_reviewed(&name, &imported);
    }
}

#[test]
fn the_state_of_a_tpm_comes_along_if_a_copy_is_of_use() {
    const UUID: &str = "6d0a6f5e-9a1c-4b52-8f5d-0d6f4f2f1c11";
    let usual = format!("V2(state: \"/var/lib/libvirt/swtpm/{UUID}/tpm2\")");
    for (uuid, backend, expected, needs_you) in [
        (UUID, "", &*usual, None),
        ("", "", "V2", None),
        ("none", "", "V2", None),
        (UUID, "<source type='dir' path='/srv/tpm'/>", "V2(state: \"/srv/tpm\")", None),
        (UUID, "<source type='dir' path='srv/tpm'/>", "V2", Some("its whole path")),
        (UUID, "<source type='dir' path=''/>", "V2", Some("its whole path")),
        (UUID, "<source type='dir'/>", "V2", Some("its whole path")),
        (UUID, "<source type='file' path='/srv/tpm'/>", "V2", Some("a single file")),
        (UUID, "<encryption secret='6d0a6f5e-9a1c-4b52-8f5d-0d6f4f2f1c12'/>", "V2", Some("is encrypted")),
    ] {
        let uuid = if uuid.is_empty() { String::new() } else { format!("<uuid>{uuid}</uuid>") };
        let imported = imported(&format!(
            "<domain type='kvm'><name>a</name>{uuid}<memory unit='GiB'>1</memory><os><type machine='q35'>hvm</type></os>\
             <devices><tpm model='tpm-crb'><backend type='emulator' version='2.0'>{backend}</backend></tpm></devices></domain>"
        ));
        assert!(imported.file.contains(&format!("    tpm: {expected},\n")), "{backend}: {}", imported.file);
        let tpms = |entry: &&Entry| entry.verdict == Verdict::NeedsYou && entry.words.contains("BitLocker");
        let needs = imported.entries.iter().find(tpms);
        assert_eq!(needs.is_some(), needs_you.is_some(), "{backend}: {needs:?}");
        assert!(needs.is_none_or(|entry| entry.words.contains(needs_you.unwrap())), "{needs:?}");
        let told = imported.entries.iter().any(|entry| entry.words.starts_with("a new TPM: "));
        assert_eq!(told, !uuid.contains(UUID), "{uuid}");
    }
    let old = imported(
        "<domain type='kvm'><name>a</name><uuid>6d0a6f5e-9a1c-4b52-8f5d-0d6f4f2f1c11</uuid><memory unit='GiB'>1</memory>\
         <os><type machine='q35'>hvm</type></os><devices><tpm><backend type='emulator' version='1.2'/></tpm></devices></domain>",
    );
    assert!(old.file.contains("    tpm: V2,\n"), "{}", old.file);
    let needs = old.entries.iter().find(|entry| entry.verdict == Verdict::NeedsYou);
    assert!(needs.is_some_and(|entry| entry.words.contains("recovery key")), "{needs:?}");
}

#[test]
fn each_value_is_in_exactly_one_entry() {
    for (name, text) in texts() {
        let document = xml::parse(&text).unwrap();
        let mut expected = BTreeSet::new();
        for node in document.descendants().filter(Node::is_element) {
            expected.extend(node.attributes().map(|attribute| xml::place(node, attribute.name()).path));
            if xml::has_own_value(node) {
                expected.insert(xml::place(node, account::TEXT).path);
            }
        }
        let entries = imported(&text).entries;
        let places = entries.iter().flat_map(|entry| &entry.places).filter(|place| place.file.is_none());
        let found: Vec<String> = places.map(|place| place.path.clone()).collect();
        let entered: BTreeSet<String> = found.iter().cloned().collect();
        assert_eq!(entered.symmetric_difference(&expected).collect::<Vec<_>>(), Vec::<&String>::new(), "{name}");
        assert_eq!(found.len(), expected.len(), "{name}: a value is in two entries");
    }
}

#[test]
fn each_command_of_a_hook_has_an_entry() {
    let (_, text) = texts().into_iter().find(|(name, _)| name == "desk").unwrap();
    let entries = imported(&text).entries;
    let lines: BTreeSet<(String, u32)> = entries
        .iter()
        .flat_map(|entry| &entry.places)
        .filter_map(|place| Some((place.file.clone()?, place.line)))
        .collect();
    for script in ["qemu", "kvm.conf", "qemu.d/desk/prepare/begin/start.sh", "qemu.d/desk/release/end/revert.sh"] {
        let text = std::fs::read_to_string(folder().join("hooks").join(script)).unwrap();
        for (index, line) in text.lines().enumerate() {
            let line_number = u32::try_from(index + 1).unwrap();
            let said = lines.contains(&(script.to_owned(), line_number));
            let means =
                !line.trim().is_empty() && !line.trim().starts_with('#') && !matches!(line.trim(), "fi" | "done");
            assert!(said || !means, "{script}:{line_number}: {line}");
        }
    }
}

#[test]
fn a_file_reads_back_as_the_machine_that_was_imported() {
    for (name, text) in texts() {
        let file = imported(&text).file;
        let read = machine::parse(Path::new("/machine.ron"), &file)
            .unwrap_or_else(|refused| panic!("{name}: {refused}\n{file}"));
        // Written once more, nothing is left to take away.
        let again = short::write(&read.machine, &BTreeMap::new(), Path::new("/machine.ron"));
        assert_eq!(again.refused, None, "{name}");
        let same = machine::parse(Path::new("/machine.ron"), &again.text).unwrap();
        assert_eq!(same.machine, read.machine, "{name}");
    }
}

#[test]
fn what_is_no_domain_is_refused() {
    let refused = |text: &str| {
        domain(text, Beside { root: None, home: None, hooks: None, path: Path::new("/m.ron") })
            .map(drop)
            .unwrap_err()
            .to_string()
    };
    assert!(refused("<network/>").contains("this is <network>, not a <domain>"));
    assert!(refused("<domain/>").contains("no <memory>"));
    assert!(refused("<domain><memory>0</memory></domain>").contains("no <memory>"));
    assert!(refused("<domain>").starts_with("line 1, column "), "{}", refused("<domain>"));
}

#[test]
fn the_host_tells_names_that_stay() {
    let tree = tempfile::tempdir().unwrap();
    let put = |path: &str, text: &str| {
        let path = tree.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    put("dev/sdb", "");
    put("opt/qemu/bin/qemu-system-x86_64", "");
    put("sys/bus/usb/devices/3-2/busnum", "3\n");
    put("sys/bus/usb/devices/3-2/devnum", "7\n");
    put("etc/libvirt/qemu/networks/isolated.xml", "<network><name>isolated</name><bridge name='virbr7'/></network>");
    std::fs::create_dir_all(tree.path().join("dev/disk/by-id")).unwrap();
    std::os::unix::fs::symlink("../../sdb", tree.path().join("dev/disk/by-id/wwn-0x5000")).unwrap();
    std::os::unix::fs::symlink("../../sdb", tree.path().join("dev/disk/by-id/ata-EXAMPLE_0001")).unwrap();
    let root = Root::new(tree.path());
    let texts = texts();
    let file = |name: &str| {
        let (_, text) = texts.iter().find(|(known, _)| known == name).unwrap();
        domain(text, Beside { root: Some(&root), home: None, hooks: None, path: Path::new("/m.ron") }).unwrap().file
    };
    let mistakes = file("mistakes");
    assert!(mistakes.contains("/dev/disk/by-id/ata-EXAMPLE_0001"), "{mistakes}");
    assert!(mistakes.contains("usb: [\"3-2\"]"), "{mistakes}");
    assert!(mistakes.contains("qemu: \"/opt/qemu/bin/qemu-system-x86_64\""), "{mistakes}");
    assert!(file("needs-you").contains("Bridge(\"virbr7\")"), "{}", file("needs-you"));
}

#[test]
fn a_key_of_apples_is_in_a_file_of_its_own() {
    let text = |key: &str| format!("qemu-system-x86_64 -m 4G -device isa-applesmc,osk='{key}'\n");
    let key = "k".repeat(64);
    let at = |path: &'static str, key: &str| {
        script(&text(key), "mac.sh", Beside { root: None, home: None, hooks: None, path: Path::new(path) }).unwrap()
    };
    let written = at("/etc/vfio-run/mac.ron", &key);
    assert!(
        !written.needs_person() && written.file.contains("key_file: \"/etc/vfio-run/mac.osk\""),
        "{}",
        written.file
    );
    assert_eq!(written.key, Some(("/etc/vfio-run/mac.osk".into(), key.clone())));
    let json = serde_json::to_string(&written).unwrap();
    assert!(!json.contains(&key), "{json}");
    // What is only printed writes no file, and what is no key is none.
    for other in [at("/machine.ron", &key), at("/etc/vfio-run/mac.ron", "none")] {
        assert!(other.needs_person() && other.key.is_none(), "{}", other.file);
    }
}

#[test]
fn scripts_are_as_reviewed() {
    let beside = Beside { root: None, home: None, hooks: None, path: Path::new("/machine.ron") };
    for name in ["start-vm", "start-many"] {
        let text = std::fs::read_to_string(folder().join(format!("{name}.sh"))).unwrap();
        let imported = script(&text, &format!("/{name}.sh"), beside).unwrap();
        is_as_reviewed(name, &imported);
    }
    let refused = script("echo qemu-system-x86_64\n", "a.sh", beside).map(drop).unwrap_err();
    assert!(refused.to_string().contains("no command in it starts QEMU"), "{refused}");
    let home = Beside { home: Some(Path::new("/home/me")), ..beside };
    let at_home = script("qemu-kvm -hda ~/a.img -drive if=virtio,file=$HOME/b.img\n", "/x/a.sh", home).unwrap().file;
    assert!(at_home.contains("/home/me/a.img") && at_home.contains("/home/me/b.img"), "{at_home}");
    let tpm = "-chardev socket,id=c,path=/tmp/s -tpmdev emulator,id=t,chardev=c -device tpm-crb,tpmdev=t";
    for (options, expected, needs_you) in [
        ("--tpm2 --tpmstate dir=~/tpm,mode=0600 --ctrl type=unixio,path=/tmp/s", "V2(state: \"/home/me/tpm\")", None),
        ("--tpmstate dir=tpm --tpm2 --daemon", "V2(state: \"/x/tpm\")", None),
        ("--tpm2 --tpmstate=dir=/tpm", "V2(state: \"/tpm\")", None),
        ("--tpm2 --tpmstate backend-uri=dir:///a/b,mode=0600", "V2(state: \"/a/b\")", None),
        ("--tpm2 --tpmstate dir=$(mktemp -d)", "V2", None),
        ("--tpm2 --tpmstate dir=`mktemp -d`", "V2", None),
        ("--tpm2 --tpmstate backend-uri=file:///a/b", "V2", Some("a single file")),
        ("--tpm2 --tpmstate dir=/tpm --key file=/k --ctrl type=unixio,path=/tmp/s", "V2", Some("is encrypted")),
        ("--tpm2 --tpmstate dir=$1", "V2", Some("when it runs")),
        ("--tpmstate dir=/tpm --ctrl type=unixio,path=/tmp/s", "V2", Some("a TPM 1.2")),
    ] {
        let made = script(&format!("sudo swtpm socket {options} &\nqemu-kvm -m 1G {tpm}\n"), "/x/a.sh", home).unwrap();
        assert!(made.file.contains(&format!("    tpm: {expected},\n")), "{options}: {}", made.file);
        let needs = made.entries.iter().find(|entry| entry.verdict == Verdict::NeedsYou);
        assert_eq!(needs.is_some(), needs_you.is_some(), "{options}: {needs:?}");
        assert!(needs.is_none_or(|entry| entry.words.contains(needs_you.unwrap())), "{options}: {needs:?}");
    }
    // A command that has to do with swtpm and starts none does not take the state away again.
    let swtpm = "swtpm socket --tpm2 --tpmstate dir=/tpm --ctrl type=unixio,path=/tmp/s &";
    let made = script(&format!("{swtpm}\nqemu-kvm -m 1G {tpm}\npkill swtpm\n"), "/x/a.sh", home).unwrap();
    assert!(made.file.contains("V2(state: \"/tpm\")"), "{}", made.file);
    let ended = made.entries.iter().find(|entry| format!("{entry:?}").contains("pkill")).unwrap();
    assert!(!format!("{ended:?}").contains("a new TPM"), "{ended:?}");
    let text = "O='-m 4G'\n[ $1 ] && O=\"$O -k de\"\nsudo sh -c \"qemu-kvm $O\"\nX=0\n[ $X = 1 ] && systemctl stop a\n";
    let made = script(text, "a.sh", beside).unwrap();
    let entry =
        |text: &str| made.entries.iter().find(|entry| entry.places.iter().any(|place| place.text == text)).unwrap();
    assert!(entry("-k de").verdict == Verdict::NeedsYou && entry("-k de").words.contains("only if `[ $1 ]`"));
    assert_eq!(entry("systemctl stop a").verdict, Verdict::LeftOut);
    assert!(!made.file.contains("keyboard") && !made.file.contains("handover"), "{}", made.file);
    let inside = script("sudo -E bash -c \"qemu-system-x86_64 -m 4G\"\n", "a.sh", beside).unwrap();
    assert!(inside.file.contains("4 GiB"), "{}", inside.file);
}

/// What the host part of the file says, and what becomes of each line, if this is a domain's hook of its start or its end.
fn hook(place: &str, text: &str) -> Imported {
    let tree = tempfile::tempdir().unwrap();
    let path = tree.path().join(place);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, format!("#!/bin/bash\n{text}\n")).unwrap();
    let root = Root::new("/");
    let scripts = Scripts { root: &root, folder: tree.path(), named: true, host: None };
    let text = "<domain><name>win10</name><memory unit='GiB'>4</memory><os><type machine='q35'>hvm</type></os><devices>\
                <hostdev mode='subsystem' type='pci'><source><address domain='0' bus='1' slot='0' function='0'/></source>\
                </hostdev></devices></domain>";
    domain(text, Beside { root: None, home: None, hooks: Some(scripts), path: Path::new("/machine.ron") }).unwrap()
}

const START: &str = "qemu.d/win10/prepare/begin/x.sh";
const END: &str = "qemu.d/win10/release/end/x.sh";

#[test]
fn a_command_of_a_hook_is_judged_by_what_it_does() {
    for (place, text, field) in [
        (START, "systemctl stop docker.service >> /var/log/h.log 2>&1", "docker.service"),
        (START, "cpupower frequency-set -g performance > /tmp/o", "governor: \"performance\""),
        (START, "FLAG=/tmp/vm-stopped\ncpupower frequency-set -g performance", "governor: \"performance\""),
        (START, "OBJECT=$1\nsystemctl start libvirt-nosleep@\"$OBJECT\"", "no_sleep: true"),
        (START, "echo bus > /sys/bus/pci/devices/0000:01:00.0/reset_method", "reset_method: \"bus\""),
        (START, "fuser -k /dev/nvidia0", "holders: End"),
        (START, "systemctl --runtime mask sleep.target suspend.target", "no_sleep: true"),
    ] {
        let imported = hook(place, text);
        assert!(imported.file.contains(field) && !imported.needs_person(), "{text}: {}", imported.file);
    }
    for (place, text) in [
        (START, "systemctl stop \"$SVC\""),
        (START, "systemctl kill user@$(id -u me).service"),
        (START, "systemctl stop displaylink-driver@$X"),
        (START, "systemctl --user stop 'plasma*'"),
        (START, "sysctl -w kernel.split_lock_mitigate=0 vm.compaction_proactiveness=0"),
        (START, "foo --all >> /var/log/h.log"),
        (START, "pkill -f dnsmasq"),
        (START, "source /etc/libvirt/hooks/gone.conf"),
        (START, "virsh nodedev-detach pci_0000_04_00_0"),
        (START, "driverctl set-override 0000:05:00.0 vfio-pci"),
        (START, "pkill -f qemu-nbd"),
        (START, "echo flr > /sys/bus/pci/devices/0000:05:00.0/reset_method"),
        (END, "kill $(cat /tmp/inhibit.pid)"),
        (END, "systemctl start gamemode.service"),
    ] {
        let imported = hook(place, text);
        assert!(imported.needs_person(), "{text}: {:?}", imported.entries);
        assert!(!imported.file.contains("handover") && !imported.file.contains("reset_method"), "{}", imported.file);
    }
    for text in [
        "command -v systemctl",
        "virsh nodedev-detach pci_0000_01_00_0",
        "fuser -v /dev/nvidia0",
        "kill -0 $PID",
        "systemctl stop \"$DISPMGR.service\"",
        "DISPMGR=\"null\"\nwhile read -r DISPMGR; do\n  systemctl stop \"$DISPMGR.service\"\ndone < /tmp/display-manager",
    ] {
        let imported = hook(START, text);
        assert!(!imported.needs_person() && !imported.file.contains("handover"), "{text}: {}", imported.file);
    }
}

#[test]
fn commands_for_other_domains_are_left_out() {
    let text = "case \"$1\" in\n win10)\n  systemctl stop docker\n  ;;\n ubuntu)\n  systemctl stop smbd\n  \
                cpupower frequency-set -g powersave\n  ;;\nesac";
    let imported = hook("qemu", text);
    assert!(imported.file.contains("units: [\"docker.service\"]"), "{}", imported.file);
    assert!(!imported.file.contains("governor"), "{}", imported.file);
    assert!(imported.entries.iter().any(|entry| entry.words == "it is for another domain" && entry.places.len() >= 2));
}

#[test]
fn a_hook_that_calls_scripts_and_acts_is_read() {
    let imported = hook("qemu", "[[ -e /etc/libvirt/hooks/qemu.d/$1 ]] || exit 0\n/usr/local/bin/lights off");
    assert!(imported.needs_person(), "{:?}", imported.entries);
    let tree = tempfile::tempdir().unwrap();
    let root = Root::new("/");
    for before in ["bash --", "/bin/bash -x", "/usr/bin/env bash", "nohup", "timeout 5", "sudo -u me"] {
        std::fs::create_dir_all(tree.path().join("scripts")).unwrap();
        std::fs::write(tree.path().join("scripts/x.sh"), "systemctl stop docker\n").unwrap();
        std::fs::write(tree.path().join("qemu"), format!("{before} /etc/libvirt/hooks/scripts/x.sh\n")).unwrap();
        let scripts = Scripts { root: &root, folder: tree.path(), named: true, host: None };
        let text = "<domain><name>a</name><memory unit='GiB'>4</memory><os><type>hvm</type></os></domain>";
        let path = Path::new("/machine.ron");
        let imported = domain(text, Beside { root: None, home: None, hooks: Some(scripts), path }).unwrap();
        assert!(imported.file.contains("docker.service"), "{before}: {:?}", imported.entries);
    }
}
