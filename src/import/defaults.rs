//! Values that a family, an ending or another field gives anyway are not written.

use crate::machine::{Discard, Disk, Emulated, Firmware, Guest, Machine, Media, Rtc, Tpm, Uefi};

/// Takes them away.
pub fn forget(machine: &mut Machine) {
    let windows = machine.guest.is_windows();
    let cpu = &mut machine.cpu;
    if cpu.pin.is_some() {
        cpu.vcpus = None;
    }
    cpu.hide_kvm = cpu.hide_kvm.filter(|hide| *hide != windows);
    cpu.nested = cpu.nested.filter(|nested| !windows || *nested);
    let usual = if windows { Rtc::LocalTime } else { Rtc::Utc };
    machine.rtc = machine.rtc.filter(|rtc| *rtc != usual);
    for sleep in [&mut machine.sleep.s3, &mut machine.sleep.s4] {
        *sleep = sleep.filter(|may| *may == windows);
    }
    if let Firmware::Uefi(uefi) = &mut machine.firmware {
        let secure = uefi.secure_boot.unwrap_or(machine.guest == Guest::Windows11);
        uefi.enrolled_keys = uefi.enrolled_keys.filter(|enrolled| *enrolled != secure);
        uefi.secure_boot = uefi.secure_boot.filter(|secure| *secure != (machine.guest == Guest::Windows11));
    }
    let auto = match &machine.firmware {
        Firmware::Uefi(uefi) => *uefi == Uefi::default() && machine.guest != Guest::Other && machine.kernel.is_none(),
        Firmware::Bios => machine.guest == Guest::Other || machine.kernel.is_some(),
        Firmware::Auto => true,
    };
    if auto {
        machine.firmware = Firmware::Auto;
    }
    let has_tpm = machine.guest == Guest::Windows11;
    if machine.tpm == Tpm::V2(Emulated::default()) && has_tpm || machine.tpm == Tpm::None && !has_tpm {
        machine.tpm = Tpm::Auto;
    }
    machine.disks.iter_mut().for_each(disk);
}

fn disk(disk: &mut Disk) {
    let plain = Disk { media: None, ..disk.clone() };
    if disk.media == Some(plain.media()) && disk.file.is_some() {
        disk.media = None;
    }
    let plain = Disk { bus: None, ..disk.clone() };
    disk.bus = disk.bus.filter(|bus| *bus != plain.bus());
    let plain = Disk { cache: None, ..disk.clone() };
    disk.cache = disk.cache.filter(|cache| *cache != plain.cache());
    disk.discard = disk.discard.filter(|discard| *discard != Discard::Unmap);
    if disk.media() == Media::Cd {
        disk.read_only = None;
    }
}
