//! The sound server of a user, which QEMU reaches by the server's socket.

use super::driver::{Backend, package};
use crate::change::{Change, StopUnit, StopUserUnit};
use crate::host::Desktop;
use crate::host::desktop::{Answer, Found, SoundServerFact};
use crate::machine::{Audio, DisplayManager, Sound, SoundServer};
use crate::plan::Inherited;
use crate::plan::Severity::{self, Hard, Soft};
use crate::plan::draft::{Draft, by_default, text};
use crate::qemu::command::QemuOption;

const KEY: &str = "audio.server";
/// Units of a user's that play sound, by what is in their names.
const UNITS: [&str; 3] = ["pipewire", "pulse", "wireplumber"];

/// Why a server cannot be had, and what to do about it.
struct Why {
    what: String,
    remedy: String,
}

/// Chooses a server that lets QEMU in.
pub(super) fn choose(draft: &mut Draft, audio: &Audio, sound: &Sound) -> Backend {
    let severity = if matches!(audio, Audio::Auto(_)) { Soft } else { Hard };
    // Only who is root has a choice.
    if let (Some(user), true) = (&sound.user, draft.host.process.uid != 0) {
        let detail = format!("`audio.user: {user:?}` has no effect: only root can play on another user's server");
        draft.no("audio.user", Soft, detail, "start as root, or remove `audio.user`");
        draft.about("audio.user");
    }
    let Some(desktop) = draft.host.desktop.as_ref() else {
        return nobody(draft, sound, severity);
    };
    if let Some(unit) = ends_with(draft, desktop) {
        let (user, nothing) = (desktop.user(), "so the guest would have no sound");
        let remedy = format!("`loginctl enable-linger {user}` keeps them, or leave `audio` out");
        let (what, remedy) = match unit {
            Ending::Session(unit) => {
                (format!("{user}'s sound servers end with {unit}, which vfio-run stops, {nothing}"), remedy)
            }
            Ending::Server(unit) => (
                format!("vfio-run stops {unit} of {user}, {nothing}"),
                "remove it from `handover.user_units`, or leave `audio` out".to_owned(),
            ),
        };
        draft.no(KEY, severity, what, &remedy);
        draft.about("audio");
        return Backend::NOWHERE;
    }
    let mut reasons: Vec<Why> = Vec::new();
    for server in audio.servers() {
        match reach(draft, desktop, *server) {
            Err(why) => reasons.push(why),
            Ok(fact) => return take(draft, desktop, *server, fact, severity),
        }
    }
    let alone = audio.servers().len() == 1;
    let all: Vec<&str> = reasons.iter().map(|why| why.what.as_str()).collect();
    let what = all.join("; ");
    let detail = if alone { what } else { format!("no sound server of {} can be had: {what}", desktop.user()) };
    // What stands in the way of the last one is the least of it.
    let remedy = reasons.pop().map(|why| why.remedy).unwrap_or_default();
    draft.no(KEY, severity, detail, &remedy);
    draft.about("audio");
    Backend::NOWHERE
}

fn nobody(draft: &mut Draft, sound: &Sound, severity: Severity) -> Backend {
    let (detail, field) = match &sound.user {
        Some(user) => (format!("there is no account {user:?}"), "audio.user"),
        None => {
            ("nobody is at a screen of this host, so vfio-run cannot tell whose sound server it is".to_owned(), "audio")
        }
    };
    let remedy =
        "name an account in `audio.user`, whose servers stay after `loginctl enable-linger`, or leave `audio` out";
    draft.no(KEY, severity, detail, remedy);
    draft.about(field);
    Backend::NOWHERE
}

