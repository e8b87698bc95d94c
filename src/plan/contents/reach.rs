//! How people reach the guest of a plan: its screen, its console, its ports.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::Serialize;

use super::parts::Inherited;
use super::plan::Plan;
use super::screen::{Screen, screen};
use crate::change::Change;
use crate::units::Forward;

/// How people reach a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reach {
    /// Its emulated screen.
    pub screen: Option<Screen>,
    /// Whether it was given devices of the host; a graphics card among them shows its picture on its own outputs.
    pub devices: bool,
    /// The first serial port, if there is one.
    pub console: Option<Console>,
    /// Ports of the host that lead to it.
    pub ports: Vec<Forward>,
    /// Addresses that the host gives it.
    pub addresses: Vec<Ipv4Addr>,
}

/// Where the first serial port ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Console {
    /// In the launcher's terminal.
    Launcher,
    /// At this socket, for `vfio-run console`.
    Socket(PathBuf),
}

impl Reach {
    /// That of this plan's guest.
    pub fn of(plan: &Plan) -> Self {
        let given = plan.changes.iter().filter_map(|planned| match &planned.change {
            Change::Nat(nat) => nat.guest.as_ref().map(|guest| guest.address),
            _ => None,
        });
        Self {
            screen: screen(plan),
            devices: !plan.leases.is_empty(),
            console: socket(plan).map(|socket| if plan.console { Console::Launcher } else { Console::Socket(socket) }),
            ports: plan.forwards.clone(),
            addresses: given.collect(),
        }
    }

    /// That of a guest whose launcher was killed: its console goes on at the socket.
    pub fn without_launcher(plan: &Plan) -> Self {
        let console = socket(plan).map(Console::Socket);
        Self { console, ..Self::of(plan) }
    }

    /// For people: what it is, and how it is reached.
    pub fn lines(&self, name: &str) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        match &self.screen {
            Some(Screen::Window(kind)) => {
                lines.push(("screen", format!("a {kind} window of the desktop that started it")))
            }
            Some(Screen::Dbus) => lines.push(("screen", "org.qemu on the session bus".to_owned())),
            Some(screen) => lines.push(("screen", format!("`vfio-run view {name}` ({screen})"))),
            None if self.devices => {
                lines
                    .push(("screen", "none emulated; a graphics card in `pci` shows it on its own outputs".to_owned()));
            }
            None => {}
        }
        match &self.console {
            Some(Console::Launcher) => lines.push(("console", "the terminal of its launcher".to_owned())),
            Some(Console::Socket(_)) => lines.push(("console", format!("`vfio-run console {name}`"))),
            None => {}
        }
        if !self.ports.is_empty() {
            let all: Vec<String> = self.ports.iter().map(port).collect();
            lines.push(("ports", all.join(", ")));
        }
        if !self.addresses.is_empty() {
            let all: Vec<String> = self.addresses.iter().map(Ipv4Addr::to_string).collect();
            lines.push(("address", all.join(", ")));
        }
        lines
    }
}

/// Where QEMU listens for the first serial port.
fn socket(plan: &Plan) -> Option<PathBuf> {
    plan.descriptors.iter().find_map(|descriptor| match &descriptor.what {
        Inherited::Listen(path) if path.ends_with("serial.sock") => Some(path.clone()),
        _ => None,
    })
}

/// A port of the host, and where in the guest it leads.
fn port(forward: &Forward) -> String {
    let range = |first: u16, last: u16| if first == last { first.to_string() } else { format!("{first}-{last}") };
    let on = forward.address.map(|address| format!(" of {address}")).unwrap_or_default();
    let host = range(forward.host, forward.host_last());
    let guest = range(forward.guest, forward.guest_last());
    format!("{} {host}{on} → {guest}", forward.protocol.name())
}

impl fmt::Display for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LookingGlass { .. } => write!(f, "Looking Glass"),
            Self::Spice(server) => write!(f, "SPICE, {server}"),
            Self::Vnc(server) => write!(f, "VNC, {server}"),
            Self::Window(kind) => write!(f, "{kind}"),
            Self::Dbus => write!(f, "D-Bus"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::sample::{self, Shape};

    fn lines(fields: &str) -> String {
        lines_of(fields, Reach::of)
    }

    fn lines_of(fields: &str, of: fn(&Plan) -> Reach) -> String {
        let text = format!("(name: \"a\", guest: Linux, memory: (size: \"1 GiB\"), {fields})");
        let plan = sample::plan(&text, &sample::host(Shape::simple(4, 1)));
        let lines = of(&plan).lines("a");
        lines.iter().map(|(what, how)| format!("{what}: {how}")).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn what_the_machine_file_says_is_told() {
        assert_eq!(lines(""), "");
        assert_eq!(lines("serial: Console"), "console: the terminal of its launcher");
        assert_eq!(lines_of("serial: Console", Reach::without_launcher), "console: `vfio-run console a`");
        assert_eq!(lines_of("", Reach::without_launcher), "");
        let all = lines(
            "display: Vnc(port: 5901), serial: Socket, networks: [(backend: Slirp, forward: [\"2222:22\", \"udp 127.0.0.1:6000-6001\"])]",
        );
        assert_eq!(
            all,
            "screen: `vfio-run view a` (VNC, port 5901 of 127.0.0.1)\nconsole: `vfio-run console a`\n\
             ports: tcp 2222 → 22, udp 6000-6001 of 127.0.0.1 → 6000-6001"
        );
        assert_eq!(lines("display: Gtk()"), "screen: a gtk window of the desktop that started it");
    }
}
