//! The launcher's control socket: `vfio-run stop`, `vfio-run status` and others talk to the running launcher through it, a line
//! of JSON each way. It lies in the 0700 run directory, mode 0600, so only the machine's owner reaches it.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::machine::UsbDevice;
use crate::plan::LateDisk;

/// What can be asked of a launcher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// How is it?
    Status,
    /// Somebody sees that the guest lives: it keeps its devices.
    Alive,
    /// Ask the guest to power off, as a first SIGTERM does.
    Stop,
    /// End the guest without asking it.
    Force,
    /// Give the guest a USB device.
    Attach(UsbDevice),
    /// Take a USB device from the guest.
    Detach(UsbDevice),
    /// Share a keyboard or mouse of the host's, an event device, with the guest.
    Share(PathBuf),
    /// Give the host a shared keyboard or mouse for good.
    Unshare(PathBuf),
    /// Give the guest a disk.
    AttachDisk(LateDisk),
    /// Take a disk from the guest, which is this image.
    DetachDisk(PathBuf),
    /// Put a CD into a drive, or take it out.
    Medium {
        /// The drive's id; `None`: the only one.
        drive: Option<String>,
        /// The image; `None`: the drive is to be empty.
        file: Option<PathBuf>,
        /// Whether the drive opens although the guest has locked it.
        force: bool,
    },
    /// Plug the cables of the guest's network cards in, or unplug them.
    Link {
        /// Whether they are to be plugged in.
        up: bool,
    },
}

/// A launcher's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// What the guest is doing: QEMU's run state (`running`, `paused`, `shutdown`, …).
    pub state: String,
    /// The launcher's process id.
    pub launcher: i32,
    /// QEMU's process id.
    pub qemu: i32,
    /// The device that was attached or detached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Why what was asked for was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// The longest request that is read: it names a path.
const MAX_REQUEST: usize = 16 << 10;
/// How long a client may take over its request, and over taking the answer. The launcher does nothing else meanwhile.
const CLIENT_LIMIT: Duration = Duration::from_secs(1);
/// How long a launcher may take over its answer.
const LIMIT: Duration = Duration::from_secs(10);

/// The socket's path in the run directory.
pub fn path(run: &Path) -> PathBuf {
    run.join("control.sock")
}

/// Reads a client's request; `None` from one that says nothing sensible in time.
pub async fn read(stream: &mut UnixStream) -> Option<Request> {
    let mut line = Vec::new();
    let mut part = [0u8; 1024];
    let whole = async {
        while line.len() < MAX_REQUEST && !line.ends_with(b"\n") {
            match stream.read(&mut part).await.ok()? {
                0 => break,
                n => line.extend_from_slice(&part[..n]),
            }
        }
        Some(())
    };
    tokio::time::timeout(CLIENT_LIMIT, whole).await.ok()??;
    serde_json::from_slice(&line).ok()
}

/// Answers a client; one that went away meanwhile is not missed.
pub async fn answer(mut stream: UnixStream, reply: &Reply) {
    if let Ok(mut line) = serde_json::to_vec(reply) {
        line.push(b'\n');
        drop(tokio::time::timeout(CLIENT_LIMIT, stream.write_all(&line)).await);
    }
}

/// Asks a launcher. `None` if none listens: the socket is there only while a launcher attends to its guest, neither
/// before it runs nor while the host is being restored.
pub fn ask(run: &Path, request: &Request) -> Result<Option<Reply>> {
    let path = path(run);
    let mut stream = match std::os::unix::net::UnixStream::connect(&path) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot reach the launcher at {}", path.display())),
    };
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    let mut reply = String::new();
    let talk = stream.write_all(&line).and_then(|()| BufReader::new(stream.take(64 * 1024)).read_line(&mut reply));
    match talk {
        // It has stopped to listen before it came to us.
        Ok(0) => Ok(None),
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => Ok(None),
        Ok(_) => serde_json::from_str(&reply).context("the launcher's answer makes no sense"),
        Err(error) => Err(error).context("the launcher did not answer"),
    }
}
