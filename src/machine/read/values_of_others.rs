//! What people write for a value who come from other programs, or who expect a switch: `tpm: true`, `bus: "scsi"`.

use crate::machine::subjects::display::FIRST_VNC;
use crate::units::PciAddress;

/// The field, its path without places in lists; what is written, in lower case and without quotes; and what is meant.
/// Nothing: the field is left out.
const VALUES: &[(&str, &[&str], &str)] = &[
    ("audio", &["true", "on", "ich9", "hda"], "Auto"),
    ("audio", &["false", "off"], "None"),
    ("cpu.pin", &["all", "auto"], ""),
    ("disks.bus", &["scsi", "virtio-scsi"], "VirtioScsi"),
    ("disks.bus", &["ide", "ahci"], "Sata"),
    ("disks.bus", &["virtio", "virtio-blk"], "VirtioBlk"),
    ("disks.cache", &["none"], "None"),
    ("display", &["false", "off"], "None"),
    ("guest", &["win11", "windows_11", "windows"], "Windows11"),
    ("guest", &["win10", "windows_10"], "Windows10"),
    ("firmware", &["ovmf", "edk2", "efi"], "Uefi"),
    ("firmware", &["legacy", "seabios", "csm"], "Bios"),
    ("input", &["true", "auto", "evdev"], "Auto"),
    ("input", &["false"], ""),
    ("memory.pages", &["true", "on"], "Auto"),
    ("memory.pages", &["false", "off"], "Normal"),
    ("networks.backend", &["slirp"], "Slirp"),
    ("pci.rebar", &["true", "on", "auto"], "Max"),
    ("pci.rebar", &["false", "off"], ""),
    ("serial", &["true", "pty", "stdio"], "Console"),
    ("serial", &["false"], "None"),
    ("smbios", &["true"], "Host"),
    ("smbios", &["false"], "Qemu"),
    ("tpm", &["true", "2", "2.0", "v2.0", "emulator", "swtpm"], "V2"),
    ("tpm", &["false"], "None"),
    ("video", &["vga", "bochs", "bochs-display"], "Std"),
    ("video", &["false", "off"], "None"),
    ("vsock", &["true"], "Auto"),
    ("vsock", &["false"], "None"),
];

/// What to write in place of a value; `field` is its path.
pub(super) fn in_place_of(written: &str, field: &str) -> Option<String> {
    let field: String = field.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).collect();
    let written = written.trim_matches('"').to_lowercase();
    let (_, _, meant) = VALUES.iter().find(|(its, words, _)| *its == field && words.contains(&written.as_str()))?;
    let name = field.rsplit('.').next().unwrap_or(&field);
    Some(match *meant {
        "" => "leave it out".to_owned(),
        meant => format!("write `{name}: {meant}`"),
    })
}

/// What to write for a card that is named by its ids in place of its address.
pub(super) fn ids(written: &str, field: &str) -> Option<String> {
    let ids = written.trim_matches('"');
    let (vendor, device) = ids.split_once(':').filter(|_| field.starts_with("pci["))?;
    let is_half = |half: &str| half.len() == 4 && half.bytes().all(|c| c.is_ascii_hexdigit());
    (is_half(vendor) && is_half(device)).then(|| {
        format!(
            "these are ids, of which a host can have several: write `(address: \"01:00.*\", expect: \"{ids}\")` with the \
             address that `vfio-run devices` shows"
        )
    })
}

/// What to write for a function of which the path in sysfs is given.
pub(super) fn address(written: &str, field: &str) -> Option<String> {
    let (_, name) =
        written.trim_matches('"').trim_end_matches('/').rsplit_once('/').filter(|_| field.starts_with("pci["))?;
    let address: PciAddress = name.parse().ok()?;
    let address = address.to_string();
    Some(format!("write `{:?}`", address.strip_prefix("0000:").unwrap_or(&address)))
}

/// What to write for a screen that is named as QEMU's `-vnc` has it, by a number that counts from port 5900: `":0"`.
pub(super) fn port(written: &str, variant: &str, field: &str) -> Option<String> {
    let (_, number) = written.trim_matches('"').rsplit_once(':').filter(|_| field == "display")?;
    let number: u16 = number.parse().ok()?;
    let port = if variant == "Vnc" && number < FIRST_VNC { number.checked_add(FIRST_VNC)? } else { number };
    Some(format!("write `{variant}(port: {port})`"))
}

/// A time with its unit as a number of seconds: `"3 min"`.
pub(super) fn seconds(written: &str) -> Option<u32> {
    let text = written.trim_matches('"').trim();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let unit = match unit.trim() {
        "s" | "sec" | "second" | "seconds" => 1,
        "m" | "min" | "minute" | "minutes" => 60,
        "h" | "hour" | "hours" => 3600,
        _ => return None,
    };
    number.parse::<u32>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::schema::Fields;

    #[test]
    fn what_is_meant_is_a_value_of_the_field() {
        let fields = Fields::of_machine();
        for (field, words, meant) in VALUES {
            let takes = fields.takes(field).unwrap_or_default();
            assert!(meant.is_empty() || takes.contains(&format!("`{meant}")), "{field}: {meant} is not in {takes}");
            assert!(words.iter().all(|word| *word == word.to_lowercase()), "{words:?}");
        }
        assert_eq!(in_place_of("\"SCSI\"", "disks[3].bus").as_deref(), Some("write `bus: VirtioScsi`"));
        assert_eq!(in_place_of("all", "cpu.pin").as_deref(), Some("leave it out"));
        assert_eq!(in_place_of("nonsense", "tpm"), None);
    }
}
