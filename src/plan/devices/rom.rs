//! Whether the card's ROM is one that the guest can use.

use std::path::Path;

use super::super::Severity::{Hard, Soft};
use super::super::draft::Draft;
use super::given::Given;
use crate::host::pci::Rom;
use crate::plan::process::whole_file;

pub(super) fn check(draft: &mut Draft, given: &Given) {
    let address = given.address();
    let Some(path) = &given.entry.rom else {
        if given.function.is_gpu() && given.details.boot_vga == Some(true) {
            let detail = format!(
                "the host's firmware used {address} for its screen and may have changed the ROM in the card's memory; the machine file names no ROM file"
            );
            let remedy = format!(
                "if the guest's screen stays black, save its ROM to a file for `{}.rom`: {}",
                given.field(),
                saving(given)
            );
            draft.no(&given.key("rom"), Soft, detail, &remedy);
            draft.about(&given.field());
        }
        return;
    };
    let (field, shown) = (format!("{}.rom", given.field()), path.display());
    if whole_file::reach(draft, &given.key("rom"), &field, "the ROM file", path).is_none() {
        return;
    }
    let roms = draft.host.pci.as_ref().map(|pci| &pci.roms);
    let Some(rom) = roms.and_then(|roms| roms.get(path)).cloned().flatten() else {
        draft.unknown(&given.key("rom"), Hard, format!("vfio-run could not read the ROM file {shown}"));
        return draft.about(&field);
    };
    judge(draft, given, &field, path, &rom);
    draft.about(&field);
}

/// How people save the ROM of a card. The kernel shows the card's memory only after `1` was written
/// (`Documentation/PCI/sysfs-pci.rst`), and what a firmware or driver has used may have been changed by it.
fn saving(given: &Given) -> String {
    let rom = format!("/sys/bus/pci/devices/{}/rom", given.address());
    format!("as root, with no driver of the host's bound to it, `echo 1 > {rom}; cat {rom} > card.rom; echo 0 > {rom}`")
}

/// One finding about what is in the file.
fn judge(draft: &mut Draft, given: &Given, field: &str, path: &Path, rom: &Rom) {
    let (address, shown) = (given.address(), path.display());
    let key = given.key("rom.sane");
    let another = format!("correct `{field}`, or save the ROM of this card: {}", saving(given));
    match rom.offset {
        None => return draft.no(&key, Hard, format!("{shown} is not a ROM: it has no image (55 AA, PCIR)"), &another),
        Some(0) => {}
        Some(offset) => {
            let remedy = format!("cut off its first {offset} bytes: `tail -c +{} {shown}`", offset + 1);
            return draft.no(&key, Hard, format!("{shown} has {offset} bytes before the ROM"), &remedy);
        }
    }
    if rom.missing > 0 {
        let detail = format!("{shown} is cut off: its images go on for {} bytes", rom.missing);
        return draft.no(&key, Hard, detail, &another);
    }
    let ids = given.function.ids;
    if let Some(image) = rom.images.iter().find(|image| image.ids.vendor != ids.vendor) {
        let detail = format!("{shown} is for {}, and {address} is {ids}", image.ids);
        return draft.no(&key, Hard, detail, &another);
    }
    if !rom.is_for(ids) {
        // Makers put one ROM on several cards of a family, so this alone is not wrong.
        let found = rom.images.first().map_or_else(String::new, |image| image.ids.to_string());
        let detail = format!("{shown} is for {found}, and {address} is {ids}");
        return draft.no(&key, Soft, detail, &another);
    }
    if rom.unended {
        let detail = format!("{shown} ends before the image that its headers call the last");
        return draft.no(&key, Soft, detail, &another);
    }
    if draft.machine.uefi().is_some() && given.function.is_gpu() && !rom.has_uefi() {
        let detail = format!("{shown} has no image for UEFI, so the screen stays black until the guest's driver runs");
        return draft.no(&key, Soft, detail, "look for a newer ROM of the card, or write `firmware: Bios`");
    }
    draft.yes(&key, Hard, format!("{shown} is a ROM for {ids}"));
}
