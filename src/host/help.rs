//! What a program prints for `--help`. It is asked while the rest of the host is read, which takes as long.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rustix::fs::{MemfdFlags, memfd_create};

use crate::child::{self, Command, Session, SpawnError};

/// How long a program may take: milliseconds, except on a host that has no time for it.
const LIMIT: Duration = Duration::from_secs(10);
/// How much of what it prints is read.
const MAX: u64 = 256 << 10;

/// A program that was asked.
pub(super) struct Help {
    child: Child,
    printed: File,
    until: Instant,
}

impl Help {
    /// Asks it, with what `set` gives it besides the option.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn ask(program: &Path, set: impl FnOnce(&mut Command)) -> Result<Self, SpawnError> {
        let failed = |source: std::io::Error| SpawnError {
            program: program.display().to_string(),
            step: "make a file for what it prints",
            source,
        };
        let mut command = Command::new(program);
        set(&mut command);
        let printed = File::from(memfd_create("help", MemfdFlags::CLOEXEC).map_err(|error| failed(error.into()))?);
        let (out, errors) = (printed.try_clone().map_err(failed)?, printed.try_clone().map_err(failed)?);
        command.arg("--help").stdout(out).stderr(errors).session(Session::Own).death_signal(Signal::SIGKILL);
        Ok(Self { child: command.spawn()?, printed, until: Instant::now() + LIMIT })
    }

    /// What it printed to either stream; `None` if it did not end in time, or that cannot be read.
    pub fn read(mut self) -> Option<String> {
        if !matches!(child::wait_until(&mut self.child, self.until), Ok(Some(_))) {
            drop(self.child.kill());
            drop(self.child.wait());
            return None;
        }
        let mut bytes = Vec::new();
        self.printed.rewind().and_then(|()| self.printed.take(MAX).read_to_end(&mut bytes)).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}
