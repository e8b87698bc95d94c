//! The emulated screen, graphics card and serial port.

use std::net::IpAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the emulated screen is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum Display {
    /// Nowhere.
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

/// Where a display server listens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// TCP port; without it, a UNIX socket that only QEMU's own account can reach.
    #[serde(default)]
    pub port: Option<u16>,
    /// Address to listen on. Default `127.0.0.1`; there is no password, so think before you open it.
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
    /// A file that is appended to.
    File(PathBuf),
    /// A UNIX socket `serial.sock` in the machine's run directory.
    Socket,
}
