//! The session bus: where it is, and whether it lets in the user that QEMU runs as.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zbus::message::Message;

use super::servers::{Answer, connects, open_socket};
use crate::host::{Environment, Process, Root, sessions};

/// How long the bus may take over an answer; it takes a millisecond.
const LIMIT: Duration = Duration::from_secs(2);
/// The name of the bus itself, its path and its interface (D-Bus Specification, "Message Bus Messages").
const BUS: &str = "org.freedesktop.DBus";
const PATH: &str = "/org/freedesktop/DBus";

/// What is to be found out about a session bus.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WantedBus {
    /// The bus that is meant; `None`: the session bus of the user that QEMU runs as.
    pub address: Option<String>,
    /// The account that QEMU runs as if root starts it, by name or number.
    pub user: Option<String>,
}

/// A session bus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionBus {
    /// Where it is, as D-Bus writes it: `unix:path=/run/user/1000/bus`.
    pub address: String,
    /// What it said.
    pub answer: Answer,
}

impl SessionBus {
    /// Finds the bus and asks it. `None`: nothing tells where it is.
    pub(in crate::host) fn read(
        root: &Root,
        environment: &Environment,
        process: &Process,
        wanted: &WantedBus,
    ) -> Option<Self> {
        let ours = process.uid != 0;
        let user = wanted.user.as_ref().filter(|_| !ours);
        let uid = user.and_then(|user| user.parse().ok().or_else(|| sessions::uid(root, user)));
        let in_folder = |folder: PathBuf| format!("unix:path={}", escaped(&folder.join("bus")));
        let told = || environment.variable("DBUS_SESSION_BUS_ADDRESS")?.to_str().map(str::to_owned);
        let address = match (&wanted.address, uid) {
            (Some(address), _) => address.clone(),
            (None, Some(uid)) => in_folder(format!("/run/user/{uid}").into()),
            (None, None) if ours => told().or_else(|| environment.folder("XDG_RUNTIME_DIR").map(in_folder))?,
            (None, None) => return None,
        };
        let answer = match at(&address).filter(|_| root.is_real()) {
            None => Answer::Unknown,
            Some(at) => match ask(&at, ours, uid) {
                Ok(true) => Answer::Accepts,
                Ok(false) => Answer::Unknown,
                Err(error) => Answer::Refuses(error.to_string()),
            },
        };
        Some(Self { address, answer })
    }
}

/// A socket that an address names.
#[derive(Debug, PartialEq, Eq)]
enum At {
    Path(PathBuf),
    Abstract(Vec<u8>),
}

/// The first socket of an address; `None`: it names none, or another kind of transport.
fn at(address: &str) -> Option<At> {
    let (transport, keys) = address.split(';').next()?.split_once(':')?;
    if transport != "unix" {
        return None;
    }
    keys.split(',').find_map(|pair| match pair.split_once('=')? {
        ("path", value) => Some(At::Path(std::ffi::OsStr::from_bytes(&unescaped(value)?).into())),
        ("abstract", value) => Some(At::Abstract(unescaped(value)?)),
        _ => None,
    })
}

/// A value of an address, in which `%2c` stands for a comma.
fn unescaped(value: &str) -> Option<Vec<u8>> {
    let mut parts = value.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend(part.get(2..)?.as_bytes());
    }
    Some(bytes)
}

/// A path as a value of an address: what need not be escaped are letters, digits and `-_/.\*`.
fn escaped(path: &Path) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_/.\\*".contains(&byte);
    let write = |byte: &u8| if plain(*byte) { char::from(*byte).to_string() } else { format!("%{byte:02x}") };
    path.as_os_str().as_bytes().iter().map(write).collect()
}

/// Whether the bus lets us in; `Ok(false)`: only QEMU's account can tell, and somebody listens. Root follows no link into a
/// folder of a user's.
fn ask(at: &At, ours: bool, owner: Option<u32>) -> io::Result<bool> {
    let stream = match at {
        At::Path(path) => match owner {
            Some(uid) => {
                return open_socket(path, uid).and_then(|(socket, _)| connects(socket.as_fd())).map(|()| false);
            }
            None => UnixStream::connect(path)?,
        },
        At::Abstract(name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)?,
    };
    if !ours {
        return Ok(false);
    }
    says_hello(stream, nix::unistd::geteuid().as_raw()).map(|()| true)
}

