//! Accesses that can block in the kernel: writes to `bind`, `unbind` and `drivers_probe`, where a driver's own code runs,
//! and reads that wait for the lock that such a write holds.
//!
//! They are made by a child process, this program again under a hidden verb, so that a driver that never answers
//! takes the child with it and not us: a process in that state cannot be killed, and a thread of ours in it would keep us
//! from ever ending.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use super::ChangeError;
use crate::change::host::write::write;
use crate::child::{self, Command, Session};
use crate::host::Root;

/// How long a driver may take to come or go. A graphics card's driver loads firmware and starts the card: seconds.
const LIMIT: Duration = Duration::from_secs(30);
/// The pause between two looks at what should change.
const POLL: Duration = Duration::from_millis(5);

/// How long a read may take that only waits for a lock.
pub(super) const ASK_LIMIT: Duration = Duration::from_secs(5);

/// The name of the hidden verb that writes.
pub const VERB: &str = "write-attribute";
/// The name of the hidden verb that reads.
pub const ASK_VERB: &str = "read-attributes";

/// Writes a value, in a child where the kernel is the real one.
pub(super) fn write_bounded(root: &Root, path: &Path, value: &str) -> Result<(), ChangeError> {
    write_within(root, path, value, LIMIT)
}

/// As [`write_bounded`], for a write that may take another time.
pub(super) fn write_within(root: &Root, path: &Path, value: &str, limit: Duration) -> Result<(), ChangeError> {
    if !root.is_real() {
        return write(root, path, value);
    }
    let failed = |error| ChangeError::Io { action: "write", path: path.to_owned(), error };
    match in_child(VERB, [path.as_os_str(), value.as_ref()], limit).map_err(failed)? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(failed(match status.code() {
            Some(code) => std::io::Error::from_raw_os_error(code),
            None => std::io::Error::other(status.to_string()),
        })),
        None => Err(ChangeError::Stuck { path: path.to_owned(), seconds: limit.as_secs() }),
    }
}

/// Whether reading these files comes to an end, whatever it finds; by one child where the kernel is the real one.
pub(super) fn answer(root: &Root, files: &[PathBuf]) -> bool {
    if !root.is_real() {
        let (done, wait) = std::sync::mpsc::channel();
        let files: Vec<PathBuf> = files.iter().map(|file| root.path(file)).collect();
        std::thread::spawn(move || {
            read_here(&files);
            done.send(())
        });
        return wait.recv_timeout(ASK_LIMIT).is_ok();
    }
    // Where no child can be had, nothing was learnt.
    in_child(ASK_VERB, files, ASK_LIMIT).map_or(true, |status| status.is_some())
}

/// This program under one of its hidden verbs; `None`: it did not end in time.
fn in_child<A: AsRef<OsStr>>(
    verb: &str,
    arguments: impl IntoIterator<Item = A>,
    limit: Duration,
) -> std::io::Result<Option<ExitStatus>> {
    let mut command = Command::new("/proc/self/exe");
    command.arg(verb).args(arguments).session(Session::Own);
    let mut child = command.spawn().map_err(|e| e.source)?;
    let status = child::wait_until(&mut child, Instant::now() + limit)?;
    if status.is_none() {
        // It stays until the kernel lets it go; killing it is all that can be done, and is likely to be in vain.
        let _ = child.kill();
    }
    Ok(status)
}

/// What the child does: one write. Returns the kernel's error number, 0 for success.
pub fn write_here(path: &Path, value: &str) -> u8 {
    match write(&Root::new("/"), path, value) {
        Ok(()) => 0,
        Err(ChangeError::Io { error, .. }) => {
            error.raw_os_error().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
        }
        Err(_) => u8::MAX,
    }
}

/// What the child does that asks: reads.
pub fn read_here(files: &[PathBuf]) {
    for file in files {
        // That it ends is all that is wanted.
        let _ = std::fs::read(file);
    }
}

/// Waits until something is so, and says whether it came to be.
pub(super) fn wait_for(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(POLL);
    }
}
