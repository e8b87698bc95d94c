//! The emulated screen, graphics card and serial port.

use std::net::IpAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::machine::named::Named;
use crate::machine::problems::{Problems, consists_of};
use crate::machine::subject::Subject;
use crate::units::Size;

/// VNC counts its displays from here; QEMU cannot listen below.
pub(in crate::machine) const FIRST_VNC: u16 = 5900;
/// More devices than a person plugs in at once; the controller has ports for other devices too.
const MOST_REDIRECTED: u8 = 8;

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
    Gtk(Window),
    /// An SDL window of the desktop that started the machine.
    Sdl(Window),
    /// An object on the session bus, which a program of the desktop shows (QEMU's `org.qemu.Display1`).
    DBus(Bus),
    /// Nowhere, but a GPU of the host renders it: for `video: VirtioGl` in a guest without a screen.
    EglHeadless,
}

/// A window of the desktop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Whether QEMU draws the window with OpenGL. Default: only with `video: VirtioGl`, which needs it.
    #[serde(default)]
    pub gl: Option<bool>,
}

/// How the screen is reached by D-Bus.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bus {
    /// The address of the bus, as D-Bus writes it. Default: the session bus of the user that QEMU runs as. That user must have an
    /// account: the one who starts the machine, or, if that is root, the one in `user`.
    #[serde(default)]
    pub bus: Option<String>,
    /// Whether the host and the guest share the clipboard. The guest needs `spice-vdagent`. Default: no.
    #[serde(default)]
    pub clipboard: Option<bool>,
}

/// How a server of the screen is reached, and what it offers to its clients.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// The TCP port. Default: none, but a UNIX socket for one user.
    #[serde(default)]
    pub port: Option<u16>,
    /// The IP address to listen on; needs `port`. Default `127.0.0.1`, which every user of the host reaches. Everybody who
    /// reaches the address controls the guest, unless there is a `password_file`.
    #[serde(default)]
    pub address: Option<IpAddr>,
    /// The account that may use the UNIX socket if root starts the machine: a name, or a user id as text. Default: the user
    /// whose desktop it is.
    #[serde(default)]
    pub for_user: Option<String>,
    /// A file whose only line is the password that clients must give. VNC takes the first 8 characters and no more.
    /// Default: no password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// The certificate by which clients know the host, and encrypt what they send (TLS); needs `port`. SPICE then listens with
    /// TLS alone. Default: no encryption.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// Whether the host and the guest share the clipboard. The guest needs `spice-vdagent`, which with SPICE also fits its
    /// resolution to the window. Default: with SPICE, for guests other than `Other`.
    #[serde(default)]
    pub clipboard: Option<bool>,
    /// How many USB devices of the client's host a SPICE client can hand to the guest at once, 0 to 8. Default 0.
    #[serde(default)]
    pub usb_redirection: Option<u8>,
}

/// A certificate with its key, each a file in PEM's form. vfio-run reads them and QEMU's account needs no right to them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate, followed by those that sign it if there are any.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The certificate of the authority that has signed it. Default: `cert`, as for one that is signed by itself.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

/// The emulated graphics card, QEMU's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum Video {
    /// None.
    None,
    /// `VGA`: works with every guest.
    Std,
    /// `virtio-vga`.
    Virtio,
    /// `virtio-vga-gl`: a GPU of the host renders what a Linux guest draws in three dimensions.
    VirtioGl(Rendering),
    /// `qxl-vga`, for SPICE.
    Qxl,
    /// `cirrus-vga`, for systems from before 2005.
    Cirrus,
}

/// The GPU of the host that renders.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rendering {
    /// Its device node. Default: the first of a GPU that the guest is not given. `Gtk` and `Sdl` use the desktop's GPU and take
    /// no notice.
    #[serde(default)]
    pub render_node: Option<PathBuf>,
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

/// What the second serial port is connected to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum SecondSerial {
    /// Nothing; there is no port.
    #[default]
    None,
    /// A file that QEMU appends to: `File("debug.log")`.
    File(PathBuf),
    /// A UNIX socket `serial-2.sock` in the machine's run directory.
    Socket,
}

impl Display {
    /// Its name, if it shows nothing without a graphics card. SPICE without a card still carries input and sound, as Looking
    /// Glass wants.
    pub(in crate::machine) fn needs_card(&self) -> Option<&'static str> {
        match self {
            Self::Vnc(_) => Some("Vnc"),
            Self::Gtk(_) => Some("Gtk"),
            Self::Sdl(_) => Some("Sdl"),
            Self::DBus(_) => Some("DBus"),
            Self::EglHeadless => Some("EglHeadless"),
            Self::Spice(_) | Self::None => None,
        }
    }

    /// How clients reach it, if it is a server.
    pub fn server(&self) -> Option<&Listen> {
        match self {
            Self::Vnc(listen) | Self::Spice(listen) => Some(listen),
            Self::None | Self::Gtk(_) | Self::Sdl(_) | Self::DBus(_) | Self::EglHeadless => None,
        }
    }
}

