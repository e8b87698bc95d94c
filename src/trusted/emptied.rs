//! A folder that is emptied while others may want to move in.

use std::io::Result;
use std::path::Path;

/// Removes all that is in the folder, this lock last: from then on another may move in, whose files are not ours to remove.
///
/// # Errors
/// The first that is met; what was not removed by then is still there, and so is the lock.
pub fn empty(folder: &Path, lock: &str) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => std::fs::remove_dir_all(entry.path())?,
            false if entry.file_name() == lock => {}
            false => std::fs::remove_file(entry.path())?,
        }
    }
    std::fs::remove_file(folder.join(lock))
}
