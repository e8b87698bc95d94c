//! Accesses that can block in the kernel: writes to `bind`, `unbind` and `drivers_probe`, where a driver's own code runs,
//! and reads that wait for the lock that such a write holds.
//!
//! A child process makes them, this program again under a hidden verb, so a driver that never answers blocks the child and
//! not the launcher: a process in that state cannot be killed, and with a thread in it the launcher could never end.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use super::error::FileError;
use super::file::write;
use crate::child::{self, Command, Session};
use crate::host::Root;

/// How long a driver may take to bind or unbind. A graphics card's driver loads firmware and starts the card: seconds.
const LIMIT: Duration = Duration::from_secs(30);
/// How long a read may take that only waits for a lock.
pub(super) const ASK_LIMIT: Duration = Duration::from_secs(5);

/// The name of the hidden verb that writes.
pub const VERB: &str = "write-attribute";
/// The name of the hidden verb that reads.
pub const ASK_VERB: &str = "read-attributes";

/// Writes a value; below the real root, a child does.
pub(super) fn write_bounded(root: &Root, path: &Path, value: &str) -> Result<(), FileError> {
    write_within(root, path, value, LIMIT)
}

/// As [`write_bounded`], with another time limit.
pub(super) fn write_within(root: &Root, path: &Path, value: &str, limit: Duration) -> Result<(), FileError> {
    if !root.is_real() {
        return write(root, path, value);
    }
    let failed = FileError::io("write", path);
    match in_child(VERB, [path.as_os_str(), value.as_ref()], limit).map_err(&failed)? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(failed(match status.code() {
            Some(code) => std::io::Error::from_raw_os_error(code),
            None => std::io::Error::other(status.to_string()),
        })),
        None => Err(FileError::WriteStuck { path: path.to_owned(), seconds: limit.as_secs() }),
    }
}

/// Whether reads of all these files come back, whatever they find; below the real root, one child reads them.
pub(super) fn reads_return(root: &Root, files: &[PathBuf]) -> bool {
    if !root.is_real() {
        let (done, wait) = std::sync::mpsc::channel();
        let files: Vec<PathBuf> = files.iter().map(|file| root.path(file)).collect();
        std::thread::spawn(move || {
            read_here(&files);
            done.send(())
        });
        return wait.recv_timeout(root.limit(ASK_LIMIT)).is_ok();
    }
    // If no child can be started, nothing was learnt.
    in_child(ASK_VERB, files, ASK_LIMIT).map_or(true, |status| status.is_some())
}

/// Runs this program under one of its hidden verbs; `None`: it did not end in time.
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
        // A child that is blocked in the kernel does not die of it. Nothing else can be done.
        drop(child.kill());
    }
    Ok(status)
}

/// What the writing child does: one write. Returns the kernel's error number, 0 for success.
pub fn write_here(path: &Path, value: &str) -> u8 {
    match write(&Root::new("/"), path, value) {
        Ok(()) => 0,
        Err(FileError::Io { error, .. }) => {
            error.raw_os_error().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
        }
        Err(_) => u8::MAX,
    }
}

/// What the reading child does.
pub fn read_here(files: &[PathBuf]) {
    for file in files {
        // Only that the read comes back matters.
        drop(std::fs::read(file));
    }
}
