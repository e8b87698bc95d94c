//! Real QEMUs take what imports make: the domains and scripts of `tests/domains`, or with `VFIO_RUN_MACHINES` the machine
//! files of a folder, each of which is then said to be taken or not (`scripts/import-all`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use vfio_run::change::StopUnit;
use vfio_run::import::{self, Beside};
use vfio_run::machine::{self, Source};
use vfio_run::plan::{self, Content, Inherited, Keep, Plan, PlannedChange};
use vfio_run::qemu::KvmTrial::Run;
use vfio_run::qemu::QemuFacts;
use vfio_run::qemu::command::{OptionValue, QemuOption};
use vfio_run::units::{Origin, Size};

use super::setups::{self, input};

/// The host that it is planned for, if `VFIO_RUN_HOST` names no other.
const HOST: &str = "epyc-9754x2-512";
/// Where Debian has OVMF.
const FIRMWARE: &str = "/usr/share/OVMF";

/// The domains and scripts of the project, as machine files.
fn imported() -> Vec<(String, String)> {
    let folder = input::root().join("tests/domains");
    let mut machines = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let beside = Beside { root: None, home: None, hooks: None, path: Path::new("/machine.ron") };
        let read = || std::fs::read_to_string(&path).unwrap();
        let made = match path.extension().and_then(|end| end.to_str()) {
            Some("xml") => import::domain(&read(), beside).unwrap(),
            Some("sh") => import::script(&read(), &format!("/{name}"), beside).unwrap(),
            _ => continue,
        };
        machines.push((name, made.file));
    }
    machines
}

/// The machine files of a folder.
fn of_folder(folder: &Path) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.extension().is_some_and(|end| end == "ron"));
    let read = |path: PathBuf| {
        (path.file_stem().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(&path).unwrap())
    };
    let mut machines: Vec<(String, String)> = files.map(read).collect();
    machines.sort();
    machines
}

#[test]
fn qemu_takes_what_is_imported() {
    let folder = std::env::var_os("VFIO_RUN_MACHINES");
    let machines = folder.as_ref().map_or_else(imported, |folder| of_folder(Path::new(folder)));
    assert!(!machines.is_empty(), "there are no machine files");
    for qemu in super::qemus() {
        let cache = tempfile::tempdir().unwrap();
        let facts = QemuFacts::of(&qemu, Some(cache.path()), Run).unwrap();
        let mut refused = Vec::new();
        for (name, text) in &machines {
            let case = format!("{name} on {}", facts.version);
            let taken = std::panic::catch_unwind(|| judge(&case, text, facts.clone()));
            match taken {
                Ok(()) => println!("taken: {case}"),
                Err(_) => {
                    println!("refused: {case}");
                    refused.push(case);
                }
            }
        }
        assert!(folder.is_some() || refused.is_empty(), "{refused:?}");
    }
}

/// Starts the trial of a machine, without what only its own host has.
fn judge(case: &str, text: &str, facts: QemuFacts) {
    let folder = tempfile::tempdir().unwrap();
    let mut source: Source = machine::parse(Path::new("/machine.ron"), text).unwrap();
    // This host may have less than that of the machine.
    source.machine.memory.size = source.machine.memory.size.min(Size::bytes(2 * Size::GIB));
    let named = std::env::var("VFIO_RUN_HOST").unwrap_or_else(|_| HOST.to_owned());
    let mut host = input::host(&named);
    host.kvm.exists = false;
    host.process.run_dir = folder.path().join("run/vfio-run");
    host.process.state_dir = folder.path().join("state");
    let displays = facts.displays.clone();
    let mut plan = input::Inputs::from(source, host, facts).plan();
    let change = StopUnit { unit: "sddm.service".to_owned() }.into();
    plan.changes.push(PlannedChange { change, origin: Origin::Default("a test".to_owned()), optional: false });
    let contents: Vec<i32> = plan.descriptors.iter().filter(|d| of_host(&d.what)).map(|d| d.fd).collect();
    firmware(&mut plan, folder.path());
    setups::here(&mut plan, folder.path());
    let mut trial = plan::trial(&plan).unwrap();
    setups::emulated(&mut trial);
    let options = &mut trial.command.options;
    let absent = ["-acpitable", "-kernel", "-initrd", "-append"];
    options.retain(|option| !absent.contains(&option.name.as_str()) && !refers(option, &contents));
    own_words(options, folder.path());
    options.iter_mut().for_each(|option| here(option, folder.path(), &displays));
    super::judge(case, &plan, &trial);
}

