//! The sockets of a user's sound servers: what they are, and whether somebody answers. Also for the launcher, which runs as
//! root and opens them in a folder of the user's: no link is followed there, and what is not that user's is refused.

use std::fs::{File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use serde::{Deserialize, Serialize};

use crate::host::Root;

/// How long a server may take over an answer; it takes a millisecond.
const LIMIT: Duration = Duration::from_secs(2);
/// The length of PulseAudio's cookies (`PA_NATIVE_COOKIE_LENGTH`).
const COOKIE: usize = 256;
/// Where PulseAudio's clients look for their cookie below the home folder (pulse-client.conf(5)).
const COOKIES: [&str; 2] = [".config/pulse/cookie", ".pulse-cookie"];

/// A sound server, as its socket tells.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoundServerFact {
    /// Its socket.
    pub socket: PathBuf,
    /// The socket's permission bits; `None` if there is no socket.
    pub mode: Option<u32>,
    /// What the server said.
    #[serde(default)]
    pub answer: Answer,
}

/// What a server said to a client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It was not asked.
    #[default]
    Unknown,
    /// It lets clients in.
    Accepts,
    /// It does not, and why.
    Refuses(String),
}

/// Looks at a socket, and asks the server behind it.
pub(super) fn look(
    root: &Root,
    path: PathBuf,
    uid: u32,
    ask: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>,
) -> SoundServerFact {
    let (mode, answer) = match open_socket(&root.path(&path), uid) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => (None, Answer::Unknown),
        Err(error) => (None, Answer::Refuses(error.to_string())),
        Ok((socket, meta)) => {
            let answer = match root.is_real().then(|| ask(socket.as_fd())) {
                None => Answer::Unknown,
                Some(Ok(())) => Answer::Accepts,
                Some(Err(error)) => Answer::Refuses(error.to_string()),
            };
            (Some(meta.mode() & 0o7777), answer)
        }
    };
    SoundServerFact { socket: path, mode, answer }
}

/// Opens the socket of a user so that it can only be connected to (`O_PATH`).
///
/// # Errors
/// If it is not there, if it is no socket or another user's, or if a link is on the way to it.
pub fn open_socket(path: &Path, uid: u32) -> io::Result<(OwnedFd, Metadata)> {
    let (socket, meta) = open_path(path, ResolveFlags::NO_SYMLINKS)?;
    match () {
        () if !meta.file_type().is_socket() => Err(io::Error::other("it is no socket")),
        () if meta.uid() != uid => Err(io::Error::other(format!("it belongs to user {}, not {uid}", meta.uid()))),
        () => Ok((socket, meta)),
    }
}

/// Opens a file without the right to read it. Opening it otherwise can do things before it is known what it is.
fn open_path(path: &Path, resolve: ResolveFlags) -> io::Result<(OwnedFd, Metadata)> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = File::from(openat2(CWD, path, flags, Mode::empty(), resolve | ResolveFlags::NO_MAGICLINKS)?);
    let meta = file.metadata()?;
    Ok((file.into(), meta))
}

/// Whether somebody accepts connections at an open socket.
///
/// # Errors
/// If nobody does, or if we may not.
pub fn connects(socket: BorrowedFd<'_>) -> io::Result<()> {
    client(socket).map(drop)
}

/// A connection to an open socket. It does not wait for a server that is too busy to accept it.
fn client(to: BorrowedFd<'_>) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let stream = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    let address = UnixAddr::new(format!("/proc/self/fd/{}", to.as_raw_fd()).as_str())?;
    connect(stream.as_raw_fd(), &address)?;
    Ok(UnixStream::from(stream))
}

