//! Run a program that does something to the host, for a limited time.

use std::io::Read as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::child::{self, Command, Session};

/// Runs it to its end and returns its standard output, if the caller has that piped; the error is its standard error, or
/// why it could not be run. Both must be a few lines, which the pipes hold.
pub(super) fn run(mut command: Command, name: &str, limit: Duration) -> Result<String, String> {
    command.session(Session::Own).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| format!("{e}: {}", e.source))?;
    let ended = child::wait_until(&mut child, Instant::now() + limit).map_err(|e| e.to_string())?;
    let Some(status) = ended else {
        // Without waiting: a process that is blocked in the kernel does not die.
        drop(child.kill());
        return Err(format!("{name} did not end within {} s", limit.as_secs()));
    };
    let mut words = String::new();
    // If its words cannot be read, its exit status still says enough.
    if status.success() {
        drop(child.stdout.take().map(|mut pipe| pipe.read_to_string(&mut words)));
        Ok(words.trim().to_owned())
    } else {
        drop(child.stderr.take().map(|mut pipe| pipe.read_to_string(&mut words)));
        Err(words.trim().to_owned())
    }
}
