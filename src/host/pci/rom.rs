//! What an expansion ROM file holds. Source: PCI Firmware Specification 3.0, chapter 5.1.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::host::Root;
use crate::trusted;
use crate::units::PciIds;

/// The largest expansion ROM that a device can have is 16 MiB.
const MAX_ROM: usize = 16 << 20;
/// Dumps made under Windows carry a header of their own before the ROM; none seen is longer.
const MAX_HEADER: usize = 64 << 10;
/// Makers write it into a ROM that serves several cards.
const ANY_DEVICE: u16 = 0xffff;
/// More images than a ROM holds.
const MAX_IMAGES: usize = 16;

/// What a ROM file holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rom {
    /// Size of the file.
    pub length: u64,
    /// Bytes before the first image; QEMU wants none. `None`: there is no image at all.
    pub offset: Option<u64>,
    /// The images.
    pub images: Vec<Image>,
    /// How many bytes of its images the file lacks, by the lengths that they say.
    #[serde(default)]
    pub missing: u64,
    /// Whether an image says that another follows, and none does.
    #[serde(default)]
    pub unended: bool,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The device that it is for.
    pub ids: PciIds,
    /// 0: for a BIOS; 3: for UEFI.
    pub code_type: u8,
}

impl Rom {
    /// Whether an image is for this device; one for device `ffff` is for all of its vendor's.
    pub fn is_for(&self, ids: PciIds) -> bool {
        self.images
            .iter()
            .any(|image| image.ids == ids || image.ids.vendor == ids.vendor && image.ids.device == ANY_DEVICE)
    }

    /// Whether UEFI finds a driver in it.
    pub fn has_uefi(&self) -> bool {
        self.images.iter().any(|image| image.code_type == 3)
    }
}

/// Reads a ROM file; `None` if it can't be read.
pub(super) fn read(root: &Root, path: &Path) -> Option<Rom> {
    use std::io::Read as _;
    let file = trusted::open_data(&root.path(path)).ok()?;
    let mut bytes = Vec::new();
    file.take(MAX_ROM as u64).read_to_end(&mut bytes).ok()?;
    Some(parse(&bytes))
}

fn parse(bytes: &[u8]) -> Rom {
    let mut rom = Rom { length: bytes.len() as u64, ..Rom::default() };
    let starts = bytes.windows(2).take(MAX_HEADER).enumerate().filter(|(_, two)| *two == [0x55, 0xaa]);
    let Some(start) = starts.map(|(at, _)| at).find(|at| image(&bytes[*at..]).is_some()) else { return rom };
    rom.offset = Some(start as u64);
    let mut rest = &bytes[start..];
    rom.unended = true;
    while let Some((found, length, last)) = image(rest) {
        rom.images.push(found);
        rom.missing = length.saturating_sub(rest.len()) as u64;
        rom.unended = !last;
        if last || length == 0 || rom.images.len() == MAX_IMAGES {
            break;
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    rom
}

/// The image at the beginning of these bytes, its length, and whether it is the last.
fn image(bytes: &[u8]) -> Option<(Image, usize, bool)> {
    let word = |at: usize| Some(u16::from_le_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    if bytes.get(..2)? != [0x55, 0xaa] {
        return None;
    }
    let data = usize::from(word(0x18)?);
    if bytes.get(data..data + 4)? != b"PCIR" {
        return None;
    }
    let ids = PciIds { vendor: word(data + 4)?, device: word(data + 6)? };
    let (length, code_type, indicator) =
        (usize::from(word(data + 0x10)?) * 512, *bytes.get(data + 0x14)?, *bytes.get(data + 0x15)?);
    Some((Image { ids, code_type }, length, indicator & 0x80 != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image_bytes(device: u16, code_type: u8, last: bool) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        bytes[..2].copy_from_slice(&[0x55, 0xaa]);
        bytes[0x18] = 0x1c;
        bytes[0x1c..0x20].copy_from_slice(b"PCIR");
        bytes[0x20..0x22].copy_from_slice(&0x10deu16.to_le_bytes());
        bytes[0x22..0x24].copy_from_slice(&device.to_le_bytes());
        bytes[0x2c] = 1;
        bytes[0x30] = code_type;
        bytes[0x31] = if last { 0x80 } else { 0 };
        bytes
    }

    #[test]
    fn finds_all_images_behind_a_header() {
        let mut bytes = vec![0x55; 1024];
        bytes.extend(image_bytes(0x2684, 0, false));
        bytes.extend(image_bytes(0x2684, 3, true));
        let rom = parse(&bytes);
        assert_eq!((rom.offset, rom.images.len(), rom.has_uefi()), (Some(1024), 2, true));
        assert_eq!(rom.images[0].ids.to_string(), "10de:2684");
    }

    #[test]
    fn what_a_file_lacks_of_its_images_is_seen() {
        let bytes = [image_bytes(1, 0, false), image_bytes(1, 3, true)].concat();
        let judged = |bytes: &[u8]| {
            let rom = parse(bytes);
            (rom.images.len(), rom.missing, rom.unended)
        };
        assert_eq!(judged(&bytes), (2, 0, false));
        assert_eq!(judged(&bytes[..600]), (2, 424, false));
        // What stands behind the last image is no matter: cards fill their memory up.
        assert_eq!(judged(&[bytes.clone(), vec![0xff; 100]].concat()), (2, 0, false));
        assert_eq!(judged(&bytes[..512]), (1, 0, true));
        assert_eq!(judged(&bytes[..520]), (1, 0, true));
    }

    #[test]
    fn a_rom_for_any_device_is_for_all_of_its_vendor() {
        let rom = parse(&image_bytes(0xffff, 3, true));
        assert!(rom.is_for("10de:2684".parse().unwrap()));
        assert!(!rom.is_for("1002:2684".parse().unwrap()));
    }

    #[test]
    fn only_a_file_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("rom"), image_bytes(1, 0, true)).unwrap();
        nix::unistd::mkfifo(&folder.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let root = Root::new(folder.path());
        assert_eq!(read(&root, Path::new("/rom")).unwrap().images.len(), 1);
        assert_eq!(read(&root, Path::new("/fifo")), None);
        assert_eq!(read(&Root::new("/"), Path::new("/dev/zero")), None);
    }

    #[test]
    fn what_is_no_rom_has_no_image() {
        for bytes in [&[][..], &[0x55], &[0x55, 0xaa], &[0x55, 0xaa, 0, 0], &[0xff; 4096]] {
            assert_eq!(parse(bytes).offset, None);
        }
        let mut torn = image_bytes(1, 0, false);
        torn.truncate(0x30);
        assert_eq!(parse(&torn).images, []);
    }
}
