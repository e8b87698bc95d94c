//! The emulated screen: how it is shown, the graphics card behind it, and a pointer that needs no grab.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Map, Value};

use crate::machine::{Display, Guest, Listen, Video};
use crate::plan::Severity::{Hard, Soft};
use crate::plan::draft::{self, Draft, by_default};
use crate::qemu::command::QemuOption;
use crate::qemu::device::Device;
use crate::qemu::pcie::VIDEO_ADDR;

/// VNC counts its displays from this port.
const VNC_BASE: u16 = 5900;

/// Display, card and pointer.
pub(in crate::plan::command) fn write(draft: &mut Draft) {
    let shown = draft.machine.display != Display::None;
    let origin = draft.file_or(shown, "display", "no display asked for");
    let window = match &draft.machine.display {
        Display::Gtk => "gtk",
        Display::Sdl => "sdl",
        Display::None | Display::Vnc(_) | Display::Spice(_) => "none",
    };
    if !draft.qemu.displays.contains(window) && window != "none" {
        let detail = format!("{} has no display `{window}`", draft.qemu.binary.display());
        draft.no(
            "display.known",
            Hard,
            detail,
            "install it (Debian: package `qemu-system-gui`), or use `Vnc` or `Spice`",
        );
        draft.about("display");
    }
    if window != "none" {
        reaches_desktop(draft);
    }
    let object = Map::from_iter([("type".to_owned(), Value::from(window))]);
    draft.push(QemuOption::json("-display", object, origin.clone()));
    match &draft.machine.display {
        Display::Vnc(listen) => {
            let first = vnc(draft, listen);
            draft.push(QemuOption::keys("-vnc", Some(&first), origin));
            server(draft, draft.qemu.vnc, "vnc");
        }
        Display::Spice(listen) => {
            let spice = QemuOption::keys("-spice", None, origin);
            let spice = match listen.port {
                Some(port) => spice.with("port", port.to_string()).with("addr", address(listen).to_string()),
                None => spice.with("unix", "on").with("addr", draft::text(&draft.paths.display.join("spice.sock"))),
            };
            // Who may connect is a matter of the socket's rights, or of the address, as the file's documentation says.
            draft.push(spice.with("disable-ticketing", "on"));
            server(draft, draft.qemu.spice, "spice");
        }
        Display::None | Display::Gtk | Display::Sdl => {}
    }
    card(draft, shown);
}

/// A desktop lets the programs of its own user in. Started by root, QEMU is somebody else, who has no right to the
/// sockets in the user's runtime folder nor to the X server's cookie.
fn reaches_desktop(draft: &mut Draft) {
    if draft.host.process.uid != 0 {
        return;
    }
    let (key, servers) = ("display.desktop", "use `display: Spice()` or `Vnc()` and a viewer");
    match draft.machine.user.as_deref() {
        Some(user) if !matches!(user, "root" | "0") => draft.unknown(
            key,
            Soft,
            format!("the window shows if {user}'s desktop is the one that `$DISPLAY` or `$WAYLAND_DISPLAY` names"),
        ),
        _ => draft.no(
            key,
            Soft,
            "root starts QEMU, and a desktop shows only windows of its own user's programs",
            &format!("start the machine as that user, name the user in `user`, or {servers}"),
        ),
    }
    draft.about("display");
}

fn address(listen: &Listen) -> IpAddr {
    listen.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// The word that `-vnc` takes.
fn vnc(draft: &mut Draft, listen: &Listen) -> String {
    let Some(port) = listen.port else {
        return format!("unix:{}", draft::text(&draft.paths.display.join("vnc.sock")));
    };
    if port < VNC_BASE {
        let detail = format!("QEMU's VNC server cannot listen on port {port}: its first is {VNC_BASE}");
        draft.no("display.port", Hard, detail, "choose a port from 5900 on, or leave it out for a UNIX socket");
        draft.about("display.port");
    }
    let number = port.saturating_sub(VNC_BASE);
    match address(listen) {
        IpAddr::V4(address) => format!("{address}:{number}"),
        IpAddr::V6(address) => format!("[{address}]:{number}"),
    }
}

fn server(draft: &mut Draft, known: bool, name: &str) {
    if !known {
        let detail = format!("{} has no {} server", draft.qemu.binary.display(), name.to_uppercase());
        draft.no("display.known", Hard, detail, "use another `display`, or a QEMU that has it");
        draft.about("display");
    }
}

/// The graphics card, and, if there is a screen, the pointer.
fn card(draft: &mut Draft, shown: bool) {
    let video = draft.machine.video.unwrap_or(match (shown, draft.machine.guest) {
        (false, _) => Video::None,
        (true, Guest::Linux) => Video::Virtio,
        (true, _) => Video::Std,
    });
    let driver = match video {
        Video::None => None,
        Video::Std => Some("VGA"),
        Video::Virtio => Some("virtio-vga"),
        Video::Qxl => Some("qxl-vga"),
        Video::Cirrus => Some("cirrus-vga"),
    };
    if let Some(driver) = driver {
        let origin = draft.file_or(draft.machine.video.is_some(), "video", "what the guest family has a driver for");
        // On the root complex, as graphics cards on a board are: firmware looks there first.
        draft.device(Device::new(driver, "video0").on("pcie.0").with("addr", VIDEO_ADDR), origin);
    }
    if shown {
        let why = "a pointer that follows the host's without being caught";
        draft.pcie_device(Device::new("qemu-xhci", "usb0"), by_default(why));
        draft.device(Device::new("usb-tablet", "tablet0").on("usb0.0"), by_default(why));
    }
}
