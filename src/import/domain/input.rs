//! The host's keyboard and mouse that are shared (evdev), and virtio's.

use std::path::{Path, PathBuf};

use crate::import::account::{ALL, Verdict};
use crate::import::context::Context;
use crate::import::xml::{Node, child, children};
use crate::machine::{Input, InputDevice, Toggle};

/// Reads the input devices.
pub fn read(cx: &mut Context, devices: Node) {
    for node in children(devices, "input") {
        match (node.attribute("type"), node.attribute("bus")) {
            (Some("evdev"), _) => evdev(cx, node),
            (Some("passthrough"), _) => cx.needs(
                node,
                &[ALL],
                "a device that is the guest's alone: write `usb: [\"046d:c547\"]` with its id, or share it: `input: [(keyboard: \"…\")]`",
            ),
            (Some("keyboard" | "mouse"), Some("virtio")) => {
                cx.machine.virtio_input = Some(true);
                cx.take(node, &["type", "bus", "model"]);
            }
            (Some("tablet"), Some("virtio")) => cx.done(node, &[ALL], "a tablet comes with a screen"),
            _ => {}
        }
    }
}

fn evdev(cx: &mut Context, node: Node) {
    let Some(source) = child(node, "source") else { return };
    let Some(dev) = source.attribute("dev") else { return };
    let repeat = source.attribute("repeat").map(|repeat| repeat == "on");
    let grab_all = (source.attribute("grab") == Some("all")).then_some(true);
    let toggle = source.attribute("grabToggle").and_then(toggle);
    cx.take(node, &["type"]);
    cx.take(source, &["dev", "repeat", "grab"]);
    if toggle.is_some() {
        cx.take(source, &["grabToggle"]);
    }
    add(cx, dev, grab_all, repeat, toggle);
}

/// The keys of libvirt's and QEMU's word.
pub fn toggle(word: &str) -> Option<Toggle> {
    Toggle::ALL.into_iter().find(|toggle| toggle.word() == word)
}

/// Adds an event device.
pub fn add(cx: &mut Context, dev: &str, grab_all: Option<bool>, repeat: Option<bool>, toggle: Option<Toggle>) {
    let keyboard = is_keyboard(dev).unwrap_or(grab_all == Some(true) || repeat == Some(true));
    let (path, numbered) = stable(cx, dev);
    let list = match &mut cx.machine.input {
        Some(Input::Devices(list)) => list,
        other => {
            *other = Some(Input::Devices(Vec::new()));
            let Some(Input::Devices(list)) = other else { return };
            list
        }
    };
    if list.iter().any(|device| device.path().is_some_and(|(known, _)| *known == path)) {
        return;
    }
    let first = keyboard && !list.iter().any(|device| device.keyboard.is_some());
    let index = list.len();
    list.push(InputDevice {
        keyboard: keyboard.then(|| path.clone()),
        mouse: (!keyboard).then_some(path),
        toggle: toggle.filter(|toggle| *toggle != Toggle::default()),
        // What a keyboard has anyway.
        repeat: repeat.filter(|repeat| *repeat != keyboard),
        grab_all: grab_all.filter(|_| keyboard && !first),
        optional: None,
    });
    if numbered {
        cx.account.remark(
            Verdict::TakenOver,
            "the number in /dev/input/eventN is another after a boot: name the device in /dev/input/by-id",
        );
        cx.comment(
            format!("input[{index}]"),
            "The number is another after a boot; `ls -l /dev/input/by-id` shows names that stay.",
        );
    }
}

/// A name that stays, if this host has one; and whether the name is still a number.
fn stable(cx: &Context, dev: &str) -> (PathBuf, bool) {
    let numbered = dev.starts_with("/dev/input/event");
    match numbered.then(|| cx.link_in("/dev/input/by-id", Path::new(dev))).flatten() {
        Some(link) => (link, false),
        None => (dev.into(), numbered),
    }
}

/// Whether the name of an event device says that it is a keyboard, or that it is none.
fn is_keyboard(dev: &str) -> Option<bool> {
    let name = dev.to_ascii_lowercase();
    match () {
        // udev's own end of the name (60-persistent-input.rules) says more than the maker's words before it.
        () if name.ends_with("-event-kbd") => Some(true),
        () if name.ends_with("-event-mouse") || name.ends_with("-event-joystick") => Some(false),
        () if name.contains("kbd") || name.contains("keyboard") => Some(true),
        () if name.contains("mouse") || name.contains("joystick") || name.contains("touchpad") => Some(false),
        () => None,
    }
}
