//! Which of Microsoft's certificates a UEFI variable store trusts: those in its `db`.
//!
//! The store is a firmware volume (`EFI_FIRMWARE_VOLUME_HEADER`) with one list of variables in it, each behind an
//! `AUTHENTICATED_VARIABLE_HEADER` (edk2's `MdeModulePkg/Include/Guid/VariableFormat.h`). `db` holds lists of signatures
//! (`EFI_SIGNATURE_LIST`, UEFI specification, 32.4.1), those of one kind being certificates in DER, in which names stand as
//! they are.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// One of Microsoft's certificates, by which it signs boot loaders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Certificate {
    /// `Microsoft Windows Production PCA 2011`: Windows. It expired in October 2026.
    Windows2011,
    /// `Windows UEFI CA 2023`: Windows.
    Windows2023,
    /// `Microsoft Corporation UEFI CA 2011`: the loaders of others, such as Linux distributions'. It expired in June 2026.
    Others2011,
    /// `Microsoft UEFI CA 2023`: the loaders of others.
    Others2023,
}

/// Their subjects' names.
const NAMES: [(Certificate, &[u8]); 4] = [
    (Certificate::Windows2011, b"Microsoft Windows Production PCA 2011"),
    (Certificate::Windows2023, b"Windows UEFI CA 2023"),
    (Certificate::Others2011, b"Microsoft Corporation UEFI CA 2011"),
    (Certificate::Others2023, b"Microsoft UEFI CA 2023"),
];

/// `gEfiAuthenticatedVariableGuid`.
const STORE: [u8; 16] = guid(0xaaf3_2c78, 0x947b, 0x439a, [0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92]);
/// `gEfiImageSecurityDatabaseGuid`.
const DATABASE: [u8; 16] = guid(0xd719_b2cb, 0x3d3a, 0x4596, [0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f]);
/// `gEfiCertX509Guid`.
const X509: [u8; 16] = guid(0xa5c0_59a1, 0x94e4, 0x4aa7, [0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72]);
/// `db` in UTF-16 with its end.
const NAME: [u8; 6] = [b'd', 0, b'b', 0, 0, 0];
/// A store of OVMF's has some 528 KiB.
const MAX_STORE: u64 = 4 << 20;

/// Microsoft's certificates in the `db` of a store; `None` if it is no store in plain bytes.
pub(super) fn certificates(path: &Path) -> Option<Vec<Certificate>> {
    let mut store = Vec::new();
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    file.take(MAX_STORE).read_to_end(&mut store).ok()?;
    let database = variable(&store)?;
    Some(NAMES.into_iter().filter(|(_, name)| trusts(database, name)).map(|(certificate, _)| certificate).collect())
}

/// The data of `db`; empty if the store has none.
fn variable(store: &[u8]) -> Option<&[u8]> {
    const HEADER: usize = 60;
    /// `VAR_ADDED`: the variable counts. With fewer bits it has been deleted, or is about to be, which a power cut leaves.
    const COUNTS: [u8; 2] = [0x3f, 0x3e];
    let volume = usize::from(u16::from_le_bytes(*store.get(48..)?.first_chunk()?));
    if *store.get(volume..)?.first_chunk::<16>()? != STORE {
        return None;
    }
    // Signature, size, format, state and eight bytes that are reserved.
    let mut at = volume + 28;
    while let Some(header) = store.get(at..at + HEADER).filter(|header| header[..2] == [0xaa, 0x55]) {
        let number = |from: usize| header.get(from..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize);
        let (name, data) = (number(36)?, number(40)?);
        let name_at = at + HEADER;
        let data_at = name_at.checked_add(name)?;
        let end = data_at.checked_add(data)?;
        let (name, data) = (store.get(name_at..data_at)?, store.get(data_at..end)?);
        if COUNTS.contains(&header[2]) && header[44..60] == DATABASE && name == NAME {
            return Some(data);
        }
        at = end.next_multiple_of(4);
    }
    Some(&[])
}

/// Whether a certificate in these lists has the name, its own or of who signed it.
fn trusts(mut lists: &[u8], name: &[u8]) -> bool {
    while let Some(length) = lists.get(16..).and_then(|rest| rest.first_chunk()) {
        let length = u32::from_le_bytes(*length) as usize;
        let Some(list) = lists.get(..length).filter(|list| list.len() >= 28) else { return false };
        if list[..16] == X509 && list.windows(name.len()).any(|window| window == name) {
            return true;
        }
        lists = &lists[length..];
    }
    false
}

/// A GUID as UEFI has it in memory.
const fn guid(a: u32, b: u16, c: u16, d: [u8; 8]) -> [u8; 16] {
    let (a, b, c) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes());
    [a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(kind: [u8; 16], text: &str) -> Vec<u8> {
        let length = (28 + text.len()) as u32;
        [&kind[..], &length.to_le_bytes(), &[0; 8], text.as_bytes()].concat()
    }

    fn entry(state: u8, of: [u8; 16], name: &[u8], data: &[u8]) -> Vec<u8> {
        let mut header = vec![0xaa, 0x55, state];
        header.resize(36, 0);
        header.extend((name.len() as u32).to_le_bytes());
        header.extend((data.len() as u32).to_le_bytes());
        header.extend(of);
        let mut entry = [&header, name, data].concat();
        entry.resize(entry.len().next_multiple_of(4), 0xff);
        entry
    }

    fn store(entries: &[Vec<u8>]) -> Vec<u8> {
        let mut store = vec![0; 72];
        store[48] = 72;
        store.extend(STORE);
        store.extend([0; 12]);
        store.extend(entries.concat());
        store.extend([0xff; 64]);
        store
    }

    #[test]
    fn the_certificates_of_db_are_told_and_those_of_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vars.fd");
        let told = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            certificates(&path)
        };
        let new = [list([1; 16], "Microsoft UEFI CA 2023"), list(X509, "x Windows UEFI CA 2023 y")].concat();
        let old = list(X509, "Microsoft Windows Production PCA 2011");
        let deleted = entry(0x3d, DATABASE, &NAME, &new);
        let other = entry(0x3f, [9; 16], &NAME, &new);
        assert_eq!(told(&store(&[deleted.clone(), other.clone()])), Some(vec![]));
        let whole = store(&[deleted, other, entry(0x3f, DATABASE, &NAME, &[old, new].concat())]);
        assert_eq!(told(&whole), Some(vec![Certificate::Windows2011, Certificate::Windows2023]));
        assert_eq!(told(b"QFI\xfb"), None);
        // Whatever it is cut to, it is read or not.
        for length in 0..whole.len() {
            told(&whole[..length]);
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] = 0xfe;
            told(&damaged);
        }
    }
}
