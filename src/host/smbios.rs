//! The host's SMBIOS tables (DMTF DSP0134, chapter 6): which structures there are, and one of them. They have serial numbers
//! and the host's UUID, so the kernel shows them to root alone.

use std::collections::BTreeSet;
use std::io;

use super::Root;

/// Where the kernel shows them (`drivers/firmware/dmi_scan.c`).
const TABLES: &str = "/sys/firmware/dmi/tables/DMI";
/// More than any board has.
const LIMIT: usize = 1 << 20;
/// Type, length and handle begin each structure.
const HEADER: usize = 4;
/// The type of the last structure.
const END: u8 = 127;

/// The types of the structures; `None` if they cannot be read.
pub(super) fn types(root: &Root) -> Option<BTreeSet<u8>> {
    let bytes = root.bytes(TABLES, LIMIT).ok()?;
    Some(split(&bytes).map(|structure| structure[0]).collect())
}

/// The first structure of a type: its formatted part, its strings, and the two NULs at their end.
pub fn structure(root: &Root, wanted: u8) -> io::Result<Vec<u8>> {
    let bytes = root.bytes(TABLES, LIMIT)?;
    let found = split(&bytes).find(|structure| structure[0] == wanted);
    found.map(<[u8]>::to_vec).ok_or_else(|| io::Error::other(format!("{TABLES} has no structure of type {wanted}")))
}

/// The structures up to the last, or up to one that is not whole.
fn split(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let formatted = usize::from(*bytes.get(1)?);
        if bytes[0] == END || formatted < HEADER {
            return None;
        }
        let strings = bytes.get(formatted..)?;
        let end = formatted + strings.windows(2).position(|pair| pair == [0, 0])? + 2;
        let (structure, rest) = bytes.split_at(end);
        bytes = rest;
        Some(structure)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_told_apart_and_half_ones_are_left() {
        let bios = b"\x00\x06\x01\x00\x01\x02ACME\x00F20\x00\x00";
        let bare = b"\x20\x05\x02\x00\x07\x00\x00";
        let system = b"\x01\x05\x03\x00\x01one\x00\x00";
        let all = [&bios[..], bare, system, b"\x7f\x04\xff\xff\x00\x00", b"\x02\x04\x09\x09\x00\x00"].concat();
        assert_eq!(split(&all).collect::<Vec<_>>(), [&bios[..], bare, system]);
        for cut in 0..all.len() {
            for structure in split(&all[..cut]) {
                assert!(structure.ends_with(&[0, 0]));
            }
        }
        assert_eq!(split(&[0, 3, 0, 0, 0, 0]).count(), 0, "shorter than its header");
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        assert_eq!(types(&root), None);
        std::fs::create_dir_all(folder.path().join("sys/firmware/dmi/tables")).unwrap();
        std::fs::write(root.path(TABLES), &all).unwrap();
        assert_eq!(types(&root), Some(BTreeSet::from([0, 1, 0x20])));
        assert_eq!(structure(&root, 1).unwrap(), system);
        assert!(structure(&root, 2).unwrap_err().to_string().ends_with("has no structure of type 2"));
    }
}
