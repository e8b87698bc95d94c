//! A lock that stands as long as its file is open. Whoever holds it may remove the file.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Takes the lock; [`ErrorKind::WouldBlock`] if another process has it, or has just removed the file.
pub(super) fn take(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    let lock =
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)?;
    lock.try_lock().map_err(Error::from)?;
    let ours = lock.metadata()?;
    match std::fs::metadata(path).is_ok_and(|at| (at.dev(), at.ino()) == (ours.dev(), ours.ino())) {
        true => Ok(lock),
        false => Err(ErrorKind::WouldBlock.into()),
    }
}
