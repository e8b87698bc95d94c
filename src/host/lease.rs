//! Which machine has a device: a locked file a device, which names the machine.
//!
//! The lock is the launcher's, so it ends with the launcher however that dies. A file that nobody has locked counts only
//! while the machine that it names has a journal: what that machine did to the device was not put back then.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use crate::units::PciAddress;

/// The journal's name in a run directory (`Journal::FILE`).
const JOURNAL: &str = "journal";

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

/// The machine that had the device and has not put it back: its launcher died, or could not.
pub fn left_by(folder: &Path, address: PciAddress) -> Option<String> {
    let path = path(folder, address);
    let file = File::open(&path).ok()?;
    file.try_lock_shared().ok()?;
    let name = std::fs::read_to_string(path).ok()?.trim().to_owned();
    has_journal(folder, &name).then_some(name)
}

/// Whether something that this machine did to the host may stand.
pub fn has_journal(folder: &Path, name: &str) -> bool {
    let is_name = !name.is_empty() && !name.starts_with('.') && !name.contains('/');
    is_name && folder.parent().is_some_and(|run_dirs| run_dirs.join(name).join(JOURNAL).is_file())
}
