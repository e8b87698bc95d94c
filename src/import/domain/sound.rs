//! The guest's sound card, and what plays it.

use crate::import::account::{ALL, Verdict};
use crate::import::context::Context;
use crate::import::xml::{Node, child, children};
use crate::machine::{Audio, Display, Sound, SoundCard};

const SILENT: &str =
    "a sound card that nothing played is left out; a graphics card that is passed through has sound of its own";

/// Reads cards and backends.
pub fn read(cx: &mut Context, devices: Node) {
    let cards: Vec<Node> = children(devices, "sound").collect();
    let backends: Vec<Node> = children(devices, "audio").collect();
    let wanted = cards.first().and_then(|card| child(*card, "audio")).and_then(|audio| audio.attribute("id"));
    let backend = backends.iter().copied().find(|backend| wanted.is_none_or(|id| backend.attribute("id") == Some(id)));
    let Some(first) = cards.first().copied() else {
        backends.iter().for_each(|node| cx.left(*node, &[ALL], "the guest has no sound card"));
        return;
    };
    if let Some(old @ ("pcspk" | "sb16" | "es1370")) = first.attribute("model") {
        let words = format!("ICH9's sound card (HD Audio) in place of {old}, for which few guests have a driver");
        cx.improved(first, &["model"], words);
    }
    let mut sound = Sound::default();
    match first.attribute("model") {
        Some("ac97") => sound.card = SoundCard::Ac97,
        Some("usb") => sound.card = SoundCard::Usb,
        Some("virtio") => sound.card = SoundCard::Virtio,
        _ => {}
    }
    sound.microphone = children(first, "codec").any(|codec| codec.attribute("type") == Some("micro"));
    let spice = matches!(cx.machine.display, Display::Spice(_));
    let kind = backend.and_then(|backend| backend.attribute("type")).unwrap_or(if spice { "spice" } else { "none" });
    let audio: Option<fn(Sound) -> Audio> = match kind {
        "pulseaudio" => Some(Audio::Pulse),
        "pipewire" => Some(Audio::PipeWire),
        "jack" => Some(Audio::Jack),
        "alsa" => Some(Audio::Alsa),
        "spice" if spice => Some(Audio::Spice),
        "sdl" | "oss" | "coreaudio" | "dbus" => Some(Audio::Auto),
        _ => None,
    };
    if let (Some(_), Some(backend)) = (audio, backend) {
        parts(backend, kind, &mut sound);
    }
    match audio {
        Some(audio) => {
            cx.machine.audio = audio(sound);
            cards.iter().for_each(|node| cx.take(*node, &[ALL]));
        }
        None => cards.iter().for_each(|node| cx.improved(*node, &[ALL], SILENT)),
    }
    for node in backends {
        match (audio.is_some() && Some(node) == backend, kind) {
            (true, "spice") => cx.take(node, &[ALL]),
            (true, _) => cx.taken(
                node,
                &[ALL],
                "the sound goes to the server of the user whose desktop it is; vfio-run finds its socket",
            ),
            (false, _) => cx.left(node, &[ALL], "no sound card plays on it"),
        }
    }
    if cards.len() > 1 {
        cx.account.remark(Verdict::Improved, "the guest has one sound card");
    }
}

/// What is played on and recorded from.
fn parts(backend: Node, kind: &str, sound: &mut Sound) {
    let of = |name: &str| {
        let node = child(backend, name)?;
        let key = if kind == "jack" {
            "connectPorts"
        } else if kind == "alsa" {
            "dev"
        } else {
            "name"
        };
        node.attribute(key)
            .filter(|value| !value.is_empty() && value.len() <= 200 && !value.contains(','))
            .map(str::to_owned)
    };
    // A client's own name for itself leads nowhere.
    if matches!(kind, "jack" | "alsa") {
        sound.output = of("output");
        sound.input = of("input");
        sound.microphone |= sound.input.is_some();
    }
    if let Some(output) = child(backend, "output") {
        let latency = output.attribute("latency").and_then(|us| us.parse::<u32>().ok()).map(|us| us / 1000);
        sound.latency_ms = latency.filter(|ms| (2..=1000).contains(ms));
    }
}

/// The server that QEMU's word for an audio backend means.
pub fn server(word: &str) -> Option<fn(Sound) -> Audio> {
    match word {
        "pa" => Some(Audio::Pulse),
        "pipewire" => Some(Audio::PipeWire),
        "jack" => Some(Audio::Jack),
        "alsa" => Some(Audio::Alsa),
        "sdl" | "oss" => Some(Audio::Auto),
        _ => None,
    }
}
