//! What a plan needs to know of the host beyond its hardware: the files and programs that the machine names.

use std::path::Path;

use crate::host::Wanted;
use crate::host::pci::WantedPci;
use crate::machine::{Firmware, Machine, Serial};

/// The name that QEMU has where the machine names none.
const QEMU: &str = "qemu-system-x86_64";

/// What a plan for any machine may ask about, for a host that is captured before there is one.
pub fn wanted_by_any() -> Wanted {
    Wanted { programs: vec![QEMU.to_owned(), super::command::SWTPM.to_owned()], ..Wanted::default() }
}

/// The files and programs that a plan for this machine asks the host about.
pub fn wanted(machine: &Machine) -> Wanted {
    let mut files = Vec::new();
    if let Some(kernel) = &machine.kernel {
        files.push(kernel.image.clone());
        files.extend(kernel.initrd.clone());
    }
    if let Firmware::Uefi(uefi) = &machine.firmware {
        files.extend(uefi.code.iter().chain(&uefi.vars).cloned());
    }
    files.extend(machine.disks.iter().map(|disk| disk.file.clone()));
    if let Serial::File(path) = &machine.serial {
        files.push(path.clone());
    }
    files.extend(super::hooks::programs(machine));
    let roms: Vec<_> = machine.pci.iter().filter_map(|device| device.rom.clone()).collect();
    files.extend(roms.iter().cloned());
    let slots: Vec<_> = machine.pci.iter().map(|device| device.address).collect();
    let user_units = machine.handover.user_units.clone();
    // PCI costs time to read, so only who has devices pays for it.
    let pci = (!slots.is_empty()).then_some(WantedPci { slots, all: false, roms, user_units });
    let qemu = machine.qemu.as_ref().map_or_else(|| QEMU.to_owned(), |path| path.to_string_lossy().into_owned());
    let programs = vec![qemu, super::command::SWTPM.to_owned()];
    let stores = super::command::STORES.map(|name| Path::new(&machine.name).join(name));
    let kept = if machine.firmware == Firmware::Bios { vec![] } else { stores.to_vec() };
    Wanted { files, programs, accounts: machine.user.iter().cloned().collect(), kept, pci, ..Wanted::default() }
}
