//! The emulated screen: server, card, channels of the clipboard, and USB devices of the client's.

use crate::import::account::{ALL, Verdict};
use crate::import::context::Context;
use crate::import::xml::{Node, child, children};
use crate::machine::{Display, DisplayBus, Listen, Rendering, Video, Window};
use crate::units::Size;

/// Reads screen and card.
pub fn read(cx: &mut Context, devices: Node) {
    let cards: Vec<Node> = children(devices, "video").collect();
    let no_card = cards
        .first()
        .and_then(|card| child(*card, "model"))
        .is_some_and(|model| model.attribute("type") == Some("none"));
    let mut shown = false;
    for node in children(devices, "graphics") {
        if shown {
            cx.left(node, &[ALL], "one screen is shown in one way; the first is taken");
            continue;
        }
        shown = graphics(cx, node, no_card);
    }
    for (index, node) in cards.iter().enumerate() {
        match index {
            0 => card(cx, *node),
            _ => cx.left(*node, &[ALL], "there is one emulated card"),
        }
    }
    channels(cx, devices);
    redirected(cx, devices);
}

fn graphics(cx: &mut Context, node: Node, no_card: bool) -> bool {
    let kind = node.attribute("type").unwrap_or_default();
    cx.done(node, &["keymap"], "the client's keyboard layout is the guest's");
    if no_card && matches!(kind, "vnc" | "sdl" | "dbus" | "egl-headless") {
        cx.improved(node, &[ALL], "without an emulated card there is nothing to show, so there is no screen");
        return false;
    }
    let gl = child(node, "gl").is_some_and(|gl| gl.attribute("enable") == Some("yes"));
    cx.machine.display = match kind {
        "vnc" => Display::Vnc(listen(cx, node)),
        "spice" => {
            let mut listen = listen(cx, node);
            if child(node, "clipboard").is_some_and(|clipboard| clipboard.attribute("copypaste") == Some("no")) {
                listen.clipboard = Some(false);
            }
            Display::Spice(listen)
        }
        "sdl" => Display::Sdl(Window { gl: gl.then_some(true) }),
        "egl-headless" => Display::EglHeadless,
        "dbus" => Display::DBus(DisplayBus { bus: node.attribute("address").map(str::to_owned), clipboard: None }),
        _ => {
            cx.needs(node, &[ALL], "a screen is shown by `Spice`, `Vnc`, `Gtk`, `Sdl` or `DBus`: `display: Vnc`");
            return false;
        }
    };
    cx.take(node, &["type"]);
    if let Some(clipboard) = child(node, "clipboard") {
        cx.take(clipboard, &["copypaste"]);
    }
    if let Some(render) = child(node, "gl") {
        if gl {
            cx.machine.video =
                Some(Video::VirtioGl(Rendering { render_node: render.attribute("rendernode").map(Into::into) }));
        }
        cx.take(render, &["enable", "rendernode"]);
    }
    for (name, words) in [
        ("image", "SPICE compresses as it is best for the client's line"),
        ("jpeg", "SPICE compresses as it is best for the client's line"),
        ("zlib", "SPICE compresses as it is best for the client's line"),
        ("playback", "SPICE compresses as it is best for the client's line"),
        ("streaming", "SPICE finds moving pictures by itself"),
        ("mouse", "the mouse is the client's"),
        ("filetransfer", "files go by `shares`"),
        ("channel", "all channels have the same protection"),
        ("audio", "`audio` says where sound goes"),
    ] {
        children(node, name).for_each(|below| cx.left(below, &[ALL], words));
    }
    cx.left(node, &["display", "xauth", "fullscreen"], "the window is the desktop's on which the machine is started");
    true
}

fn listen(cx: &mut Context, node: Node) -> Listen {
    let mut listen = Listen::default();
    let below = child(node, "listen");
    let address = below.and_then(|below| below.attribute("address")).or(node.attribute("listen"));
    let port = node.attribute("port").and_then(|port| port.parse::<u16>().ok()).filter(|port| *port >= 5900);
    let fixed = port.filter(|_| node.attribute("autoport") != Some("yes"));
    let local = address.is_none_or(|address| matches!(address, "127.0.0.1" | "localhost" | "::1"));
    let secret = node.attribute("passwd").is_some();
    let socket = below.is_some_and(|below| matches!(below.attribute("type"), Some("socket" | "none")));
    match fixed {
        Some(port) if !socket => {
            listen.port = Some(port);
            cx.take(node, &["port", "autoport"]);
        }
        _ => cx.done(
            node,
            &["port", "autoport", "websocket", "socket"],
            "the screen has a UNIX socket that only your user can open (`vfio-run plan` shows it); `port: 5930` for TCP",
        ),
    }
    let addresses = |cx: &mut Context, verdict: Verdict, words: &str| {
        cx.account.enter(verdict, node, &["listen"], words);
        if let Some(below) = below {
            cx.account.enter(verdict, below, &[ALL], words);
        }
    };
    match local {
        true => addresses(cx, Verdict::DoneByItself, "only this host's own users reach the screen"),
        false => addresses(
            cx,
            Verdict::Improved,
            "everybody on the network could reach the screen, unencrypted; only this host's users can now. With `password_file` and `tls`, \
             `address: \"0.0.0.0\"` opens it again",
        ),
    }
    if secret {
        let words = "write the password as the only line of a file that others cannot read, and name it: `display: Spice(port: 5930, \
                     password_file: \"…\")`; without one only this host's users reach the screen";
        cx.needs(node, &["passwd", "passwdValidTo", "connected"], words);
    }
    cx.left(node, &["passwd", "passwdValidTo", "connected"], "there is no password");
    // Nobody else reaches the screen, whatever was written.
    cx.left(
        node,
        &["tlsPort", "defaultMode"],
        "nothing leaves this host; `tls: (cert: \"…\", key: \"…\")` is for an `address` of its own",
    );
    cx.left(node, &["websocket", "p2p", "username"], "a client connects to the screen's socket or port");
    cx.left(
        node,
        &["sharePolicy", "powerControl"],
        "one client at a time, and the guest's power button is `vfio-run stop`",
    );
    listen
}

