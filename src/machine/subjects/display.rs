//! The emulated screen, graphics card and serial port.

use std::net::IpAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::machine::problems::Problems;
use crate::machine::subject::Subject;

/// VNC counts its displays from here; QEMU cannot listen below.
const FIRST_VNC: u16 = 5900;

/// How the emulated screen is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum Display {
    /// Not at all.
    #[default]
    None,
    /// A VNC server, by default on a UNIX socket: `/run/vfio-run-display/NAME/vnc.sock` for root.
    Vnc(Listen),
    /// A SPICE server, by default on a UNIX socket: `/run/vfio-run-display/NAME/spice.sock` for root.
    Spice(Listen),
    /// A GTK window of the desktop that started the machine.
    Gtk,
    /// An SDL window of the desktop that started the machine.
    Sdl,
}

/// The address and port that a display server listens on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// The TCP port. Default: none, but a UNIX socket that only QEMU's account can reach.
    #[serde(default)]
    pub port: Option<u16>,
    /// The IP address to listen on; needs `port`. Default `127.0.0.1`. There is no password: everybody who reaches another
    /// address controls the guest.
    #[serde(default)]
    pub address: Option<IpAddr>,
}

/// The emulated graphics card, QEMU's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Video {
    /// None.
    None,
    /// `VGA`: works with every guest.
    Std,
    /// `virtio-vga`.
    Virtio,
    /// `qxl-vga`, for SPICE.
    Qxl,
    /// `cirrus-vga`: for guests older than Windows XP and Linux 3; slow, and small in its modes.
    Cirrus,
}

/// What the first serial port is connected to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum Serial {
    /// Nothing; there is no port.
    #[default]
    None,
    /// The terminal that started the machine. Ctrl-C goes to the guest; Ctrl-] asks the guest to power off.
    Console,
    /// A file that QEMU appends to: `File("serial.log")`.
    File(PathBuf),
    /// A UNIX socket `serial.sock` in the machine's run directory.
    Socket,
}

impl Display {
    /// Its name, if it shows nothing without a graphics card. SPICE without a card still carries input and sound, as Looking
    /// Glass wants.
    pub(in crate::machine) fn needs_card(&self) -> Option<&'static str> {
        match self {
            Self::Vnc(_) => Some("Vnc"),
            Self::Gtk => Some("Gtk"),
            Self::Sdl => Some("Sdl"),
            Self::Spice(_) | Self::None => None,
        }
    }
}

impl Subject for Display {
    fn check(&self, problems: &mut Problems) {
        match self {
            Self::Vnc(listen) => listens(listen, FIRST_VNC, problems),
            Self::Spice(listen) => listens(listen, 1, problems),
            Self::None | Self::Gtk | Self::Sdl => {}
        }
    }
}

fn listens(listen: &Listen, lowest: u16, problems: &mut Problems) {
    if let Some(port) = listen.port.filter(|port| *port < lowest) {
        problems
            .add("display.port", format!("`display.port` cannot be {port}"))
            .allowed(format!("{lowest} to 65535"))
            .help("without a port, the server listens on a UNIX socket in a folder of its own, which `vfio-run plan` names");
    }
    if listen.address.is_some() && listen.port.is_none() {
        problems
            .add("display.address", "`display` has an `address` but no `port`")
            .help(format!("add `port: {}`, or leave `address` out for a UNIX socket", FIRST_VNC));
    }
}

impl Subject for Serial {
    fn paths(&mut self) -> Vec<(String, &mut PathBuf)> {
        match self {
            Self::File(path) => vec![("serial.File".to_owned(), path)],
            Self::None | Self::Console | Self::Socket => Vec::new(),
        }
    }
}
