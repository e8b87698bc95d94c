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
    /// Take the next smaller one that the function can have if the bridge above it has no room for this size.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub or_less: bool,
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

    fn apply(&self, root: &Root, before: &FoundSize, _: Progress<'_>) -> Result<(), ChangeError> {
        if !self.or_less {
            return Ok(self.resize(root, self.size)?);
        }
        let sizes = self.offered(root)?.into_iter().rev().filter(|size| *size <= self.size && *size > before.size);
        match first_that_fits(sizes, |size| self.resize(root, size))? {
            Some(size) if size == self.size => {}
            size => tracing::info!(
                "BAR {} of {} is {} large: the bridge above it has no room for more",
                self.bar,
                self.address,
                size.unwrap_or(before.size)
            ),
        }
        Ok(())
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
        if found != self.size && !(self.or_less && *old < found && found < self.size) {
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
        write!(f, "make BAR {} of {} {} large", self.bar, self.address, self.size)?;
        if self.or_less { f.write_str(", or as large as its bridge has room for") } else { Ok(()) }
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

    /// The sizes that the function can have, smallest first.
    fn offered(&self, root: &Root) -> Result<Vec<Size>, FileError> {
        let path = folder(self.address).join(format!("resource{}_resize", self.bar));
        let text = read(root, &path)?;
        let sizes = u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or_default();
        Ok((0..44u32).filter(|bit| sizes >> bit & 1 == 1).map(|bit| Size::bytes(1 << (bit + 20))).collect())
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

/// The first size that the kernel finds room for.
fn first_that_fits(
    sizes: impl Iterator<Item = Size>,
    mut resize: impl FnMut(Size) -> Result<(), FileError>,
) -> Result<Option<Size>, FileError> {
    for size in sizes {
        match resize(size) {
            Err(error) if error.errno() == Some(libc::ENOSPC) => {}
            other => return other.map(|()| Some(size)),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::change::step::unattended;

    const SMALL: Size = Size::bytes(256 * Size::MIB);
    const LARGE: Size = Size::bytes(16 * Size::GIB);

    fn enlarge() -> ResizeBar {
        ResizeBar { address: Card::address(), bar: 1, size: LARGE, or_less: false }
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
    fn the_largest_size_that_the_bridge_has_room_for_is_taken_and_given_back() {
        let full = |size: Size| {
            let error = std::io::Error::from_raw_os_error(libc::ENOSPC);
            if size > Size::bytes(2 * Size::GIB) {
                Err(FileError::io("write", Path::new("resource1_resize"))(error))
            } else {
                Ok(())
            }
        };
        let sizes = [16, 8, 4, 2, 1].map(|n| Size::bytes(n * Size::GIB));
        assert_eq!(first_that_fits(sizes.into_iter(), full).unwrap(), Some(sizes[3]));
        assert_eq!(first_that_fits(sizes[..2].iter().copied(), full).unwrap(), None);
        let refused = |_| Err(FileError::io("write", Path::new("x"))(std::io::Error::from_raw_os_error(libc::EBUSY)));
        assert!(first_that_fits(sizes.into_iter(), refused).is_err());

        let card = Card::of(Size::bytes(2 * Size::GIB));
        let max = ResizeBar { or_less: true, ..enlarge() };
        assert!(max.to_string().ends_with("16 GiB large, or as large as its bridge has room for"));
        std::fs::write(card.path("resource1_resize"), "0000000000007f00\n").unwrap();
        assert_eq!(max.offered(&card.root()).unwrap().len(), 7);
        // It is ours, so it is put back; this kernel does not do it.
        assert!(max.undo(&card.root(), &FoundSize { size: SMALL }).is_err());
        assert_eq!(card.written(), "8");
        let exact = enlarge().undo(&card.root(), &FoundSize { size: SMALL }).unwrap();
        assert!(matches!(exact, Undone::NotOurs { .. }));
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
