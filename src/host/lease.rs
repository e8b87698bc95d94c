//! Which machine has a device: a locked file a device, which names the machine.
//!
//! The lock is the launcher's, so it ends with the launcher however that dies; what is written in the file counts only
//! while somebody holds the lock.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use crate::units::PciAddress;

/// Where the leases of all machines of a user are, given where their run directories are.
pub fn folder(run_dir: &Path) -> PathBuf {
    run_dir.join(".leases")
}

/// The lease of a device in the folder of leases.
pub fn path(folder: &Path, address: PciAddress) -> PathBuf {
    folder.join(address.to_string())
}

/// The machine whose launcher has the device.
pub fn holder(folder: &Path, address: PciAddress) -> Option<String> {
    let path = path(folder, address);
    let file = File::open(&path).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()),
        _ => None,
    }
}
