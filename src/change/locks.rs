//! Whether the kernel still lets an undo reach its device.
//!
//! A driver that never comes back from `unbind` keeps its device's lock, and a process that then reads or writes certain of
//! the device's attributes sleeps beside it, out of reach of SIGKILL. So a child reads those attributes first: all at once
//! before the undoing, one by one only if that took too long.
//! Source: `drivers/pci/pci-sysfs.c` (`driver_override`), `drivers/base/power/sysfs.c` (`control`),
//! `drivers/tty/vt/vt.c` (`bind`).

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::Change;
use super::attribute::{ASK_LIMIT, reads_return};
use super::error::{ChangeError, FileError};
use super::record::{Before, Undone};
use crate::host::Root;

/// The files whose lock a driver does not release.
#[derive(Debug, Default)]
pub struct Locks {
    stuck: BTreeSet<PathBuf>,
}

impl Locks {
    /// Tries all locks that the undoing of these changes takes.
    pub fn ask<'a>(root: &Root, changes: impl Iterator<Item = (&'a Change, &'a Before)>) -> Self {
        let files: BTreeSet<PathBuf> = changes.flat_map(|(change, before)| change.lock_files(before)).collect();
        let files: Vec<PathBuf> = files.into_iter().filter(|file| root.path(file).exists()).collect();
        if files.is_empty() || reads_return(root, &files) {
            return Self::default();
        }
        Self { stuck: files.into_iter().filter(|file| !reads_return(root, std::slice::from_ref(file))).collect() }
    }

    /// Undoes a change, unless that would never end. If it gets stuck itself, later undoes of its device are not tried.
    ///
    /// # Errors
    /// If it cannot be put back, or one of its files is stuck.
    pub fn undo(&mut self, root: &Root, change: &Change, before: &Before) -> Result<Undone, ChangeError> {
        let files = change.lock_files(before);
        if let Some(path) = files.iter().find(|file| self.stuck.contains(*file)) {
            return Err(FileError::ReadStuck { path: path.clone(), seconds: ASK_LIMIT.as_secs() }.into());
        }
        let result = change.undo(root, before);
        if matches!(&result, Err(ChangeError::File(error)) if error.is_stuck()) {
            self.stuck.extend(files);
        }
        result
    }
}