/// Whether QEMU can reach this server, as far as is known.
fn reach<'d>(draft: &Draft, desktop: &'d Desktop, server: SoundServer) -> Result<&'d SoundServerFact, Why> {
    let (name, driver) = (server.name(), driver(server));
    let why = |what: String, remedy: &str| Err(Why { what, remedy: remedy.to_owned() });
    if !draft.qemu.audiodevs.contains(driver) {
        let what = format!("{name}: {} has no sound driver `{driver}`", draft.qemu.binary.display());
        return why(what, package(driver));
    }
    let fact = match server {
        SoundServer::PipeWire => &desktop.pipewire,
        SoundServer::Pulse => &desktop.pulse,
    };
    let (socket, user) = (fact.socket.display(), desktop.user());
    if let Answer::Refuses(error) = &fact.answer {
        let remedy = match error.contains("cookie") {
            true => format!("`pactl info` as {user} makes `~/.config/pulse/cookie` anew"),
            false => format!("start the sound server of {user}, or leave `audio` out"),
        };
        return why(format!("{name}: {socket}: {error}"), &remedy);
    }
    let Some(mode) = fact.mode else {
        let remedy = format!("start the sound server of {user} (PipeWire with `pipewire-pulse`), or leave `audio` out");
        return why(format!("{name}: there is no {socket}"), &remedy);
    };
    let us = draft.account.as_ref().map_or(draft.host.process.uid, |account| account.uid);
    if us != 0 && us != desktop.uid && mode & 0o002 == 0 {
        let what = format!(
            "{name}: others than {user} may not connect to {socket} (mode {mode:o}), and QEMU runs as user {us}"
        );
        // systemd makes it with mode 0666 (systemd.socket(5), `SocketMode=`).
        return why(what, "`systemctl --user restart pipewire.socket` as that user, or use `audio: Pulse`");
    }
    Ok(fact)
}

/// Has QEMU play on it.
fn take(
    draft: &mut Draft,
    desktop: &Desktop,
    server: SoundServer,
    fact: &SoundServerFact,
    severity: Severity,
) -> Backend {
    let how = match &desktop.found {
        Found::Ours => String::new(),
        Found::Named => ", as `audio.user` says".to_owned(),
        Found::Session(id) => format!(", who has session {id}"),
        Found::Became(program) => format!(", who became root by {program}"),
        Found::OnlyManager => ", since nobody else is logged in".to_owned(),
    };
    let detail = format!("{} of {}{how}: {}", server.name(), desktop.user(), fact.socket.display());
    match fact.answer {
        Answer::Unknown => draft.unknown(KEY, severity, format!("vfio-run did not ask {detail}")),
        _ => draft.yes(KEY, severity, format!("the guest plays on {detail}")),
    }
    // What root starts gets the socket as a descriptor: QEMU's account may not enter the user's folder.
    let by_descriptor = draft.host.process.uid == 0;
    let place = match by_descriptor {
        false => text(&fact.socket),
        true => {
            let (socket, cookie) = (fact.socket.clone(), desktop.cookie.clone());
            let fd = draft.inherit(Inherited::SoundServer { server, socket, uid: desktop.uid, cookie });
            own(fd)
        }
    };
    if by_descriptor {
        let origin = by_default("no file of another user's is looked for");
        draft.variable("HOME", "/nonexistent", origin);
    }
    let origin = draft.file("audio");
    match server {
        SoundServer::PipeWire => {
            draft.variable("PIPEWIRE_REMOTE", place, origin);
            Backend { driver: driver(server), members: Vec::new() }
        }
        SoundServer::Pulse => {
            if let Some(path) = desktop.cookie.clone().filter(|_| by_descriptor) {
                let fd = draft.inherit(Inherited::Cookie { path, uid: desktop.uid });
                draft.variable("PULSE_COOKIE", own(fd), origin);
            }
            Backend { driver: driver(server), members: vec![("server", format!("unix:{place}").into())] }
        }
    }
}

fn own(fd: i32) -> String {
    format!("{}{fd}", QemuOption::FD_PATH)
}

fn driver(server: SoundServer) -> &'static str {
    match server {
        SoundServer::PipeWire => "pipewire",
        SoundServer::Pulse => "pa",
    }
}

/// What ends the user's sound servers before the guest starts.
enum Ending {
    /// The sessions end with this unit, and the user's service manager with them.
    Session(String),
    /// This unit of the user's is one of the servers.
    Server(String),
}

fn ends_with(draft: &Draft, desktop: &Desktop) -> Option<Ending> {
    let screen = draft.host.pci.as_ref().map(|pci| &pci.screen);
    let manager = format!("user@{}.service", desktop.uid);
    let is_display_manager = |unit: &String| {
        let named = matches!(&draft.machine.handover.display_manager, DisplayManager::Unit(named) if named == unit);
        named || screen.is_some_and(|screen| screen.display_manager.as_ref() == Some(unit))
    };
    draft.changes.iter().find_map(|planned| match &planned.change {
        Change::StopUnit(StopUnit { unit }) if *unit == manager || (!desktop.stays && is_display_manager(unit)) => {
            Some(Ending::Session(unit.clone()))
        }
        Change::StopUserUnit(StopUserUnit { uid, unit })
            if *uid == desktop.uid && UNITS.iter().any(|name| unit.contains(name)) =>
        {
            Some(Ending::Server(unit.clone()))
        }
        _ => None,
    })
}
