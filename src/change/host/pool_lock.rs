//! One machine at a time reserves huge pages: another would take those that are free for its own, and would give back what it
//! had not reserved.

use std::cell::RefCell;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::change::error::{ChangeError, FileError, HugePagesError};
use crate::change::lock_file;
use crate::change::step::Progress;
use crate::change::wait::wait_for_processes;
use crate::host::Root;

/// The lock's name beside the run directories.
const FILE: &str = ".pool";
/// How long the memory of another machine may take to be reserved and filled.
const LIMIT: Duration = Duration::from_secs(300);
/// How often the launcher says that it waits, and looks for a signal.
const SAY: Duration = Duration::from_secs(1);

/// Held from the first page that is reserved until the guest's memory has them all.
#[derive(Debug)]
pub struct PoolLock {
    path: PathBuf,
    _file: File,
}

impl PoolLock {
    /// Waits until no other machine has it, seen from a machine's run directory.
    ///
    /// # Errors
    /// If another has it for too long, or a signal stops the wait.
    pub fn wait(root: &Root, run: &Path, progress: Progress<'_>) -> Result<Self, ChangeError> {
        let path = run.with_file_name(FILE);
        let (mut stopped, mut said) = (false, None::<Instant>);
        let taken = RefCell::new(Err(ErrorKind::WouldBlock.into()));
        wait_for_processes(root, LIMIT, || {
            *taken.borrow_mut() = lock_file::take(&path);
            let blocked = matches!(&*taken.borrow(), Err(error) if error.kind() == ErrorKind::WouldBlock);
            if blocked && said.is_none_or(|said| said.elapsed() >= SAY) {
                said = Some(Instant::now());
                stopped = progress(0, 1).is_break();
            }
            !blocked || stopped
        });
        match taken.into_inner() {
            _ if stopped => Err(ChangeError::Stopped),
            Ok(file) => Ok(Self { path, _file: file }),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(HugePagesError::Busy.into()),
            Err(error) => Err(FileError::io("lock", &path)(error).into()),
        }
    }
}

/// Removes the file of a launcher that died between its last page and the lock's end. One that is held, or is wanted by somebody
/// who would make it anew, stays. `run`: the run directory of a machine.
pub fn remove_dead_pool_lock(run: &Path) {
    let path = run.with_file_name(FILE);
    if path.symlink_metadata().is_ok()
        && let Ok(file) = lock_file::take(&path)
    {
        drop(PoolLock { path, _file: file });
    }
}

impl Drop for PoolLock {
    /// While it is still locked: one who waits for this file sees that it is gone.
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.path));
    }
}
