//! The launcher's control socket: `vfio-run stop`, `vfio-run status` and others talk to the running launcher through it, a line
//! of JSON each way. It lies in the 0700 run directory, mode 0600, so only the machine's owner reaches it.

use std::io::{self, BufRead as _, BufReader, ErrorKind, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType, recvmsg, sendmsg, socket_with,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncWriteExt as _, Interest};
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
    /// Press something.
    Press(Button),
    /// Have QEMU write what the emulated screen shows, as a PPM, into the file whose descriptor comes along.
    Screen,
}

/// What people press on a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Button {
    /// The vCPUs stop.
    Pause,
    /// They go on; a guest that sleeps wakes.
    Resume,
    /// The guest restarts at once.
    Reset,
    /// The power button, once.
    Power,
    /// Keys of the keyboard, together.
    Keys {
        /// By QEMU's names (`QKeyCode`).
        keys: Vec<String>,
        /// For so many milliseconds.
        hold: u32,
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
    /// Whether what was asked for was done, if no device tells.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub done: bool,
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
/// The same for `status`, which asks all at once and shows what it knows without.
const STATUS_LIMIT: Duration = Duration::from_secs(1);

/// The socket's path in the run directory.
pub fn path(run: &Path) -> PathBuf {
    run.join("control.sock")
}

/// Reads a client's request, and the descriptor that came with it; `None` from one that says nothing sensible in time, and from
/// one that hung up before its turn: whoever was killed, or gave up, does not want it any more.
pub async fn read(stream: &mut UnixStream) -> Option<(Request, Option<OwnedFd>)> {
    let (mut line, mut file) = (Vec::new(), None);
    let whole = async {
        while line.len() < MAX_REQUEST && !line.ends_with(b"\n") {
            let received = stream.async_io(Interest::READABLE, || receive(stream, &mut line, &mut file));
            if received.await.ok()? == 0 {
                break;
            }
        }
        Some(())
    };
    tokio::time::timeout(CLIENT_LIMIT, whole).await.ok()??;
    if hung_up(stream) {
        tracing::debug!("a client hung up before its request's turn");
        return None;
    }
    Some((serde_json::from_slice(&line).ok()?, file))
}

/// Whether the other end is closed, and not only for writing.
fn hung_up(stream: &UnixStream) -> bool {
    let mut watched = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    let looked = poll(&mut watched, PollTimeout::ZERO);
    looked.is_ok() && watched[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP))
}

/// What there is of the line, and with it a descriptor; how much it is.
fn receive(stream: &UnixStream, line: &mut Vec<u8>, file: &mut Option<OwnedFd>) -> io::Result<usize> {
    let mut part = [0u8; 1024];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(stream, &mut [IoSliceMut::new(&mut part)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            *file = descriptors.last().or(file.take());
        }
    }
    line.extend_from_slice(&part[..got.bytes]);
    Ok(got.bytes)
}

/// Answers a client; one that went away meanwhile is not missed.
pub async fn answer(mut stream: UnixStream, reply: &Reply) {
    if let Ok(mut line) = serde_json::to_vec(reply) {
        line.push(b'\n');
        drop(tokio::time::timeout(CLIENT_LIMIT, stream.write_all(&line)).await);
    }
}

/// What a launcher said of its guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// This.
    Of(Reply),
    /// None listens.
    NotThere,
    /// One listens, and said nothing in time.
    Silent,
}

/// Asks a launcher how its guest is, and waits no longer than [`STATUS_LIMIT`].
pub fn ask_status(run: &Path) -> Answer {
    match talk(run, &Request::Status, None, STATUS_LIMIT) {
        Ok(Some(reply)) => Answer::Of(reply),
        Ok(None) => Answer::NotThere,
        Err(error) if is_late(&error) => Answer::Silent,
        Err(_) => Answer::NotThere,
    }
}

/// Asks a launcher. `None` if none listens: the socket is there only while a launcher attends to its guest, neither
/// before it runs nor while the host is being restored.
pub fn ask(run: &Path, request: &Request) -> Result<Option<Reply>> {
    ask_with(run, request, None)
}

/// [`ask`], with a descriptor that the launcher gets a duplicate of.
pub fn ask_with(run: &Path, request: &Request, file: Option<BorrowedFd<'_>>) -> Result<Option<Reply>> {
    talk(run, request, file, LIMIT).map_err(|error| match is_late(&error) {
        true => anyhow!("the launcher did not answer within {} s: it is busy, or was stopped", LIMIT.as_secs()),
        false => error,
    })
}

fn talk(run: &Path, request: &Request, file: Option<BorrowedFd<'_>>, limit: Duration) -> Result<Option<Reply>> {
    let path = path(run);
    let mut stream = match connect(&path, limit) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot reach the launcher at {}", path.display())),
    };
    stream.set_read_timeout(Some(limit))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    let mut reply = String::new();
    let talk =
        send(&mut stream, &line, file).and_then(|()| BufReader::new(stream.take(64 * 1024)).read_line(&mut reply));
    match talk {
        // It has stopped to listen before it came to us.
        Ok(0) => Ok(None),
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => Ok(None),
        Ok(_) => serde_json::from_str(&reply).context("the launcher's answer makes no sense"),
        Err(error) => Err(error).context("the launcher did not answer"),
    }
}

/// Connects to the socket. One that does not accept for long has no room for more clients, and the kernel would have us wait:
/// as long as we would for what we write.
fn connect(path: &Path, limit: Duration) -> io::Result<std::os::unix::net::UnixStream> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(limit))?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket.into())
}

/// Whether a launcher that listens took too long.
fn is_late(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    matches!(kind, Some(ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

/// Writes the line; a descriptor goes with its first byte.
fn send(stream: &mut std::os::unix::net::UnixStream, line: &[u8], file: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let files: Vec<BorrowedFd<'_>> = file.into_iter().collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&files));
    }
    let sent = sendmsg(&*stream, &[IoSlice::new(line)], &mut control, SendFlags::NOSIGNAL)?;
    stream.write_all(&line[sent..])
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixListener;
    use std::os::unix::net::UnixStream as Client;

    use super::*;

    #[tokio::test]
    async fn a_client_that_hung_up_is_dropped_before_its_turn() {
        let client = || {
            let (mut client, launcher) = Client::pair().unwrap();
            client.write_all(b"\"stop\"\n").unwrap();
            launcher.set_nonblocking(true).unwrap();
            (client, UnixStream::from_std(launcher).unwrap())
        };
        let (waits, mut stream) = client();
        assert_eq!(read(&mut stream).await.map(|(request, _)| request), Some(Request::Stop));
        drop(waits);
        // One that has said all and listens on, as `socat` does.
        let (half, mut stream) = client();
        half.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(read(&mut stream).await.map(|(request, _)| request), Some(Request::Stop));
        drop(half);
        let (killed, mut stream) = client();
        drop(killed);
        assert_eq!(read(&mut stream).await.map(|(request, _)| request), None);
    }

    #[test]
    fn a_launcher_that_is_silent_is_told_from_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(ask_status(dir.path()), Answer::NotThere);
        let listener = UnixListener::bind(path(dir.path())).unwrap();
        let began = std::time::Instant::now();
        assert_eq!(ask_status(dir.path()), Answer::Silent);
        // Without room for more clients too, of which each look leaves one.
        rustix::net::listen(&listener, 0).unwrap();
        assert_eq!(ask_status(dir.path()), Answer::Silent);
        assert!(began.elapsed() < 4 * STATUS_LIMIT);
        drop(listener);
        assert_eq!(ask_status(dir.path()), Answer::NotThere);
    }
}
