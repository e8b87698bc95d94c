//! Resize a memory range of a function that has no driver (Resizable BAR).
//! Source: `Documentation/ABI/testing/sysfs-bus-pci`, `resourceN_resize`: the file reads as the sizes that there are and
//! takes the number of one of them, bit *n* for 2^(*n*+20) bytes; what size it has is in `resource`.

use std::path::PathBuf;

use crate::change::attribute::write_bounded;
use crate::change::host::write::read;
use crate::change::{Before, ChangeError, Undone};
use crate::host::Root;
use crate::units::{PciAddress, Size};

/// Its size.
pub(in crate::change) fn capture(root: &Root, address: PciAddress, bar: usize) -> Result<Before, ChangeError> {
    size(root, address, bar).map(Before::Size)
}

/// Gives it this size.
pub(in crate::change) fn apply(root: &Root, address: PciAddress, bar: usize, wanted: Size) -> Result<(), ChangeError> {
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
pub(in crate::change) fn undo(
    root: &Root,
    address: PciAddress,
    bar: usize,
    ours: Size,
    old: Size,
) -> Result<Undone, ChangeError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Size = Size::bytes(256 * Size::MIB);
    const LARGE: Size = Size::bytes(16 * Size::GIB);

    struct Card(tempfile::TempDir);

    impl Card {
        /// A card whose second range has this size; the kernel that would resize it is not there.
        fn of(size: Size) -> Self {
            let card = Self(tempfile::tempdir().unwrap());
            std::fs::create_dir_all(card.path("")).unwrap();
            card.has(size);
            card
        }

        fn has(&self, size: Size) {
            let end = 0x60_0000_0000 + size.as_bytes() - 1;
            let text = format!("0x80000000 0x80ffffff 0x40200\n0x6000000000 {end:#x} 0x14220c\n0x0 0x0 0x0\n");
            std::fs::write(self.path("resource"), text).unwrap();
            std::fs::write(self.path("resource1_resize"), "").unwrap();
        }

        fn path(&self, name: &str) -> PathBuf {
            Root::new(self.0.path()).path(folder(Self::address())).join(name)
        }

        fn address() -> PciAddress {
            "01:00.0".parse().unwrap()
        }

        fn root(&self) -> Root {
            Root::new(self.0.path())
        }

        fn written(&self) -> String {
            std::fs::read_to_string(self.path("resource1_resize")).unwrap()
        }

        fn undo(&self) -> Result<Undone, ChangeError> {
            undo(&self.root(), Self::address(), 1, LARGE, SMALL)
        }
    }

    #[test]
    fn a_range_is_asked_for_by_the_number_of_its_size_and_read_back() {
        let card = Card::of(SMALL);
        assert_eq!(capture(&card.root(), Card::address(), 1).unwrap(), Before::Size(SMALL));
        let error = apply(&card.root(), Card::address(), 1, LARGE).unwrap_err();
        assert!(matches!(error, ChangeError::NotTaken { .. }), "{error}");
        assert_eq!(card.written(), "14");
        card.has(LARGE);
        apply(&card.root(), Card::address(), 1, LARGE).unwrap();
        assert_eq!(card.written(), "", "it has its size");
        assert!(capture(&card.root(), Card::address(), 7).is_err(), "there is no such range");
    }

    #[test]
    fn only_the_size_that_is_ours_is_taken_back() {
        let card = Card::of(SMALL);
        assert_eq!(card.undo().unwrap(), Undone::AlreadyBack);
        let other = Size::bytes(8 * Size::GIB);
        card.has(other);
        assert_eq!(card.undo().unwrap(), Undone::NotOurs { found: other.to_string() });
        card.has(LARGE);
        let error = card.undo().unwrap_err();
        assert!(matches!(error, ChangeError::NotTaken { .. }), "{error}");
        assert_eq!(card.written(), "8");
        std::fs::remove_dir_all(card.path("")).unwrap();
        assert!(matches!(card.undo().unwrap(), Undone::NotOurs { .. }), "a card that was taken out");
    }
}