/// Whether a PulseAudio server lets a client in that has this cookie, or none: the first message that a client sends
/// (`PA_COMMAND_AUTH`; PulseAudio's `PROTOCOL` and `src/pulsecore/protocol-native.c`) and the first word of the answer.
///
/// # Errors
/// If it does not, or does not answer in time.
pub fn lets_in(socket: BorrowedFd<'_>, cookie: Option<&[u8]>) -> io::Result<()> {
    const AUTH: u32 = 8;
    const OLDEST_VERSION: u32 = 8;
    let number = |value: u32| [b"L".as_slice(), &value.to_be_bytes()].concat();
    let mut words = [number(AUTH), number(0), number(OLDEST_VERSION)].concat();
    words.push(b'x');
    words.extend((COOKIE as u32).to_be_bytes());
    words.extend(cookie.filter(|cookie| cookie.len() == COOKIE).unwrap_or(&[0; COOKIE]));
    // Its length, the channel of commands, and an offset and flags, which commands do not have.
    let mut message: Vec<u8> = [words.len() as u32, u32::MAX, 0, 0, 0].into_iter().flat_map(u32::to_be_bytes).collect();
    message.extend(words);

    let mut stream = client(socket)?;
    stream.write_all(&message)?;
    let deadline = Instant::now() + LIMIT;
    let mut answer = [0; 20 + 15];
    let mut length = 0;
    while length < answer.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        match poll(&mut [PollFd::new(stream.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => return Err(io::Error::other(format!("it did not answer within {} s", LIMIT.as_secs()))),
            Ok(_) => {}
            Err(nix::Error::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        match stream.read(&mut answer[length..]) {
            Ok(0) => return Err(io::Error::other("it closed the connection")),
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let word = |at: usize| {
        (answer[at] == b'L').then(|| answer[at + 1..at + 5].iter().fold(0, |n, byte| n << 8 | u32::from(*byte)))
    };
    match (word(20), word(30)) {
        // PA_COMMAND_REPLY; PA_COMMAND_ERROR with PA_ERR_ACCESS, or another error.
        (Some(2), _) => Ok(()),
        (Some(0), Some(1)) => Err(io::Error::other("it denies the access: it wants its cookie")),
        (Some(0), Some(code)) => Err(io::Error::other(format!("it refuses clients (error {code})"))),
        _ => Err(io::Error::other("it does not speak PulseAudio's protocol")),
    }
}

/// Where a user's cookie is, if there is one.
pub(super) fn find_cookie(root: &Root, home: &Path) -> Option<PathBuf> {
    let mut paths = COOKIES.iter().map(|name| home.join(name));
    paths.find(|path| root.path(path).symlink_metadata().is_ok())
}

/// Reads a user's cookie, which must be that user's own file: the name may have been made a link to another's secrets.
///
/// # Errors
/// If it is not there, no file, another user's, or of another length.
pub fn read_cookie(path: &Path, uid: u32) -> io::Result<Vec<u8>> {
    let (file, meta) = open_path(path, ResolveFlags::empty())?;
    if !meta.is_file() || meta.uid() != uid || meta.len() != COOKIE as u64 {
        return Err(io::Error::other(format!("it is no file of {COOKIE} bytes that belongs to user {uid}")));
    }
    let mut cookie = Vec::new();
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?.take(COOKIE as u64).read_to_end(&mut cookie)?;
    Ok(cookie)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn own() -> u32 {
        nix::unistd::geteuid().as_raw()
    }

    /// A server that says this to the first client, after it has read the whole message.
    fn server(path: &Path, says: Vec<u8>) -> std::thread::JoinHandle<Vec<u8>> {
        let listener = UnixListener::bind(path).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut message = vec![0; 20 + 15 + 5 + COOKIE];
            stream.read_exact(&mut message).unwrap();
            stream.write_all(&says).unwrap();
            message
        })
    }

    fn answer(words: [u32; 3]) -> Vec<u8> {
        let head = [15, u32::MAX, 0, 0, 0].into_iter().flat_map(u32::to_be_bytes);
        head.chain(words.into_iter().flat_map(|word| [b"L".as_slice(), &word.to_be_bytes()].concat())).collect()
    }

    #[test]
    fn a_pulseaudio_server_says_whether_the_cookie_is_right() {
        let folder = tempfile::tempdir().unwrap();
        for (at, (says, expected)) in [
            (answer([2, 0, 35]), "Ok(())"),
            (answer([0, 0, 1]), "it denies the access: it wants its cookie"),
            (answer([0, 0, 7]), "it refuses clients (error 7)"),
            (vec![0; 35], "it does not speak PulseAudio's protocol"),
            (vec![], "it closed the connection"),
        ]
        .into_iter()
        .enumerate()
        {
            let path = folder.path().join(at.to_string());
            let heard = server(&path, says);
            let (socket, _) = open_socket(&path, own()).unwrap();
            let cookie = vec![7; COOKIE];
            let said = format!("{:?}", lets_in(socket.as_fd(), Some(&cookie)));
            assert!(said.contains(expected), "{said}");
            let heard = heard.join().unwrap();
            assert_eq!(heard[..4], 276u32.to_be_bytes());
            assert_eq!(heard[40..], cookie);
        }
    }

    #[test]
    fn only_a_socket_of_the_user_without_a_link_on_the_way_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let error = |path: &Path, uid| open_socket(path, uid).unwrap_err();
        assert_eq!(error(&path, own()).kind(), io::ErrorKind::NotFound);
        let listener = UnixListener::bind(&path).unwrap();
        let (socket, _) = open_socket(&path, own()).unwrap();
        connects(socket.as_fd()).unwrap();
        drop(listener);
        assert_eq!(connects(socket.as_fd()).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert!(error(&path, own() + 1).to_string().contains("it belongs to user"));
        std::os::unix::fs::symlink(&path, folder.path().join("link")).unwrap();
        assert_eq!(error(&folder.path().join("link"), own()).to_string(), "it is no socket");
        std::os::unix::fs::symlink(folder.path(), folder.path().join("folder")).unwrap();
        assert_eq!(error(&folder.path().join("folder/socket"), own()).raw_os_error(), Some(libc::ELOOP));
        assert_eq!(error(folder.path(), own()).to_string(), "it is no socket");
    }

    #[test]
    fn a_cookie_is_the_users_own_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cookie");
        std::fs::write(&path, [1; COOKIE]).unwrap();
        assert_eq!(read_cookie(&path, own()).unwrap(), [1; COOKIE]);
        assert!(read_cookie(&path, own() + 1).is_err());
        std::fs::write(&path, [1; COOKIE + 1]).unwrap();
        assert!(read_cookie(&path, own()).is_err());
        assert!(read_cookie(folder.path(), own()).is_err());
        assert!(read_cookie(Path::new("/dev/zero"), 0).is_err());
    }
}
