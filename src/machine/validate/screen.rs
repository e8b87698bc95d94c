//! Screen and graphics card.

use super::Problems;
use crate::machine::{Display, Listen, Machine, Video};

/// VNC counts its displays from here; QEMU cannot listen below.
const FIRST_VNC: u16 = 5900;

pub(super) fn check(machine: &Machine, problems: &mut Problems) {
    match &machine.display {
        Display::Vnc(listen) => listens(listen, FIRST_VNC, problems),
        Display::Spice(listen) => listens(listen, 1, problems),
        Display::None | Display::Gtk | Display::Sdl => {}
    }
    let window = match machine.display {
        Display::Vnc(_) => "Vnc",
        Display::Gtk => "Gtk",
        Display::Sdl => "Sdl",
        // SPICE without a card still carries input and sound, as Looking Glass wants.
        Display::Spice(_) | Display::None => return,
    };
    if machine.video == Some(Video::None) {
        problems
            .add("video", format!("`video: None` leaves `display: {window}` nothing to show"))
            .help("leave `video` out, or write `display: None`");
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
