//! Reading and writing attributes: files below /sys and /proc that are read whole and written with one call.

use std::io::Write as _;
use std::path::Path;

use super::error::FileError;
use crate::host::Root;

/// A file's text without white space at its ends; unlike [`Root::text`] it says why it could not be read.
pub(super) fn read(root: &Root, path: &Path) -> Result<String, FileError> {
    let bytes = std::fs::read(root.path(path)).map_err(FileError::io("read", path))?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// One write call, as sysfs wants it; never creates the file.
pub(super) fn write(root: &Root, path: &Path, value: &str) -> Result<(), FileError> {
    let failed = FileError::io("write", path);
    // `truncate` is what makes a regular file of a fake root behave like an attribute.
    let mut file = std::fs::OpenOptions::new().write(true).truncate(true).open(root.path(path)).map_err(&failed)?;
    file.write_all(value.as_bytes()).map_err(&failed)
}