fn card(cx: &mut Context, node: Node) {
    let Some(model) = child(node, "model") else { return };
    let kind = model.attribute("type").unwrap_or_default();
    let rendered = child(model, "acceleration").is_some_and(|below| below.attribute("accel3d") == Some("yes"));
    let has_display = cx.machine.display != Display::None;
    let video = match kind {
        "none" => {
            if has_display {
                cx.machine.video = Some(Video::None);
            }
            cx.take(node, &[ALL]);
            return;
        }
        "vga" | "bochs" | "vmvga" | "gop" => Video::Std,
        "cirrus" => Video::Cirrus,
        "qxl" => Video::Qxl,
        "virtio" if rendered => Video::VirtioGl(Rendering::default()),
        "virtio" => Video::Virtio,
        "ramfb" => Video::Std,
        _ => return,
    };
    if !has_display {
        cx.improved(node, &[ALL], "an emulated card that nobody looks at: Windows would take it for a second screen");
        return;
    }
    if !matches!(cx.machine.video, Some(Video::VirtioGl(_))) {
        cx.machine.video = Some(video.clone());
    }
    let memory =
        model.attribute(if video == Video::Qxl { "vgamem" } else { "vram" }).and_then(|kib| kib.parse::<u64>().ok());
    let memory = memory.map(|kib| kib.saturating_mul(Size::KIB));
    if let Some(bytes) =
        memory.filter(|bytes| *bytes > 16 * Size::MIB && bytes.is_power_of_two() && *bytes <= 512 * Size::MIB)
        && matches!(video, Video::Std | Video::Qxl)
    {
        cx.machine.video_memory = Some(Size::bytes(bytes));
    }
    cx.take(model, &["type"]);
    cx.done(node, &[ALL], "the card is as large as its picture needs");
}

fn channels(cx: &mut Context, devices: Node) {
    for node in children(devices, "channel") {
        let target = child(node, "target");
        let name = target.and_then(|target| target.attribute("name")).unwrap_or_default();
        match (node.attribute("type"), name) {
            (Some("spicevmc" | "qemu-vdagent"), _) | (_, "com.redhat.spice.0") => match cx.machine.display {
                Display::Spice(_) => cx.done(node, &[ALL], "SPICE brings the clipboard's channel along"),
                _ => cx.left(node, &[ALL], "the clipboard's channel is SPICE's, and there is no SPICE"),
            },
            (_, "org.qemu.guest_agent.0") => {
                cx.done(node, &[ALL], "the guest agent's channel is there: `qga.sock` in the run directory")
            }
            (Some("spiceport"), _) => cx.left(
                node,
                &[ALL],
                "SPICE's other channels are for folders of the client's; `shares` are for the host's",
            ),
            (Some("unix" | "pty"), name)
                if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)) =>
            {
                let source = child(node, "source").and_then(|source| source.attribute("path"));
                own_channel(cx, node, name, source);
            }
            _ => {}
        }
    }
}

/// A channel of a program of the user's own.
fn own_channel(cx: &mut Context, node: Node, name: &str, path: Option<&str>) {
    let path = path
        .filter(|path| !path.contains(','))
        .map_or_else(|| format!("/run/vfio-run-display/{name}.sock"), str::to_owned);
    let id = format!("own{}", cx.machine.extra_args.len());
    cx.machine.extra_args.extend([
        "-chardev".to_owned(),
        format!("socket,id={id},path={path},server=on,wait=off"),
        "-device".to_owned(),
        // As JSON, since QEMU makes other devices before the controller that this is on.
        format!(r#"{{"driver":"virtserialport","chardev":"{id}","name":"{name}"}}"#),
    ]);
    cx.taken(
        node,
        &[ALL],
        "a channel of your own has no field, so it is in `extra_args`; QEMU's account must be able to make the socket",
    );
}

fn redirected(cx: &mut Context, devices: Node) {
    let nodes: Vec<Node> = children(devices, "redirdev").collect();
    let count = u8::try_from(nodes.len()).unwrap_or(u8::MAX).min(8);
    for node in nodes {
        match &mut cx.machine.display {
            Display::Spice(listen) => {
                listen.usb_redirection = Some(count);
                cx.take(node, &[ALL]);
            }
            _ => cx.left(node, &[ALL], "USB devices of a SPICE client need SPICE, and there is none"),
        }
    }
    for node in children(devices, "redirfilter") {
        cx.left(node, &[ALL], "the client chooses which device it hands over");
    }
}