/// Has what an option names in this folder, and what only a desktop or a graphics card of the host has nowhere.
fn here(option: &mut QemuOption, folder: &Path, displays: &BTreeSet<String>) {
    match &mut option.value {
        OptionValue::Json(object) => {
            let word = |key: &str| object.get(key).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
            let (path, kind, driver) = (word("mem-path"), word("type"), word("driver"));
            if let Some(name) = path.strip_prefix("/dev/shm/") {
                // Another machine's may be there.
                let at = folder.join(format!("shared-{name}")).to_string_lossy().into_owned();
                object.insert("mem-path".to_owned(), at.into());
            }
            if option.name == "-display" && (!displays.contains(&kind) || kind == "dbus" || kind == "egl-headless") {
                object.clear();
                object.insert("type".to_owned(), "none".into());
            }
            let other = match driver.as_str() {
                "virtio-vga-gl" => Some("virtio-vga"),
                "virtio-gpu-gl-pci" => Some("virtio-gpu-pci"),
                "scsi-block" | "scsi-generic" => Some("scsi-hd"),
                _ => None,
            };
            if let Some(other) = other {
                object.insert("driver".to_owned(), other.into());
            }
            // Of the host's own nodes there may be fewer.
            object.retain(|key, _| !["host-nodes", "policy"].contains(&key.as_str()));
        }
        OptionValue::Keys { keys, .. } => {
            keys.retain(|(key, _)| option.name != "-spice" || !["gl", "rendernode"].contains(&key.as_str()));
            let paths = keys.iter_mut().filter(|(key, _)| option.name == "-fsdev" && key == "path");
            paths.for_each(|(_, path)| *path = folder.to_string_lossy().into_owned());
        }
        _ => {}
    }
}

/// Whether a content is made from files that only the machine's own host has.
fn of_host(what: &Inherited) -> bool {
    matches!(what, Inherited::Content(content) if !matches!(content, Content::Pem { .. }))
}

/// Whether an option refers to one of these descriptors.
fn refers(option: &QemuOption, descriptors: &[i32]) -> bool {
    let words = option.words().collect::<Vec<_>>().join(" ");
    descriptors.iter().any(|fd| {
        [format!("/proc/self/fd/{fd}"), format!("/dev/fdset/{fd}")]
            .iter()
            .any(|path| words.split(path.as_str()).skip(1).any(|rest| !rest.starts_with(|c: char| c.is_ascii_digit())))
    })
}

/// Of the user's own options, which are a word each, takes devices of the host away, and has images and sockets here.
fn own_words(options: &mut Vec<QemuOption>, folder: &Path) {
    let starts = ["vfio-pci", "usb-host", "q35-pcihost.pci-hole64-size"];
    let of_host = |before: &str, word: &str| {
        starts.iter().any(|start| word.starts_with(start)) || before == "-smbios" && word.starts_with("file=")
    };
    let pair = |options: &[QemuOption]| options.windows(2).position(|pair| of_host(&pair[0].name, &pair[1].name));
    while let Some(at) = pair(options) {
        options.drain(at..=at + 1);
    }
    for option in options.iter_mut().filter(|option| !option.name.starts_with('-')) {
        let parts: Vec<String> = option.name.split(',').map(str::to_owned).collect();
        let here = parts.iter().map(|part| match part.split_once('=') {
            Some(("file" | "path", path)) if path.contains('/') => {
                let at = folder.join(format!("own-{}", path.replace('/', "-")));
                if part.starts_with("file=") {
                    image(&at, option.name.contains("qcow"));
                }
                format!("{}={}", part.split('=').next().unwrap(), at.display())
            }
            _ => part.clone(),
        });
        option.name = here.collect::<Vec<_>>().join(",");
    }
}

/// An empty image.
fn image(at: &Path, qcow2: bool) {
    let format = if qcow2 { "qcow2" } else { "raw" };
    let made = Command::new("qemu-img").args(["create", "-q", "-f", format]).arg(at).arg("1M").status();
    assert!(made.unwrap().success());
}

/// Has Debian's OVMF in place of a build that is not here.
fn firmware(plan: &mut Plan, folder: &Path) {
    let of = |path: &Path, name: &str| -> Option<PathBuf> {
        if path.exists() {
            return None;
        }
        let at = folder.join(format!("firmware-{}", path.to_string_lossy().replace('/', "-")));
        let from = Path::new(FIRMWARE).join(name);
        let format = if path.extension().is_some_and(|end| end == "qcow2") { "qcow2" } else { "raw" };
        let made = Command::new("qemu-img").args(["convert", "-f", "raw", "-O", format]).arg(from).arg(&at).status();
        assert!(made.unwrap().success());
        Some(at)
    };
    for keep in &mut plan.keep {
        if let Keep::Copy { from, .. } = keep
            && let Some(other) = of(from, "OVMF_VARS_4M.fd")
        {
            *from = other;
        }
    }
    let copies = plan.keep.iter().filter_map(|keep| match keep {
        Keep::Copy { to, .. } => Some(to.clone()),
        Keep::Folder(_) | Keep::TpmState { .. } | Keep::Image { .. } => None,
    });
    let stores: Vec<PathBuf> = copies.collect();
    for descriptor in &mut plan.descriptors {
        let Inherited::File(opened) = &mut descriptor.what else { continue };
        let name = opened.path.to_string_lossy().to_uppercase();
        if (name.contains("OVMF") || name.ends_with(".FD"))
            && !stores.contains(&opened.path)
            && let Some(other) = of(&opened.path, "OVMF_CODE_4M.secboot.fd")
        {
            opened.path = other;
        }
    }
}
