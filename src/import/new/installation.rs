//! The variation of a new machine with which its guest is installed: CDs, and an emulated screen in place of the card.

use std::fmt::Write as _;
use std::path::Path;

use super::wishes::{Wishes, installation_beside};
use crate::machine::{Display, Guest, Machine};
use crate::units::quoted_file;

/// Writes it. `setup`: the CD of the installation.
pub(super) fn write(wishes: &Wishes, machine: &Machine, setup: &Path, path: &Path) -> String {
    let base = path.file_name().unwrap_or_default().to_string_lossy();
    let own = installation_beside(path);
    let own = quoted_file(Path::new(own.file_name().unwrap_or_default()));
    let windows = wishes.guest.is_windows();
    let mut text = format!(
        "// To install the guest of {base}: `vfio-run {own}`. It is the same machine, with CDs and an emulated screen.\n\
         // When it is installed, start {base} in place of this file.\n(\n    base: {base:?},\n"
    );
    if windows && wishes.drivers.is_some() {
        let drivers = "// Install the drivers of the second CD (virtio-win-guest-tools) before the first start without this file.\n";
        text.insert_str(text.rfind("(\n").unwrap_or(0), drivers);
    }
    let mut line = |words: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "    {words}");
    };
    if let (true, Some(_), None) = (windows, &wishes.drivers, machine.disks.first().and_then(|disk| disk.bus)) {
        let system = if wishes.guest == Guest::Windows11 { "w11" } else { "w10" };
        line(&format!(
            "// Windows' setup sees the disk after `Load driver`, folder `viostor\\{system}\\amd64` of the second CD."
        ));
    }
    let cds = std::iter::once(setup).chain(wishes.drivers.as_deref());
    let cds: Vec<String> = cds
        .map(|cd| {
            // A CD's image with another ending is one nevertheless.
            let media = if cd.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("iso")) {
                ""
            } else {
                ", media: Cd"
            };
            format!("(file: {:?}{media})", cd.display().to_string())
        })
        .collect();
    line(&format!("disks: [Base, {}],", cds.join(", ")));
    if windows && machine.networks.is_none() {
        line("// Setup has a driver for this card.");
        line("networks: [(model: E1000e)],");
    }
    if !machine.pci.is_empty() {
        line(match &wishes.display {
            Display::Vnc(_) => "display: Vnc,",
            _ => "display: Spice,",
        });
        line("pci: [],");
        if machine.input.is_some() {
            line("input: None,");
        }
        if machine.give_back_unless.is_some() {
            line("give_back_unless: None,");
        }
    }
    line(match windows {
        true => "// \"Press any key to boot from CD\": this many seconds for the way to the key.",
        false => "// Seconds for the key of the firmware's boot menu, which has the CD.",
    });
    line("boot_menu: 5,");
    text.push_str(")\n");
    text
}
