//! Make a cgroup for QEMU (`Documentation/admin-guide/cgroup-v2.rst`), and remove it with whatever is left in it.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use cgroups_rs::fs::cgroup::Cgroup;
use cgroups_rs::fs::hierarchies;

use crate::change::{Before, ChangeError, Undone};
use crate::host::Root;

/// Where the unified hierarchy is mounted on every host that has just that one.
const MOUNT: &str = "/sys/fs/cgroup";
/// How long the last process of a group may take to be gone after it was killed.
const EMPTY_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

/// Whether it is there: one that was is not removed afterwards.
pub(in crate::change) fn capture(root: &Root, path: &Path) -> Result<Before, ChangeError> {
    Ok(Before::Exists(root.path(path).is_dir()))
}

/// Makes it, with the groups above it.
pub(in crate::change) fn apply(root: &Root, path: &Path) -> Result<(), ChangeError> {
    if !root.is_real() {
        // The crate knows no other root than the host's.
        return std::fs::create_dir_all(root.path(path)).map_err(|e| failed("make", path, e));
    }
    // No controllers: the group is for telling QEMU's processes from others, and for a cpuset if one is wanted later.
    let made = Cgroup::new_with_specified_controllers(hierarchies::auto(), relative(path), Some(Vec::new()));
    match made {
        Ok(_) if root.path(path).is_dir() => Ok(()),
        Ok(_) => Err(failed("make", path, std::io::ErrorKind::NotFound.into())),
        Err(error) => Err(failed("make", path, std::io::Error::other(error))),
    }
}

/// Removes it; processes that are still in it are killed.
pub(in crate::change) fn undo(root: &Root, path: &Path, existed: bool) -> Result<Undone, ChangeError> {
    if existed || !root.path(path).is_dir() {
        return Ok(Undone::AlreadyBack);
    }
    if !root.is_real() {
        return std::fs::remove_dir(root.path(path)).map(|()| Undone::Restored).map_err(|e| failed("remove", path, e));
    }
    let group = Cgroup::load_with_specified_controllers(hierarchies::auto(), relative(path), Vec::new());
    // Older than 5.14: no cgroup.kill; then the group is empty already, or cannot be removed and is named.
    let _ = group.kill();
    let deadline = Instant::now() + EMPTY_LIMIT;
    loop {
        match std::fs::remove_dir(root.path(path)) {
            Ok(()) => return Ok(Undone::Restored),
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => sleep(POLL),
            Err(e) => return Err(failed("remove", path, e)),
        }
    }
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix(MOUNT).unwrap_or(path)
}

fn failed(action: &'static str, path: &Path, error: std::io::Error) -> ChangeError {
    ChangeError::Io { action, path: path.to_owned(), error }
}
