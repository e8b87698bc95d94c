//! Resize a memory range of a function that has no driver (Resizable BAR).
//! Source: `Documentation/ABI/testing/sysfs-bus-pci`, `resourceN_resize`: the file reads as the sizes that there are and
//! takes the number of one of them, bit *n* for 2^(*n*+20) bytes; what size it has is in `resource`.

use std::path::PathBuf;

use super::attribute::write_bounded;
use super::write::read;
use super::{Before, ChangeError, Undone};
use crate::host::Root;
use crate::units::{PciAddress, Size};

/// Its size.
pub(super) fn capture(root: &Root, address: PciAddress, bar: usize) -> Result<Before, ChangeError> {
    size(root, address, bar).map(Before::Size)
}

/// Gives it this size.
pub(super) fn apply(root: &Root, address: PciAddress, bar: usize, wanted: Size) -> Result<(), ChangeError> {
    if size(root, address, bar)? == wanted {
        return Ok(());
    }
    let path = folder(address).join(format!("resource{bar}_resize"));
    let bit = wanted.as_bytes().max(Size::MIB).ilog2() - 20;
    write_bounded(root, &path, &bit.to_string())?;
    let found = size(root, address, bar)?;
    match found == wanted {
        true => Ok(()),
        false => Err(ChangeError::NotTaken { path, wanted: wanted.to_string(), found: found.to_string() }),
    }
}

/// Gives it its old size, where it still has ours.
pub(super) fn undo(root: &Root, address: PciAddress, bar: usize, ours: Size, old: Size) -> Result<Undone, ChangeError> {
    if !root.path(folder(address)).exists() {
        return Ok(Undone::NotOurs { found: "no such device".to_owned() });
    }
    let found = size(root, address, bar)?;
    if found == old {
        return Ok(Undone::AlreadyBack);
    }
    if found != ours {
        return Ok(Undone::NotOurs { found: found.to_string() });
    }
    apply(root, address, bar, old)?;
    Ok(Undone::Restored)
}

fn folder(address: PciAddress) -> PathBuf {
    PathBuf::from(format!("/sys/bus/pci/devices/{address}"))
}

fn size(root: &Root, address: PciAddress, bar: usize) -> Result<Size, ChangeError> {
    let path = folder(address).join("resource");
    let text = read(root, &path)?;
    let hex = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok();
    let range = text.lines().nth(bar).and_then(|line| {
        let mut words = line.split_ascii_whitespace().map(hex);
        Some((words.next()??, words.next()??))
    });
    let length = range.and_then(|(start, end)| end.checked_sub(start)?.checked_add(1));
    length.map(Size::bytes).ok_or(ChangeError::NotTaken { path, wanted: format!("a range {bar}"), found: text })
}
