//! Write a value to a file under /sys or /proc.

use std::io::Write as _;
use std::path::Path;

use crate::change::attribute::write_bounded;
use crate::change::locks::function_of;
use crate::change::pci::bind_driver::driver;
use crate::change::{Before, ChangeError, Undone};
use crate::host::Root;

/// What the file says.
pub(in crate::change) fn capture(root: &Root, path: &Path) -> Result<Before, ChangeError> {
    read(root, path).map(Before::Text)
}

/// Writes the value and reads it back.
pub(in crate::change) fn apply(root: &Root, path: &Path, value: &str) -> Result<(), ChangeError> {
    // Without a driver it may be a function that an unbind never came back from, and some attributes wait for that.
    match function_of(path).filter(|address| driver(root, *address).is_none()) {
        Some(_) => write_bounded(root, path, value)?,
        None => write(root, path, value)?,
    }
    let found = read(root, path)?;
    if found == value {
        Ok(())
    } else {
        Err(ChangeError::NotTaken { path: path.to_owned(), wanted: value.to_owned(), found })
    }
}

/// Whether the function that this is an attribute of has this driver.
pub(in crate::change) fn is_with(root: &Root, path: &Path, name: &str) -> bool {
    function_of(path).and_then(|address| driver(root, address)).is_some_and(|driver| driver == name)
}

/// Writes what it said before, where it still says ours.
pub(in crate::change) fn undo(root: &Root, path: &Path, ours: &str, old: &str) -> Result<Undone, ChangeError> {
    let found = read(root, path)?;
    if found == old {
        return Ok(Undone::AlreadyBack);
    }
    if found != ours {
        return Ok(Undone::NotOurs { found });
    }
    apply(root, path, old)?;
    Ok(Undone::Restored)
}

/// A file's text without white space at its ends, with an error where `Root::text` says just nothing.
pub(in crate::change) fn read(root: &Root, path: &Path) -> Result<String, ChangeError> {
    match std::fs::read(root.path(path)) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).trim().to_owned()),
        Err(error) => Err(ChangeError::Io { action: "read", path: path.to_owned(), error }),
    }
}

/// One write call, as sysfs wants it; never creates the file.
pub(in crate::change) fn write(root: &Root, path: &Path, value: &str) -> Result<(), ChangeError> {
    let failed = |error| ChangeError::Io { action: "write", path: path.to_owned(), error };
    // `truncate` is what makes a regular file of a fake root behave like an attribute.
    let mut file = std::fs::OpenOptions::new().write(true).truncate(true).open(root.path(path)).map_err(failed)?;
    file.write_all(value.as_bytes()).map_err(failed)
}
