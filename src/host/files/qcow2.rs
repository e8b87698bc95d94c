//! The files that a qcow2 image names in its header: the image that it is based on, and the file that its data is in
//! (QEMU `docs/interop/qcow2.txt`).

use std::ffi::OsStr;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::trusted;

/// What a qcow2 image needs beside itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Qcow2 {
    /// The image that it is based on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backing: Option<Backing>,
    /// The file with its data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_file: Option<Named>,
}

/// The image that another is based on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backing {
    /// Its name.
    pub file: Named,
    /// QEMU's name of its format, if the header has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
}

/// A file as an image names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Named {
    /// Its path, made absolute as QEMU does: from the folder of the image's own path.
    File(PathBuf),
    /// What is no file to QEMU: `nbd://…`, `json:…`.
    Other(String),
}

impl Named {
    /// The path, if it is a file.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Other(_) => None,
        }
    }
}

/// The magic number at the beginning.
pub(super) const MAGIC: [u8; 4] = *b"QFI\xfb";
/// The header is in the first cluster, which has up to 2 MiB. What is named stands right behind the header in every image that
/// QEMU makes.
const LIMIT: u64 = 64 << 10;
/// QEMU's own limit for the name of the backing file.
const MAX_NAME: u32 = 1023;
/// The incompatible feature "external data file".
const EXTERNAL_DATA: u64 = 1 << 2;
/// Header extensions: the format of the backing file, the name of the data file.
const BACKING_FORMAT: u32 = 0xe279_2aca;
const DATA_FILE: u32 = 0x4441_5441;

/// What the image at `full` needs, whose path on the host is `path`. `None` if its header cannot be read.
pub(super) fn read(path: &Path, full: &Path) -> Option<Qcow2> {
    let mut header = Vec::new();
    trusted::open_data(full).ok()?.take(LIMIT).read_to_end(&mut header).ok()?;
    parse(path, &header)
}

fn parse(path: &Path, header: &[u8]) -> Option<Qcow2> {
    let word = |at: usize| Some(u32::from_be_bytes(header.get(at..at + 4)?.try_into().ok()?));
    let long = |at: usize| Some(u64::from_be_bytes(header.get(at..at + 8)?.try_into().ok()?));
    if !header.starts_with(&MAGIC) {
        return None;
    }
    let version = word(4)?;
    let (features, mut at) = if version >= 3 { (long(72)?, word(100)? as usize) } else { (0, 72) };
    let (mut format, mut data_file) = (None, None);
    let (offset, length) = (long(8)?, word(16)?);
    let end = if offset == 0 { header.len() } else { usize::try_from(offset).ok()?.min(header.len()) };
    while at + 8 <= end {
        let (kind, length) = (word(at)?, word(at + 4)? as usize);
        let Some(value) = header.get(at + 8..(at + 8).checked_add(length)?) else { break };
        match kind {
            0 => break,
            BACKING_FORMAT => format = Some(String::from_utf8_lossy(value).into_owned()),
            DATA_FILE => data_file = Some(named(path, value)),
            _ => {}
        }
        at = (at + 8).checked_add(length.checked_next_multiple_of(8)?)?;
    }
    let backing = match offset {
        0 => None,
        _ if length > MAX_NAME => return None,
        _ => {
            let start = usize::try_from(offset).ok()?;
            let name = header.get(start..start.checked_add(length as usize)?)?;
            Some(Backing { file: named(path, name), format })
        }
    };
    let data_file = if features & EXTERNAL_DATA == 0 { None } else { Some(data_file?) };
    Some(Qcow2 { backing, data_file })
}

/// As QEMU reads a name (`path_has_protocol`, `path_combine` in `block.c`).
fn named(image: &Path, name: &[u8]) -> Named {
    let until = name.iter().position(|byte| matches!(byte, b':' | b'/'));
    if until.is_some_and(|at| name[at] == b':') {
        return Named::Other(String::from_utf8_lossy(name).into_owned());
    }
    Named::File(image.parent().unwrap_or(Path::new("/")).join(OsStr::from_bytes(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(backing: &[u8], extensions: &[(u32, &[u8])], features: u64) -> Vec<u8> {
        let mut header = vec![0; 104];
        header[..4].copy_from_slice(&MAGIC);
        header[4..8].copy_from_slice(&3_u32.to_be_bytes());
        header[72..80].copy_from_slice(&features.to_be_bytes());
        header[100..104].copy_from_slice(&104_u32.to_be_bytes());
        for (kind, value) in extensions {
            header.extend(kind.to_be_bytes());
            header.extend((value.len() as u32).to_be_bytes());
            header.extend(*value);
            header.resize(header.len().next_multiple_of(8), 0);
        }
        header.extend([0; 8]);
        if !backing.is_empty() {
            let at = header.len() as u64;
            header[8..16].copy_from_slice(&at.to_be_bytes());
            header[16..20].copy_from_slice(&(backing.len() as u32).to_be_bytes());
            header.extend(backing);
        }
        header
    }

    #[test]
    fn what_an_image_is_based_on_is_read_as_qemu_reads_it() {
        let path = Path::new("/vm/top.qcow2");
        let parsed =
            |name: &[u8], extensions: &[(u32, &[u8])], features| parse(path, &image(name, extensions, features));
        assert_eq!(parsed(b"", &[], 0), Some(Qcow2::default()));
        let of = |file, format: Option<&str>| {
            let backing = Some(Backing { file, format: format.map(str::to_owned) });
            Some(Qcow2 { backing, data_file: None })
        };
        let (base, raw) = (Named::File("/vm/base.raw".into()), [(BACKING_FORMAT, b"raw".as_slice())]);
        assert_eq!(parsed(b"base.raw", &raw, 0), of(base.clone(), Some("raw")));
        assert_eq!(parsed(b"base.raw", &[(0x1234, b"?"), raw[0]], 0), of(base.clone(), Some("raw")));
        assert_eq!(parsed(b"base.raw", &[], 0), of(base, None));
        assert_eq!(parsed(b"/b:c", &[], 0), of(Named::File("/b:c".into()), None));
        for other in ["nbd://host/disk", "json:{\"driver\": \"raw\"}"] {
            assert_eq!(parsed(other.as_bytes(), &[], 0), of(Named::Other(other.to_owned()), None));
        }
        let data = [(DATA_FILE, b"x.data".as_slice())];
        let file = Named::File("/vm/x.data".into());
        assert_eq!(parsed(b"", &data, EXTERNAL_DATA).unwrap().data_file, Some(file));
        assert_eq!(parsed(b"", &data, 0).unwrap().data_file, None);
    }

    #[test]
    fn a_broken_header_says_nothing_and_breaks_nothing() {
        let whole = image(b"base.raw", &[(BACKING_FORMAT, b"raw"), (DATA_FILE, b"x")], EXTERNAL_DATA);
        for cut in 0..whole.len() {
            assert_eq!(parse(Path::new("/a"), &whole[..cut]), None, "{cut}");
        }
        let mut seed = 1_u64;
        for _ in 0..100_000 {
            let mut broken = whole.clone();
            for _ in 0..4 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (seed >> 33) as usize % (broken.len() - 4);
                broken[4 + at] = (seed >> 56) as u8;
            }
            drop(parse(Path::new("/a"), &broken));
        }
    }
}
