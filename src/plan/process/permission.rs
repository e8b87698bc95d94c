//! Whether the launcher may open a device node.

use crate::host::{FileFact, Process};

/// Whether this process may read and write the file, as far as its mode tells: `None` if that depends on the process's
/// supplementary groups, which are not known.
pub(in crate::plan) fn may_open(file: &FileFact, process: &Process) -> Option<bool> {
    let allows = |shift: u32| file.mode >> shift & 0o6 == 0o6;
    match () {
        () if process.uid == 0 => Some(true),
        () if process.uid == file.uid => Some(allows(6)),
        () if process.gid == file.gid => Some(allows(3)),
        () if allows(0) => Some(true),
        () if allows(3) => None,
        () => Some(false),
    }
}
