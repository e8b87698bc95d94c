//! Paths of the machine file: made absolute, so that nothing depends on the folder that we run in.

use std::path::{Path, PathBuf};

use super::Problems;
use crate::machine::{Firmware, Machine, Serial};

/// Every path of the machine with the field that it stands in. The one list, so that no path is forgotten by one use.
fn each(machine: &mut Machine) -> Vec<(String, &mut PathBuf)> {
    let mut paths = Vec::new();
    if let Some(qemu) = &mut machine.qemu {
        paths.push(("qemu".to_owned(), qemu));
    }
    if let Firmware::Uefi(uefi) = &mut machine.firmware {
        for (name, path) in [("firmware.code", &mut uefi.code), ("firmware.vars", &mut uefi.vars)] {
            paths.extend(path.as_mut().map(|path| (name.to_owned(), path)));
        }
    }
    if let Some(kernel) = &mut machine.kernel {
        paths.push(("kernel.image".to_owned(), &mut kernel.image));
        paths.extend(kernel.initrd.as_mut().map(|initrd| ("kernel.initrd".to_owned(), initrd)));
    }
    for (i, disk) in machine.disks.iter_mut().enumerate() {
        paths.push((format!("disks[{i}].file"), &mut disk.file));
    }
    for (i, device) in machine.pci.iter_mut().enumerate() {
        paths.extend(device.rom.as_mut().map(|rom| (format!("pci[{i}].rom"), rom)));
    }
    if let Serial::File(path) = &mut machine.serial {
        paths.push(("serial.File".to_owned(), path));
    }
    paths
}

/// Makes relative paths start from the folder that the machine file is named in.
pub(super) fn resolve(machine: &mut Machine, file: &Path) {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let folder = absolute.parent().unwrap_or(Path::new("/"));
    super::hooks::resolve(machine, folder);
    for (field, path) in each(machine) {
        // A program's bare name is looked up in PATH, as everywhere else.
        let bare = field == "qemu" && path.components().count() == 1 && !path.starts_with(".");
        // These two are refused by the check, with the text that was written.
        let refused = path.as_os_str().is_empty() || path.starts_with("~");
        if !bare && !refused {
            // `components` drops `./`; `..` stays, since it is not ours to say where a symlink leads.
            *path = folder.join(path.components().as_path());
        }
    }
}

/// Refuses paths that cannot be meant.
pub(super) fn check(machine: &Machine, problems: &mut Problems) {
    let mut machine = machine.clone();
    for (field, path) in each(&mut machine) {
        let name = field.trim_end_matches(".File").to_owned();
        if path.as_os_str().is_empty() {
            problems.add(field, format!("`{name}` is empty")).allowed("the path of a file");
        } else if path.starts_with("~") {
            problems
                .add(field, format!("`{name}`: `~` is not your home folder here"))
                .allowed("an absolute path, or one that starts from the machine file's folder")
                .help("root and you have different homes, so write the whole path");
        }
    }
}
