//! Whether the launcher may open a device node.

use crate::host::{FileFact, Process};

/// Whether this process may read and write the file, as far as its mode tells: `None` if that depends on the process's
/// supplementary groups, which are not known.
pub(in crate::plan) fn may_open(file: &FileFact, process: &Process) -> Option<bool> {
    may(file, process, 0o6)
}

/// Whether it may open the file for reading alone; `None` if that depends on its other groups.
pub(in crate::plan) fn may_read(file: &FileFact, process: &Process) -> Option<bool> {
    may(file, process, 0o4)
}

fn may(file: &FileFact, process: &Process, rights: u32) -> Option<bool> {
    let allows = |shift: u32| file.mode >> shift & rights == rights;
    match () {
        () if process.uid == 0 => Some(true),
        () if process.uid == file.uid => Some(allows(6)),
        () if process.gid == file.gid => Some(allows(3)),
        () if allows(0) => Some(true),
        () if allows(3) => None,
        () => Some(false),
    }
}
