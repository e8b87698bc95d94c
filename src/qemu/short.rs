//! A short-lived QEMU: started to answer questions, its output kept, and never left running.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{self, ExitStatus};
use std::time::Instant;

use nix::sys::signal::Signal;
use rustix::fs::{MemfdFlags, memfd_create};

use crate::child;

/// How much of what a QEMU prints is read.
const OUTPUT_LIMIT: u64 = 1024 * 1024;

/// A running QEMU; killed when dropped.
#[derive(Debug)]
pub(super) struct Short {
    child: process::Child,
    stdout: File,
    stderr: File,
}

/// How a QEMU ended, and what it printed.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Short {
    /// Starts the binary. What it prints goes to memory, so that it never waits for a reader.
    pub(super) fn start(
        binary: &Path,
        arguments: &[&str],
        fds: Vec<(i32, OwnedFd)>,
    ) -> Result<Self, child::SpawnError> {
        let open = || -> io::Result<[File; 4]> {
            let (out, err): (File, File) = (memory_file("qemu-stdout")?.into(), memory_file("qemu-stderr")?.into());
            Ok([out.try_clone()?, out, err.try_clone()?, err])
        };
        let program = binary.display().to_string();
        let [out, stdout, err, stderr] =
            open().map_err(|source| child::SpawnError { program, step: "keep what it prints", source })?;
        let mut command = child::Command::new(binary);
        command.args(arguments).stdout(out).stderr(err);
        command.session(child::Session::Own).death_signal(Signal::SIGKILL);
        for (number, fd) in fds {
            command.fd(number, fd);
        }
        Ok(Self { child: command.spawn()?, stdout, stderr })
    }

    /// Waits for its end; `None` if it has not ended by the deadline.
    pub(super) fn wait_until(&mut self, deadline: Instant) -> io::Result<Option<Ended>> {
        let Some(status) = child::wait_until(&mut self.child, deadline)? else { return Ok(None) };
        Ok(Some(Ended { status, stdout: read_all(&mut self.stdout), stderr: read_all(&mut self.stderr) }))
    }

    /// Kills it and gives what it had to say.
    pub(super) fn kill(&mut self) -> String {
        // Fails only for a child that is already waited for.
        drop(self.child.kill());
        drop(self.child.wait());
        read_all(&mut self.stderr)
    }
}

impl Drop for Short {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A file in memory, closed on exec.
pub(super) fn memory_file(name: &str) -> io::Result<OwnedFd> {
    Ok(memfd_create(name, MemfdFlags::CLOEXEC)?)
}

fn read_all(file: &mut File) -> String {
    let mut bytes = Vec::new();
    // What can't be read is not there to be shown; the caller has its own error.
    drop(file.rewind().and_then(|()| file.take(OUTPUT_LIMIT).read_to_end(&mut bytes)));
    String::from_utf8_lossy(&bytes).into_owned()
}
