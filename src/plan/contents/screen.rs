//! Where the guest's screen is, read back from QEMU's command line.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::parts::{Content, Inherited};
use super::plan::Plan;
use crate::qemu::command::{OptionValue, QemuOption};

/// VNC counts its displays from this port.
const VNC_BASE: u16 = 5900;
/// The name under which QEMU and SPICE look for the authority that has signed certificates.
pub(in crate::plan) const AUTHORITY: &str = "ca-cert.pem";

/// Where people see the guest's screen, besides the outputs of cards of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Screen {
    /// In Looking Glass, by this memory; keyboard and mouse by a SPICE socket, if there is one.
    LookingGlass {
        /// The device node or file.
        memory: PathBuf,
        /// SPICE's socket.
        spice: Option<PathBuf>,
    },
    /// In a SPICE client.
    Spice(Server),
    /// In a VNC client.
    Vnc(Server),
    /// In a window of the desktop that started the machine: `gtk`, `sdl`.
    Window(String),
    /// In a program that finds it on the session bus.
    Dbus,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Server {
    /// On a UNIX socket.
    Socket(PathBuf),
    /// On a TCP port.
    Port {
        /// The address, in brackets if it is one of IPv6.
        address: String,
        /// The port.
        port: u16,
        /// Whether the port speaks TLS alone (SPICE).
        tls: bool,
    },
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "{}", path.display()),
            Self::Port { address, port, tls } => {
                write!(f, "port {port} of {address}{}", if *tls { ", TLS" } else { "" })
            }
        }
    }
}

/// The screen of a machine; `None` if it has none but cards of its own.
pub fn screen(plan: &Plan) -> Option<Screen> {
    let options = &plan.command.options;
    let named = |name: &str| options.iter().find(|option| option.name == name);
    let spice = named("-spice").and_then(spice);
    let memory = options.iter().find(|option| option.has_id("looking-glass-memory"));
    if let Some(memory) = memory.and_then(|option| json(option, "mem-path")) {
        let spice = match spice {
            Some(Server::Socket(socket)) => Some(socket),
            _ => None,
        };
        return Some(Screen::LookingGlass { memory: memory.into(), spice });
    }
    if let Some(spice) = spice {
        return Some(Screen::Spice(spice));
    }
    if let Some(vnc) = named("-vnc").and_then(vnc) {
        return Some(Screen::Vnc(vnc));
    }
    match named("-display").and_then(|option| json(option, "type"))? {
        kind @ ("gtk" | "sdl") => Some(Screen::Window(kind.to_owned())),
        "dbus" => Some(Screen::Dbus),
        _ => None,
    }
}

/// The file of the authority that signed the certificate of the screen's server, if that speaks TLS.
pub fn authority(plan: &Plan) -> Option<&Path> {
    let fd = plan.links.iter().find(|link| link.at.ends_with(AUTHORITY))?.fd;
    match &plan.descriptors.iter().find(|descriptor| descriptor.fd == fd)?.what {
        Inherited::Content(Content::Pem { file, .. }) => Some(file),
        _ => None,
    }
}

fn json<'o>(option: &'o QemuOption, key: &str) -> Option<&'o str> {
    match &option.value {
        OptionValue::Json(object) => object.get(key)?.as_str(),
        _ => None,
    }
}

fn spice(option: &QemuOption) -> Option<Server> {
    let address = option.get("addr")?;
    if option.get("unix") == Some("on") {
        return Some(Server::Socket(address.into()));
    }
    let (port, tls) =
        option.get("port").map(|port| (port, false)).or(option.get("tls-port").map(|port| (port, true)))?;
    let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    Some(Server::Port { address, port: port.parse().ok()?, tls })
}

fn vnc(option: &QemuOption) -> Option<Server> {
    let OptionValue::Keys { first: Some(first), .. } = &option.value else { return None };
    if let Some(socket) = first.strip_prefix("unix:") {
        return Some(Server::Socket(socket.into()));
    }
    let (address, number) = first.rsplit_once(':')?;
    Some(Server::Port { address: address.to_owned(), port: VNC_BASE.checked_add(number.parse().ok()?)?, tls: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::sample::{self, Shape};

    fn of(fields: &str) -> Option<Screen> {
        let text = format!("(name: \"a\", guest: Linux, memory: (size: \"1 GiB\"), {fields})");
        screen(&sample::plan(&text, &sample::host(Shape::simple(4, 1))))
    }

    #[test]
    fn each_display_is_found_again() {
        let port = |address: &str, port, tls| Server::Port { address: address.to_owned(), port, tls };
        let socket = |server: Option<Screen>| match server {
            Some(Screen::Spice(Server::Socket(path)) | Screen::Vnc(Server::Socket(path))) => path,
            other => panic!("{other:?}"),
        };
        assert_eq!(of(""), None);
        assert!(socket(of("display: Spice()")).ends_with("a/spice.sock"));
        assert!(socket(of("display: Vnc()")).ends_with("a/vnc.sock"));
        assert_eq!(of("display: Vnc(port: 5907)"), Some(Screen::Vnc(port("127.0.0.1", 5907, false))));
        assert_eq!(of("display: Spice(port: 5930, address: \"::1\")"), Some(Screen::Spice(port("[::1]", 5930, false))));
        let tls = "display: Spice(port: 5930, address: \"0.0.0.0\", tls: (cert: \"/c.pem\", key: \"/k.pem\"))";
        assert_eq!(of(tls), Some(Screen::Spice(port("0.0.0.0", 5930, true))));
        assert_eq!(of("display: Gtk()"), Some(Screen::Window("gtk".to_owned())));
        assert_eq!(of("display: DBus()"), Some(Screen::Dbus));
        let Some(Screen::LookingGlass { memory, spice: Some(spice) }) =
            of("display: Spice(), video: None, looking_glass: (width: 1920, height: 1080)")
        else {
            panic!("no Looking Glass")
        };
        assert!(memory.ends_with("looking-glass") && spice.ends_with("a/spice.sock"));
    }
}
