//! `qemu:commandline` and `qemu:override`: what libvirt itself has no words for.

use std::collections::BTreeMap;

use crate::import::account::{ALL, Verdict};
use crate::import::arguments::{self, At, Word};
use crate::import::context::Context;
use crate::import::xml::{Node, child, children};
use crate::machine::{Audio, Property, Sound};
use crate::units::PciAddress;

/// Reads both.
pub fn read(cx: &mut Context, root: Node, aliases: BTreeMap<String, PciAddress>) {
    overrides(cx, root, &aliases);
    let mut words = Vec::new();
    for line in children(root, "commandline") {
        for env in children(line, "env") {
            variable(cx, env);
        }
        let args = children(line, "arg")
            .filter_map(|arg| Some(Word { text: arg.attribute("value")?.to_owned(), at: At::Xml(arg) }));
        words.extend(args);
    }
    arguments::read(cx, &words, aliases);
}

fn variable(cx: &mut Context, env: Node) {
    let name = env.attribute("name").unwrap_or_default();
    if let Some((verdict, words)) = environment(cx, name, env.attribute("value").unwrap_or_default()) {
        cx.account.enter(verdict, env, &[ALL], words);
    }
}

/// What becomes of a variable of QEMU's environment; `None` if nobody knows it.
pub fn environment(cx: &mut Context, name: &str, value: &str) -> Option<(Verdict, &'static str)> {
    Some(match name {
        "QEMU_AUDIO_DRV" => {
            if cx.machine.audio == Audio::None && value == "pa" {
                cx.machine.audio = Audio::Auto(Sound::default());
            }
            (Verdict::TakenOver, "the sound goes to the server of the user whose desktop it is")
        }
        "DISPLAY" | "XAUTHORITY" | "WAYLAND_DISPLAY" | "XDG_RUNTIME_DIR" | "DBUS_SESSION_BUS_ADDRESS" => {
            (Verdict::DoneByItself, "vfio-run finds the desktop of the user whose it is")
        }
        _ if ["LD_", "GTK_", "SDL_", "MESA_"].iter().any(|start| name.starts_with(start)) => (
            Verdict::LeftOut,
            "QEMU's libraries are those of its own; if it needs others, name a script that sets this: `qemu: \"…\"`",
        ),
        _ if ["QEMU_PA_", "QEMU_AUDIO_", "QEMU_ALSA_", "PIPEWIRE_", "PULSE_", "JACK_"]
            .iter()
            .any(|start| name.starts_with(start)) =>
        {
            (
                Verdict::DoneByItself,
                "vfio-run finds the sound server of the user whose desktop it is; `latency_ms` says how late sound may come",
            )
        }
        _ => return None,
    })
}

fn overrides(cx: &mut Context, root: Node, aliases: &BTreeMap<String, PciAddress>) {
    let devices = children(root, "override").flat_map(|node| children(node, "device"));
    for device in devices {
        rotation(cx, device);
        let Some(address) = device.attribute("alias").and_then(|alias| aliases.get(alias)) else { continue };
        for property in child(device, "frontend").into_iter().flat_map(|frontend| children(frontend, "property")) {
            let (Some(name), Some(value)) = (property.attribute("name"), property.attribute("value")) else { continue };
            let value = match property.attribute("type") {
                Some("string") => Property::Text(value.to_owned()),
                Some("remove") | None => continue,
                Some(_) => arguments::property(value),
            };
            if arguments::given(cx, *address, name, value).is_some() {
                cx.account.enter(Verdict::TakenOver, property, &[ALL], "");
                cx.account.enter(Verdict::TakenOver, device, &["alias"], "");
            }
        }
    }
}

/// Whether a disk is a rotating one, which it says by itself.
fn rotation(cx: &mut Context, device: Node) {
    let properties: Vec<Node> = children(device, "frontend").flat_map(|node| children(node, "property")).collect();
    if !properties.is_empty() && properties.iter().all(|property| property.attribute("name") == Some("rotation_rate")) {
        cx.done(device, &[ALL], "a disk that takes discards says that it is no rotating one");
    }
}