/// Does what each client does first (D-Bus Specification, "Authentication Protocol" and `Hello`). A bus that does not want a
/// user closes the connection only then.
fn says_hello(mut stream: UnixStream, uid: u32) -> io::Result<()> {
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    let name: String = uid.to_string().bytes().map(|byte| format!("{byte:02x}")).collect();
    stream.write_all(format!("\0AUTH EXTERNAL {name}\r\n").as_bytes())?;
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\r\n") && line.len() < 256 {
        stream.read_exact(&mut byte).map_err(silent)?;
        line.push(byte[0]);
    }
    if !line.starts_with(b"OK ") {
        return Err(io::Error::other(format!("it does not take user {uid}")));
    }
    let hello = Message::method_call(PATH, "Hello")
        .and_then(|call| call.destination(BUS))
        .and_then(|call| call.interface(BUS))
        .and_then(|call| call.build(&()))
        .map_err(io::Error::other)?;
    stream.write_all(b"BEGIN\r\n")?;
    stream.write_all(hello.data())?;
    stream.read_exact(&mut byte).map_err(silent)
}

/// What it means that a bus says nothing.
fn silent(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => io::Error::other("it closes the connection"),
        io::ErrorKind::WouldBlock => io::Error::other(format!("it did not answer within {} s", LIMIT.as_secs())),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn an_address_is_read_as_d_bus_writes_it() {
        let path = |text: &str| Some(At::Path(text.into()));
        for (address, expected) in [
            ("unix:path=/run/user/1000/bus", path("/run/user/1000/bus")),
            ("unix:guid=0,path=/tmp/a%2cb;unix:path=/other", path("/tmp/a,b")),
            ("unix:abstract=/tmp/dbus-x,guid=0", Some(At::Abstract(b"/tmp/dbus-x".to_vec()))),
            ("tcp:host=localhost,port=1", None),
            ("unix:path=/tmp/a%2", None),
            ("autolaunch:", None),
            ("", None),
        ] {
            assert_eq!(at(address), expected, "{address}");
        }
        assert_eq!(at(&format!("unix:path={}", escaped(Path::new("/a b,c")))), path("/a b,c"));
    }

    #[test]
    fn a_bus_that_lets_nobody_in_is_told_from_one_that_does() {
        let folder = tempfile::tempdir().unwrap();
        for (name, says, reply, expected) in [
            ("a", "OK 0\r\n", "l", "Ok(())"),
            ("b", "OK 0\r\n", "", "it closes the connection"),
            ("c", "REJECTED EXTERNAL\r\n", "", "it does not take user 7"),
            ("d", "", "", "it closes the connection"),
        ] {
            let path = folder.path().join(name);
            let listener = UnixListener::bind(&path).unwrap();
            let served = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut asked = [0; 19];
                stream.read_exact(&mut asked).unwrap();
                stream.write_all(says.as_bytes()).unwrap();
                let mut more = [0; 7 + 16];
                if says.starts_with("OK") {
                    stream.read_exact(&mut more).unwrap();
                    stream.write_all(reply.as_bytes()).unwrap();
                }
                (asked, more)
            });
            let said = format!("{:?}", says_hello(UnixStream::connect(&path).unwrap(), 7));
            assert!(said.contains(expected), "{name}: {said}");
            let (asked, more) = served.join().unwrap();
            assert_eq!(&asked, b"\0AUTH EXTERNAL 37\r\n");
            // A method call to whom it may concern, in little-endian words (as on each host of ours).
            assert!(!says.starts_with("OK") || more.starts_with(b"BEGIN\r\nl\x01"), "{more:?}");
        }
    }

    #[test]
    fn the_bus_is_that_of_the_user_whom_qemu_runs_as() {
        let root = Root::new("/nonexistent");
        let find = |uid: u32, variables: &[(&str, &str)], wanted: WantedBus| {
            let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), value.into())).collect();
            let environment = Environment { uid, variables, ..Environment::default() };
            let status = crate::host::process::Status::read(&root);
            let process = Process::read(&root, &environment, &status);
            SessionBus::read(&root, &environment, &process, &wanted).map(|bus| bus.address)
        };
        let (folder, told) = (("XDG_RUNTIME_DIR", "/run/user/7"), ("DBUS_SESSION_BUS_ADDRESS", "unix:path=/a"));
        assert_eq!(find(7, &[folder], WantedBus::default()).as_deref(), Some("unix:path=/run/user/7/bus"));
        assert_eq!(find(7, &[folder, told], WantedBus::default()).as_deref(), Some("unix:path=/a"));
        assert_eq!(find(7, &[], WantedBus::default()), None);
        assert_eq!(find(0, &[folder, told], WantedBus::default()), None);
        let named = WantedBus { user: Some("8".to_owned()), address: None };
        assert_eq!(find(0, &[folder], named.clone()).as_deref(), Some("unix:path=/run/user/8/bus"));
        assert_eq!(find(7, &[told], named).as_deref(), Some("unix:path=/a"));
        let other = WantedBus { address: Some("unix:path=/b".to_owned()), user: None };
        assert_eq!(find(0, &[], other).as_deref(), Some("unix:path=/b"));
    }
}
