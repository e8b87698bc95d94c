//! The files of a cgroup, and the tasks in it (`Documentation/admin-guide/cgroup-v2.rst`).

use std::path::Path;
use std::time::Duration;

use crate::change::error::{ChangeError, FileError};
use crate::change::file;
use crate::change::record::Undone;
use crate::change::step::Observed;
use crate::change::wait::wait_for;
use crate::host::Root;
use crate::units::CpuSet;

/// How long the tasks of a group may take to leave it: one that is just being made is counted with its parent.
const MOVE_LIMIT: Duration = Duration::from_secs(5);
/// How long the last process of a group may take to be gone after it was killed.
const EMPTY_LIMIT: Duration = Duration::from_secs(10);

/// Writes a value. The kernel makes a group's files together with the group; below another root there is no kernel.
pub(super) fn write(root: &Root, path: &Path, value: &str) -> Result<(), FileError> {
    if !root.is_real() {
        return std::fs::write(root.path(path), value.trim_end()).map_err(FileError::io("write", path));
    }
    file::write(root, path, value)
}

/// The CPUs that a file lists; what is no list is none.
pub(super) fn cpus(root: &Root, path: &Path) -> Result<CpuSet, FileError> {
    Ok(file::read(root, path)?.parse().unwrap_or_default())
}

/// Writes a list of CPUs and reads it back. With the line's end: the kernel takes an empty line as no CPUs, and does nothing on
/// a write of no bytes.
pub(super) fn write_cpus(root: &Root, path: &Path, wanted: &CpuSet) -> Result<(), FileError> {
    write(root, path, &format!("{wanted}\n"))?;
    let found = cpus(root, path)?;
    match found == *wanted {
        true => Ok(()),
        false => Err(not_taken(path, wanted, &found)),
    }
}

/// The error of a file that does not say which CPUs it was told.
pub(super) fn not_taken(path: &Path, wanted: &CpuSet, found: &CpuSet) -> FileError {
    FileError::NotTaken { path: path.to_owned(), wanted: wanted.to_string(), found: found.to_string() }
}

/// What a rehearsal compares of a file.
pub(super) fn observed(root: &Root, path: &Path) -> Vec<Observed> {
    vec![Observed::new(path.display().to_string(), file::read(root, path).unwrap_or_default())]
}

/// What became of an undo whose group may have gone, and its values with it.
pub(super) fn unless_gone(undone: Result<Undone, FileError>) -> Result<Undone, ChangeError> {
    match undone {
        Err(error) if error.is_gone() => Ok(Undone::AlreadyBack),
        undone => Ok(undone?),
    }
}

/// Moves all tasks from one group to another. `tasks`: `cgroup.procs`, or `cgroup.threads` within a threaded domain.
pub(super) fn move_tasks(root: &Root, from: &Path, to: &Path, tasks: &str) -> Result<(), FileError> {
    if !root.is_real() {
        return Ok(());
    }
    let (from, to) = (from.join(tasks), to.join(tasks));
    let mut moved = Ok(());
    wait_for(root, MOVE_LIMIT, || {
        let numbers = match file::read(root, &from) {
            Ok(numbers) => numbers,
            Err(error) => {
                moved = if error.is_gone() { Ok(()) } else { Err(error) };
                return true;
            }
        };
        moved = Ok(());
        for number in numbers.split_ascii_whitespace() {
            match file::write(root, &to, number) {
                // It has ended meanwhile.
                Err(error) if error.errno() == Some(libc::ESRCH) => {}
                Err(error) => moved = Err(error),
                Ok(()) => {}
            }
        }
        numbers.is_empty()
    });
    moved
}

/// Removes the group; the kernel refuses it for as long as a task in it is about to end. systemd may remove that of a unit that
/// has ended meanwhile.
pub(in crate::change) fn remove(root: &Root, group: &Path) -> Result<(), FileError> {
    let path = root.path(group);
    let mut removed = Ok(());
    wait_for(root, EMPTY_LIMIT, || {
        // A group's files go with it; below another root there is no kernel.
        removed = if root.is_real() { std::fs::remove_dir(&path) } else { std::fs::remove_dir_all(&path) };
        !matches!(&removed, Err(error) if error.raw_os_error() == Some(libc::EBUSY))
    });
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(FileError::io("remove", group)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_has_gone_meanwhile_needs_no_removing() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        remove(&root, Path::new("/gone")).unwrap();
        std::fs::create_dir(folder.path().join("there")).unwrap();
        std::fs::write(folder.path().join("there/cgroup.procs"), "").unwrap();
        remove(&root, Path::new("/there")).unwrap();
        assert!(!folder.path().join("there").exists());
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert!(remove(&root, Path::new("/file/below")).is_err());
    }
}
