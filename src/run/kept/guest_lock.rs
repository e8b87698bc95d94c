//! `guest.lock`: a file in the run directory that is locked for as long as the machine's QEMU runs.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Its name in the run directory.
pub const GUEST_LOCK: &str = "guest.lock";

/// Opens and locks the file. The lock belongs to the open file that QEMU inherits, not to a process, so it stands exactly
/// as long as QEMU runs, even when the launcher dies (flock(2)).
pub(in crate::run) fn take(run: &Path) -> Result<OwnedFd> {
    let path = run.join(GUEST_LOCK);
    let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    file.try_lock().map_err(|e| anyhow::anyhow!("cannot lock {}: {e}", path.display()))?;
    Ok(file.into())
}

/// Whether a QEMU of this machine runs, with or without a launcher.
pub fn guest_lives(run: &Path) -> bool {
    let Ok(file) = File::open(run.join(GUEST_LOCK)) else { return false };
    matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock))
}
