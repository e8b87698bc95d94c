//! Writes that can block in the kernel: to `bind`, `unbind` and `drivers_probe`, where a driver's own code runs.
//!
//! Such a write is made by a child process, this program again under a hidden verb, so that a driver that never answers
//! takes the child with it and not us: a process in that state cannot be killed, and a thread of ours in it would keep us
//! from ever ending.

use std::path::Path;
use std::time::{Duration, Instant};

use super::ChangeError;
use super::write::write;
use crate::child::{self, Command, Session};
use crate::host::Root;

/// How long a driver may take to come or go. A graphics card's driver loads firmware and starts the card: seconds.
const LIMIT: Duration = Duration::from_secs(30);
/// The pause between two looks at what should change.
const POLL: Duration = Duration::from_millis(5);

/// The hidden verb's name.
pub const VERB: &str = "write-attribute";

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
    let mut command = Command::new("/proc/self/exe");
    command.arg(VERB).arg(path).arg(value).session(Session::Own);
    let mut child = command.spawn().map_err(|e| failed(e.source))?;
    match child::wait_until(&mut child, Instant::now() + limit).map_err(failed)? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(failed(match status.code() {
            Some(code) => std::io::Error::from_raw_os_error(code),
            None => std::io::Error::other(status.to_string()),
        })),
        None => {
            // It stays until the kernel lets it go; killing it is all that can be done, and is likely to be in vain.
            let _ = child.kill();
            Err(ChangeError::Stuck { path: path.to_owned(), seconds: limit.as_secs() })
        }
    }
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
