//! Memory ranges of a function (base address registers), from its `resource` file.

use serde::{Deserialize, Serialize};

use super::sysfs::folder;
use crate::host::Root;
use crate::units::{PciAddress, Size};

/// `IORESOURCE_MEM` and its companions (`include/linux/ioport.h`).
const MEMORY: u64 = 0x200;
const PREFETCH: u64 = 0x2000;
const WIDE: u64 = 0x0010_0000;
/// The line of `resource` that is the expansion ROM.
const ROM: usize = 6;

/// One range of a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bar {
    /// Its number, 0 to 5.
    pub index: usize,
    /// Where it begins, in memory or I/O space.
    pub start: u64,
    /// How large it is.
    pub size: Size,
    /// In memory; else in I/O space.
    pub memory: bool,
    /// Its address has 64 bits.
    pub wide: bool,
    /// May be read ahead.
    pub prefetch: bool,
}

impl Bar {
    /// Its last address.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.size.as_bytes().saturating_sub(1))
    }
}

/// The ranges that are in use, and the size of the expansion ROM's.
pub(super) fn bars(root: &Root, folder: &str) -> (Vec<Bar>, Option<Size>) {
    let text = root.text_up_to(format!("{folder}/resource"), 8192).unwrap_or_default();
    let (mut bars, mut rom) = (Vec::new(), None);
    for (index, line) in text.lines().take(ROM + 1).enumerate() {
        let mut numbers = line.split_ascii_whitespace().map(hex);
        let (Some(Some(start)), Some(Some(end)), Some(Some(flags))) = (numbers.next(), numbers.next(), numbers.next())
        else {
            continue;
        };
        let Some(size) = end.checked_sub(start).and_then(|n| n.checked_add(1)).filter(|_| end > 0) else { continue };
        if index == ROM {
            rom = Some(Size::bytes(size));
            continue;
        }
        let has = |flag| flags & flag != 0;
        let (memory, wide, prefetch) = (has(MEMORY), has(WIDE), has(PREFETCH));
        bars.push(Bar { index, start, size: Size::bytes(size), memory, wide, prefetch });
    }
    (bars, rom)
}

/// How much of the configuration space every user may read: the standard header.
const HEADER: usize = 64;

/// The standard header of the function's configuration space, shorter if it is cut off; `None` if it cannot be read, or is
/// empty.
pub(super) fn header(root: &Root, address: PciAddress) -> Option<Vec<u8>> {
    use std::io::Read as _;
    let file = std::fs::File::open(root.path(format!("{}/config", folder(address)))).ok()?;
    let mut bytes = Vec::with_capacity(HEADER);
    file.take(HEADER as u64).read_to_end(&mut bytes).ok()?;
    (!bytes.is_empty()).then_some(bytes)
}

/// Whether the function answers; one whose header reads as ones throughout is dead or without power. The ids alone do not
/// tell, since those of a virtual function are ones (PCI Express Base Specification, SR-IOV, "Vendor ID"); with such a
/// function its physical one must answer too. `None`: the header cannot be read.
pub(crate) fn answers(root: &Root, address: PciAddress) -> Option<bool> {
    let alive = |bytes: &[u8]| bytes.iter().any(|byte| *byte != 0xff);
    let physical = root.link(format!("{}/physfn", folder(address))).and_then(|name| name.parse().ok());
    let physical = physical.and_then(|physical| header(root, physical)).is_none_or(|bytes| alive(&bytes));
    header(root, address).map(|bytes| alive(&bytes) && physical)
}

/// `0x00000000e0000000`.
pub(super) fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_function_without_ids_is_no_dead_one_unless_its_physical_one_is() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let put = |address: &str, bytes: &[u8]| {
            let device = root.path(format!("/sys/bus/pci/devices/{address}"));
            std::fs::create_dir_all(&device).unwrap();
            std::fs::write(device.join("config"), bytes).unwrap();
        };
        let (physical, virtual_one): (PciAddress, PciAddress) =
            ("01:00.0".parse().unwrap(), "01:10.0".parse().unwrap());
        let mut header = [0; 64];
        put("0000:01:00.0", &header);
        header[..4].fill(0xff);
        put("0000:01:10.0", &header);
        assert_eq!(answers(&root, virtual_one), Some(true));
        std::os::unix::fs::symlink("../0000:01:00.0", root.path("/sys/bus/pci/devices/0000:01:10.0/physfn")).unwrap();
        assert_eq!((answers(&root, virtual_one), answers(&root, physical)), (Some(true), Some(true)));
        put("0000:01:00.0", &[0xff; 64]);
        assert_eq!((answers(&root, virtual_one), answers(&root, physical)), (Some(false), Some(false)));
        put("0000:01:00.0", &[]);
        assert_eq!((answers(&root, virtual_one), answers(&root, physical)), (Some(true), None));
    }
}
