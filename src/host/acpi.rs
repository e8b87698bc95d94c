//! ACPI tables in files: what their header says (ACPI 6.5, 5.2.6), and whether it is true.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Root;

/// More than any table that a board or a person has made.
const LIMIT: usize = 1 << 20;
/// The header that all tables begin with.
const HEADER: usize = 36;

/// What a file says of the ACPI table in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcpiTable {
    /// Its four letters: `SSDT`. `None`: the file does not begin as a table does.
    pub signature: Option<String>,
    /// How long it is by its header, in bytes.
    pub length: u32,
    /// How long the file is, in bytes.
    pub size: u64,
    /// Whether its bytes add up to zero, as its checksum is to make them.
    pub sums_up: bool,
}

impl AcpiTable {
    /// What these bytes say.
    fn of(bytes: &[u8]) -> Self {
        let size = bytes.len() as u64;
        let Some(header) = bytes.get(..HEADER) else { return Self { size, ..Self::default() } };
        let letters = &header[..4];
        let is_signature = letters.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        Self {
            signature: is_signature.then(|| String::from_utf8_lossy(letters).into_owned()),
            length: u32::from_le_bytes([header[4], header[5], header[6], header[7]]),
            size,
            sums_up: bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) == 0,
        }
    }
}

/// The bytes of a file with a table.
pub fn read(root: &Root, path: &Path) -> io::Result<Vec<u8>> {
    root.bytes(path, LIMIT)
}

pub(super) fn look(root: &Root, path: &Path) -> Option<AcpiTable> {
    Some(AcpiTable::of(&read(root, path).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_told_from_junk() {
        let mut table = b"SLIC".to_vec();
        table.extend(40u32.to_le_bytes());
        table.resize(40, 1);
        let sum = table.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        assert!(!AcpiTable::of(&table).sums_up);
        table[9] = table[9].wrapping_sub(sum);
        let told = AcpiTable { signature: Some("SLIC".to_owned()), length: 40, size: 40, sums_up: true };
        assert_eq!(AcpiTable::of(&table), told);
        assert_eq!(AcpiTable::of(&table[..20]).signature, None);
        assert_eq!(AcpiTable::of(&[0x7f; 64]).signature, None);
        let root = Root::new("/");
        assert_eq!(look(&root, Path::new("/nowhere")), None);
        assert_eq!(look(&root, Path::new("/dev/zero")), None);
    }
}
