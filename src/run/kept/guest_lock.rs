//! `guest.lock`: a file in the run directory that is locked for as long as the machine's QEMU runs; and `helpers.lock`, the
//! same for its helpers.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::journal::{Journal, last_qemu};
use crate::run::process::{is_ending, start_time};
use crate::units::run_files;

/// Opens and locks the file of this name. The lock belongs to the open file that QEMU (or a helper) inherits, not to a process,
/// so it stands exactly as long as that runs, even when the launcher dies (flock(2)). It is open for reading alone: a QEMU that
/// a guest has taken over could fill /run through it, and the journal would find no room.
pub(in crate::run) fn take(run: &Path, name: &str) -> Result<OwnedFd> {
    let path = run.join(name);
    let flags = libc::O_CREAT | libc::O_NOFOLLOW;
    let file = OpenOptions::new().read(true).mode(0o600).custom_flags(flags).open(&path);
    let file = file.with_context(|| format!("cannot make {}", path.display()))?;
    // A process that asks whether the lock is held holds it for a moment.
    let mut attempt = 0;
    while let Err(error) = file.try_lock() {
        attempt += 1;
        if attempt > 5 || !matches!(error, TryLockError::WouldBlock) {
            anyhow::bail!("cannot lock {}: {error}", path.display());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(file.into())
}

/// Whether there is a QEMU of this machine, with or without a launcher: one that holds the lock, or that the journal names.
/// A QEMU that a guest has taken over can let go of the lock, and then still has the devices.
pub fn guest_lives(run: &Path) -> bool {
    is_locked(run) || living_qemu(run).is_some()
}

/// The same of a QEMU that is not about to end. Its first thread does all that a launcher could want of it; once that has
/// ended the kernel ends the others, which it can be at for long.
pub fn guest_runs(run: &Path) -> bool {
    living_qemu(run).map_or_else(|| is_locked(run), |pid| !is_ending(pid))
}

fn is_locked(run: &Path) -> bool {
    let Ok(file) = File::open(run.join(run_files::GUEST_LOCK)) else { return false };
    matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock))
}

/// The process that the journal names, if it has not ended.
fn living_qemu(run: &Path) -> Option<i32> {
    let records = Journal::read(run).ok().flatten().unwrap_or_default();
    last_qemu(&records).filter(|(pid, started)| start_time(*pid) == Some(*started)).map(|(pid, _)| pid)
}

/// Makes room on /run that a QEMU took through the lock (version 0.1.0 gave it a descriptor that could write).
pub(in crate::run) fn empty(run: &Path) {
    let opened = OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW).open(run.join(run_files::GUEST_LOCK));
    // There is none if QEMU was never started.
    drop(opened.and_then(|file| file.set_len(0)));
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::Command;

    use super::*;
    use crate::journal::Record;

    #[test]
    fn qemu_can_lock_and_not_write() {
        let dir = tempfile::tempdir().unwrap();
        let lock = File::from(take(dir.path(), run_files::GUEST_LOCK).unwrap());
        assert!(is_locked(dir.path()) && take(dir.path(), run_files::GUEST_LOCK).is_err());
        assert!((&lock).write(b"x").is_err() && lock.set_len(1).is_err());
        drop(lock);
        assert!(!guest_lives(dir.path()));
        std::fs::write(dir.path().join(run_files::GUEST_LOCK), "much").unwrap();
        empty(dir.path());
        assert_eq!(std::fs::metadata(dir.path().join(run_files::GUEST_LOCK)).unwrap().len(), 0);
    }

    #[test]
    fn a_look_at_the_lock_fails_no_start() {
        let dir = tempfile::tempdir().unwrap();
        drop(take(dir.path(), run_files::GUEST_LOCK).unwrap());
        let look = File::open(dir.path().join(run_files::GUEST_LOCK)).unwrap();
        look.try_lock_shared().unwrap();
        std::thread::scope(|scope| {
            let taken = scope.spawn(|| take(dir.path(), run_files::GUEST_LOCK));
            std::thread::sleep(Duration::from_millis(15));
            drop(look);
            taken.join().unwrap().unwrap();
        });
    }

    #[test]
    fn a_qemu_that_let_go_of_the_lock_still_lives() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = child.id() as i32;
        let mut journal = Journal::open(dir.path()).unwrap();
        for started in [0, start_time(pid).unwrap()] {
            assert!(!guest_lives(dir.path()));
            journal.append(Record::Started { name: "qemu".to_owned(), pid, start_time: started }).unwrap();
        }
        assert!(guest_lives(dir.path()) && guest_runs(dir.path()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!guest_lives(dir.path()));
    }
}
