//! Which machine uses a device: one locked file for each device, which names the machine.
//!
//! The launcher holds the lock, so the lock ends with the launcher, however that dies. A file that nobody has locked
//! counts only while the machine that it names has a journal: its launcher did not restore the device.

use std::fmt::Display;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use crate::units::run_files;

/// The lease of Looking Glass's memory, into which one guest draws.
pub const LOOKING_GLASS: &str = "looking-glass";

/// The folder of the leases of all of a user's machines, from the folder of their run directories.
pub fn folder(run_dir: &Path) -> PathBuf {
    run_dir.join(".leases")
}

/// The lease of a device in the folder of leases: a PCI function by its address, a USB device by `usb-` and its port.
pub fn path(folder: &Path, device: impl Display) -> PathBuf {
    folder.join(device.to_string())
}

/// The machine whose launcher holds the device's lease.
pub fn holder(folder: &Path, device: impl Display) -> Option<String> {
    let path = path(folder, device);
    let file = File::open(&path).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()),
        _ => None,
    }
}

/// The machine that had the device and did not restore it: its launcher died, or failed to.
pub fn left_by(folder: &Path, device: impl Display) -> Option<String> {
    let path = path(folder, device);
    let file = File::open(&path).ok()?;
    file.try_lock_shared().ok()?;
    let name = std::fs::read_to_string(path).ok()?.trim().to_owned();
    has_journal(folder, &name).then_some(name)
}

/// The machine that has the device, or had it and did not restore it.
pub fn owner(folder: &Path, device: impl Display + Copy) -> Option<String> {
    holder(folder, device).or_else(|| left_by(folder, device))
}

/// Whether the machine's changes to the host may not be undone yet.
pub fn has_journal(folder: &Path, name: &str) -> bool {
    let is_name = !name.is_empty() && !name.starts_with('.') && !name.contains('/');
    is_name && folder.parent().is_some_and(|run_dirs| run_dirs.join(name).join(run_files::JOURNAL).is_file())
}