impl Subject for Display {
    fn check(&self, problems: &mut Problems) {
        match self {
            Self::Vnc(listen) => {
                listens(listen, FIRST_VNC, problems);
                if listen.usb_redirection.is_some() {
                    problems
                        .add("display.usb_redirection", "VNC redirects no USB devices")
                        .help("use `Spice(usb_redirection: …)`, or leave `usb_redirection` out");
                }
            }
            Self::Spice(listen) => {
                listens(listen, 1, problems);
                if let Some(number) = listen.usb_redirection.filter(|number| *number > MOST_REDIRECTED) {
                    problems
                        .add("display.usb_redirection", format!("`usb_redirection` cannot be {number}"))
                        .allowed(format!("0 to {MOST_REDIRECTED} devices"));
                }
            }
            Self::DBus(Bus { bus: Some(address), .. }) => is_bus(address, problems),
            Self::None | Self::Gtk(_) | Self::Sdl(_) | Self::DBus(_) | Self::EglHeadless => {}
        }
    }

    fn paths(&mut self) -> Vec<(String, &mut PathBuf)> {
        let (Self::Vnc(listen) | Self::Spice(listen)) = self else { return Vec::new() };
        let mut paths = Vec::new();
        paths.extend(listen.password_file.as_mut().map(|path| ("display.password_file".to_owned(), path)));
        if let Some(Tls { cert, key, ca }) = &mut listen.tls {
            paths.push(("display.tls.cert".to_owned(), cert));
            paths.push(("display.tls.key".to_owned(), key));
            paths.extend(ca.as_mut().map(|path| ("display.tls.ca".to_owned(), path)));
        }
        paths
    }

    fn name(&self, named: &mut Named) {
        if let Self::DBus(Bus { bus, .. }) = self {
            named.session_bus = Some(bus.clone());
        }
        match self.server() {
            Some(Listen { port: Some(port), .. }) => drop(named.ports.insert(*port)),
            Some(Listen { for_user: Some(user), .. }) => named.accounts.push(user.clone()),
            Some(_) => named.desktop = true,
            None => {}
        }
    }
}

/// Refuses what is no address of a bus (D-Bus Specification, "Server Addresses").
fn is_bus(address: &str, problems: &mut Problems) {
    let kind = address.split_once(':').map(|(kind, _)| kind);
    if !kind.is_some_and(|kind| !kind.is_empty() && consists_of(kind, "-")) || address.contains(char::is_control) {
        problems
            .add("display.bus", format!("`bus` cannot be {address:?}"))
            .allowed("an address of D-Bus, such as \"unix:path=/run/user/1000/bus\"")
            .help("leave `bus` out for the session bus");
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
    if listen.tls.is_some() && listen.port.is_none() {
        problems.add("display.tls", "`display` has `tls` but no `port`").help(format!(
            "add `port: {}`; nothing leaves the host by a UNIX socket, so leave `tls` out for one",
            FIRST_VNC
        ));
    }
    let Some(user) = &listen.for_user else { return };
    if listen.port.is_some() {
        problems
            .add("display.for_user", "`for_user` has no effect with a `port`, which every user of the host reaches")
            .help("leave `port` out for a UNIX socket, or use `password_file`");
    } else if user.is_empty() || user.starts_with(['-', '.']) || user.len() > 32 || !consists_of(user, "-._") {
        problems
            .add("display.for_user", format!("`for_user` cannot be {user:?}"))
            .allowed("an account's name, or its number in quotes");
    }
}

impl Video {
    /// Refuses a size of the frame buffer that the card does not have.
    pub(in crate::machine) fn check_memory(card: Option<&Self>, memory: Size, problems: &mut Problems) {
        const FIELD: &str = "video_memory";
        let mib = memory.as_bytes() >> 20;
        let whole = memory.as_bytes().is_multiple_of(1 << 20);
        let most = match card {
            Some(Self::Std | Self::Qxl) => 512,
            Some(Self::Cirrus) => 16,
            Some(Self::None | Self::Virtio | Self::VirtioGl(_)) | None => {
                let has = "only the cards `Std`, `Qxl` and `Cirrus` have memory of a size to choose";
                problems.add(FIELD, has).help("write `video: Qxl`, or leave `video_memory` out");
                return;
            }
        };
        if !whole || !mib.is_power_of_two() || !(4..=most).contains(&mib) {
            problems
                .add(FIELD, format!("`{FIELD}` cannot be {memory}"))
                .allowed(format!("4 MiB, and twice that, and so on up to {most} MiB"));
        }
    }
}

impl Subject for Video {
    fn paths(&mut self) -> Vec<(String, &mut PathBuf)> {
        let Self::VirtioGl(Rendering { render_node: Some(node) }) = self else { return Vec::new() };
        vec![("video.render_node".to_owned(), node)]
    }

    fn name(&self, named: &mut Named) {
        named.render_nodes |= matches!(self, Self::VirtioGl(_));
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

impl Subject for SecondSerial {
    fn paths(&mut self) -> Vec<(String, &mut PathBuf)> {
        match self {
            Self::File(path) => vec![("second_serial.File".to_owned(), path)],
            Self::None | Self::Socket => Vec::new(),
        }
    }
}
