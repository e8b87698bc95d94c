//! Whether the kernel still lets us at what is to be undone.
//!
//! A driver that never comes back from `unbind` keeps its device's lock, and whoever then reads or writes certain of the
//! device's attributes sleeps beside it, out of reach of SIGKILL. So those attributes are read by a child first: once
//! before all undoing, one by one only where that took too long.
//! Source: `drivers/pci/pci-sysfs.c` (`driver_override`), `drivers/base/power/sysfs.c` (`control`),
//! `drivers/tty/vt/vt.c` (`bind`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::attribute::{ASK_LIMIT, answer};
use super::{Before, Change, ChangeError, Undone};
use crate::change::pci::bind_driver::override_of;
use crate::change::screen::leave_console::console_bind;
use crate::host::Root;
use crate::units::PciAddress;

/// What is locked for good.
#[derive(Debug, Default)]
pub struct Locks {
    stuck: BTreeSet<PathBuf>,
}

impl Locks {
    /// Asks for all locks that the undoing of these changes takes.
    pub fn ask<'a>(root: &Root, changes: impl Iterator<Item = (&'a Change, &'a Before)>) -> Self {
        let files: BTreeSet<PathBuf> = changes.flat_map(|(change, before)| files(change, before)).collect();
        let files: Vec<PathBuf> = files.into_iter().filter(|file| root.path(file).exists()).collect();
        if files.is_empty() || answer(root, &files) {
            return Self::default();
        }
        Self { stuck: files.into_iter().filter(|file| !answer(root, std::slice::from_ref(file))).collect() }
    }

    /// Undoes a change, unless that would never end. One that gets stuck itself keeps the others of its device away.
    pub fn undo(&mut self, root: &Root, change: &Change, before: &Before) -> Result<Undone, ChangeError> {
        let files = files(change, before);
        if let Some(path) = files.iter().find(|file| self.stuck.contains(*file)) {
            return Err(ChangeError::Stuck { path: path.clone(), seconds: ASK_LIMIT.as_secs() });
        }
        let result = change.undo(root, before);
        if matches!(result, Err(ChangeError::Stuck { .. })) {
            self.stuck.extend(files);
        }
        result
    }
}

/// The files whose reading waits for the locks that undoing the change takes.
fn files(change: &Change, before: &Before) -> Vec<PathBuf> {
    match (change, before) {
        (Change::BindDriver { address, .. } | Change::ResizeBar { address, .. }, _) => vec![override_of(*address)],
        (Change::Write { path, .. }, _) => function_of(path).map(override_of).into_iter().collect(),
        (Change::RemoveModule { .. }, Before::Module { functions, .. }) => {
            functions.iter().map(|bound| override_of(bound.address)).collect()
        }
        (Change::LeaveConsole { name }, _) => vec![console_bind(name)],
        _ => Vec::new(),
    }
}

/// The PCI function that an attribute is of.
pub(super) fn function_of(attribute: &Path) -> Option<PciAddress> {
    attribute.strip_prefix("/sys/bus/pci/devices").ok()?.iter().next()?.to_str()?.parse().ok()
}
