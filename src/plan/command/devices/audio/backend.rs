//! What plays the guest's sound: the `-audiodev` that QEMU gets, and what must be handed over with it.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::driver::{BACKEND, Backend, package};
use super::server;
use crate::machine::{Audio, Sound};
use crate::plan::Severity::{Hard, Soft};
use crate::plan::draft::{Draft, by_default};
use crate::plan::process::permission::may_open;
use crate::qemu::Role;
use crate::qemu::command::QemuOption;

/// Chooses it. A server that the machine file names and that cannot be had forbids the start; with `Auto` the guest starts
/// without sound.
pub(super) fn choose(draft: &mut Draft, audio: &Audio, sound: &Sound) -> Backend {
    match audio {
        Audio::Auto(_) | Audio::PipeWire(_) | Audio::Pulse(_) => server::choose(draft, audio, sound),
        Audio::Jack(_) => jack(draft),
        Audio::Alsa(_) => alsa(draft),
        Audio::Spice(_) => of_driver(draft, "spice"),
        Audio::None => Backend::NOWHERE,
    }
}

/// Adds the backend.
pub(super) fn write(draft: &mut Draft, sound: &Sound, backend: &Backend) {
    let role = if matches!(backend.driver, "none" | "spice") { Role::Plain } else { Role::Sound };
    let mut object = Map::new();
    object.insert("driver".to_owned(), backend.driver.into());
    object.insert("id".to_owned(), BACKEND.into());
    object.extend(backend.members.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    if let Some(latency) = sound.latency_ms.filter(|_| backend.driver != "none") {
        // QEMU moves samples when its timer runs: four times in the time that they may take.
        object.insert("timer-period".to_owned(), (latency * 1000 / 4).clamp(500, 10_000).into());
    }
    object.insert("out".to_owned(), direction(draft, sound, backend, sound.output.as_deref()));
    let heard = match sound.microphone {
        true => direction(draft, sound, backend, sound.input.as_deref()),
        // Also if the card has a microphone: QEMU opens no stream that records.
        false => json!({ "voices": 0 }),
    };
    object.insert("in".to_owned(), heard);
    let origin = draft.file("audio");
    draft.push(QemuOption::json("-audiodev", object, origin).with_role(role));
}

/// The members of one direction, in microseconds and in the words of the driver.
fn direction(draft: &Draft, sound: &Sound, backend: &Backend, name: Option<&str>) -> Value {
    let mut members = Map::new();
    let mut set = |key: &str, value: Value| drop(members.insert(key.to_owned(), value));
    let latency = sound.latency_ms.map(|milliseconds| milliseconds * 1000);
    let machine = draft.machine.name.as_str();
    match backend.driver {
        "pa" | "pipewire" => {
            name.into_iter().for_each(|name| set("name", name.into()));
            set("stream-name", machine.into());
            latency.into_iter().for_each(|latency| set("latency", latency.into()));
        }
        "alsa" => {
            name.into_iter().for_each(|name| set("dev", name.into()));
            latency.into_iter().for_each(|latency| set("period-length", (latency / 4).into()));
        }
        "jack" => {
            set("client-name", machine.into());
            name.into_iter().for_each(|name| set("connect-ports", name.into()));
        }
        _ => return json!({}),
    }
    if backend.driver != "jack" {
        latency.into_iter().for_each(|latency| set("buffer-length", latency.into()));
    }
    members.into()
}

/// Whether this QEMU has the driver; else says so.
fn has_driver(draft: &mut Draft, driver: &str) -> bool {
    let known = draft.qemu.audiodevs.contains(driver);
    if !known {
        let detail = format!("{} has no sound driver `{driver}`", draft.qemu.binary.display());
        draft.no("audio.driver", Hard, detail, package(driver));
        draft.about("audio");
    }
    known
}

fn of_driver(draft: &mut Draft, driver: &'static str) -> Backend {
    match has_driver(draft, driver) {
        true => Backend { driver, members: Vec::new() },
        false => Backend::NOWHERE,
    }
}

/// JACK lets in programs of its own user alone, and vfio-run cannot ask it.
fn jack(draft: &mut Draft) -> Backend {
    const KEY: &str = "audio.server";
    let us = draft.account.as_ref().map_or(draft.host.process.uid, |account| account.uid);
    let desktop = draft.host.desktop.as_ref();
    match desktop {
        Some(desktop) if desktop.uid != us => {
            let detail = format!(
                "a JACK server lets in programs of its own user alone: QEMU runs as user {us}, and the desktop is {}'s",
                desktop.user()
            );
            let remedy = format!("use `audio: PipeWire`, or start the machine as {}", desktop.user());
            draft.no(KEY, Hard, detail, &remedy);
        }
        _ => {
            let detail = "vfio-run cannot ask whether a JACK server runs; without one the guest plays nowhere";
            draft.unknown(KEY, Soft, detail);
        }
    }
    draft.about("audio");
    if draft.account.is_some() {
        let origin = || by_default("where a JACK server's clients find it");
        draft.variable("XDG_RUNTIME_DIR", format!("/run/user/{us}"), origin());
    }
    of_driver(draft, "jack")
}

/// The host's own sound cards, by their nodes.
fn alsa(draft: &mut Draft) -> Backend {
    const KEY: &str = "audio.nodes";
    let node = Audio::ALSA_NODE;
    match draft.host.files.get(Path::new(node)).cloned() {
        None => draft.unknown(KEY, Hard, format!("vfio-run did not look for {node}")),
        Some(file) if file.kind.is_none() => {
            draft.no(
                KEY,
                Hard,
                format!("this host has no sound card: there is no {node}"),
                "use `audio: Auto` or `None`",
            );
            draft.about("audio");
        }
        Some(file) if draft.account.is_some() => {
            let group = file.gid;
            draft.yes(KEY, Hard, format!("QEMU's account gets the sound cards' group, {group}"));
            let groups = draft.account.as_mut().map(|account| &mut account.groups);
            groups.into_iter().filter(|groups| !groups.contains(&group)).for_each(|groups| groups.push(group));
        }
        Some(file) => match may_open(&file, &draft.host.process) {
            Some(true) => draft.yes(KEY, Hard, format!("{node} is there")),
            // systemd-logind gives the nodes to who is at the screen, by an access list.
            Some(false) | None => {
                draft.unknown(KEY, Hard, format!("whether you can open {node} depends on your groups and session"));
                draft.about("audio");
            }
        },
    }
    of_driver(draft, "alsa")
}
