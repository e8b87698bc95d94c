//! Resize a memory range of a function that has no driver (Resizable BAR).
//! Source: `Documentation/ABI/testing/sysfs-bus-pci`, `resourceN_resize`: the file reads as the sizes that there are and
//! takes the number of one of them, bit *n* for 2^(*n*+20) bytes; what size it has is in `resource`.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::function::{exists, folder, override_of};
use crate::change::attribute::write_bounded;
use crate::change::error::{ChangeError, FileError};
use crate::change::file::read;
use crate::change::record::Undone;
use crate::change::step::{Nature, Observed, Progress, Step};
use crate::host::Root;
use crate::units::{PciAddress, Size};

/// Resize a memory range of a PCI function that has no driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResizeBar {
    /// The function.
    pub address: PciAddress,
    /// Number of the range.
    pub bar: usize,
    /// Its size.
    pub size: Size,
}

/// The size that was found: `{"size": "256 MiB"}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundSize {
    /// The size.
    pub size: Size,
}

impl Step for ResizeBar {
    type Before = FoundSize;

    fn nature(&self) -> Nature {
        Nature::takes(false)
    }

    fn capture(&self, root: &Root) -> Result<FoundSize, ChangeError> {
        Ok(FoundSize { size: self.now(root)? })
    }

    fn apply(&self, root: &Root, _: &FoundSize, _: Progress<'_>) -> Result<(), ChangeError> {
        Ok(self.resize(root, self.size)?)
    }

    /// Gives the range its old size if it still has ours.
    fn undo(&self, root: &Root, FoundSize { size: old }: &FoundSize) -> Result<Undone, ChangeError> {
        if !exists(root, self.address) {
            return Ok(Undone::no_device());
        }
        let found = self.now(root)?;
        if found == *old {
            return Ok(Undone::AlreadyBack);
        }
        if found != self.size {
            return Ok(Undone::NotOurs { found: found.to_string() });
        }
        self.resize(root, *old)?;
        Ok(Undone::Restored)
    }

    fn lock_files(&self, _: &FoundSize) -> Vec<PathBuf> {
        vec![override_of(self.address)]
    }

    fn observe(&self, root: &Root) -> Vec<Observed> {
        let what = format!("{} size of BAR {}", self.address, self.bar);
        self.now(root).map(|size| Observed::new(what, size.as_bytes().to_string())).into_iter().collect()
    }
}

impl fmt::Display for ResizeBar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "make BAR {} of {} {} large", self.bar, self.address, self.size)
    }
}

impl ResizeBar {
    fn resize(&self, root: &Root, wanted: Size) -> Result<(), FileError> {
        if self.now(root)? == wanted {
            return Ok(());
        }
        let path = folder(self.address).join(format!("resource{}_resize", self.bar));
        let bit = wanted.as_bytes().max(Size::MIB).ilog2() - 20;
        write_bounded(root, &path, &bit.to_string())?;
        let found = self.now(root)?;
        match found == wanted {
            true => Ok(()),
            false => Err(FileError::NotTaken { path, wanted: wanted.to_string(), found: found.to_string() }),
        }
    }

    fn now(&self, root: &Root) -> Result<Size, FileError> {
        let path = folder(self.address).join("resource");
        let text = read(root, &path)?;
        let hex = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok();
        let range = text.lines().nth(self.bar).and_then(|line| {
            let mut words = line.split_ascii_whitespace().map(hex);
            Some((words.next()??, words.next()??))
        });
        let length = range.and_then(|(start, end)| end.checked_sub(start)?.checked_add(1));
        length.map(Size::bytes).ok_or(FileError::NotTaken {
            path,
            wanted: format!("a range {}", self.bar),
            found: text,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::step::unattended;

    const SMALL: Size = Size::bytes(256 * Size::MIB);
    const LARGE: Size = Size::bytes(16 * Size::GIB);

    fn enlarge() -> ResizeBar {
        ResizeBar { address: Card::address(), bar: 1, size: LARGE }
    }

    fn apply(card: &Card) -> Result<(), ChangeError> {
        enlarge().apply(&card.root(), &FoundSize { size: SMALL }, &unattended)
    }

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
            enlarge().undo(&self.root(), &FoundSize { size: SMALL })
        }
    }

    #[test]
    fn a_range_is_asked_for_by_the_number_of_its_size_and_read_back() {
        let card = Card::of(SMALL);
        assert_eq!(enlarge().capture(&card.root()).unwrap(), FoundSize { size: SMALL });
        let error = apply(&card).unwrap_err();
        assert!(matches!(error, ChangeError::File(FileError::NotTaken { .. })), "{error}");
        assert_eq!(card.written(), "14");
        card.has(LARGE);
        apply(&card).unwrap();
        assert_eq!(card.written(), "", "it has its size");
        assert!(ResizeBar { bar: 7, ..enlarge() }.capture(&card.root()).is_err(), "there is no such range");
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
        assert!(matches!(error, ChangeError::File(FileError::NotTaken { .. })), "{error}");
        assert_eq!(card.written(), "8");
        std::fs::remove_dir_all(card.path("")).unwrap();
        assert!(matches!(card.undo().unwrap(), Undone::NotOurs { .. }), "a card that was taken out");
    }
}
