//! The guest's sound card, and the server of the host's that plays it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::machine::named::Named;
use crate::machine::problems::{Problems, consists_of};
use crate::machine::subject::Subject;

/// Less is not possible with QEMU's timers, more is an echo.
const LATENCY: std::ops::RangeInclusive<u32> = 2..=1000;
/// Longer than any name that a server has.
const MAX_NAME: usize = 200;

/// The server that plays the guest's sound.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum Audio {
    /// None; the guest has no sound card.
    #[default]
    None,
    /// PipeWire of the desktop's user if it answers and this QEMU has a driver for it, else PulseAudio. If neither answers,
    /// the guest starts with a card that plays nowhere.
    Auto(Sound),
    /// PipeWire.
    PipeWire(Sound),
    /// PulseAudio, or the part of PipeWire that stands in for it (`pipewire-pulse`).
    Pulse(Sound),
    /// JACK, of the user that QEMU runs as.
    Jack(Sound),
    /// The sound card of the host itself, past all servers: nobody else plays on it meanwhile.
    Alsa(Sound),
    /// The SPICE client that shows the screen; needs `display: Spice`.
    Spice(Sound),
}

/// What the guest plays and records with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sound {
    /// The card that the guest sees. Default `Ich9`.
    #[serde(default)]
    pub card: SoundCard,
    /// Whether the guest can record from the host's microphone. Default: no.
    #[serde(default)]
    pub microphone: bool,
    /// The account whose server it is, by name or number, if root starts the machine. Default: whose desktop it is.
    #[serde(default)]
    pub user: Option<String>,
    /// What the server plays on: the name of a sink as `pactl list short sinks` shows it, a device of ALSA (`hw:1,0`), ports of
    /// JACK (`system:playback_.*`). Default: the server's choice.
    #[serde(default)]
    pub output: Option<String>,
    /// What it records from, in the same words. Default: the server's choice.
    #[serde(default)]
    pub input: Option<String>,
    /// Milliseconds from the guest to the server, 2 to 1000. With fewer, sound comes sooner and crackles earlier. Default:
    /// QEMU's own, some 40.
    #[serde(default)]
    pub latency_ms: Option<u32>,
}

/// The sound card that the guest sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SoundCard {
    /// Intel HD Audio of the ICH9 chipset (`ich9-intel-hda`): every guest has its driver.
    #[default]
    Ich9,
    /// `virtio-sound-pci`, for Linux guests from 5.13 on; needs QEMU 8.2.
    Virtio,
    /// A USB sound card (`usb-audio`); it has no microphone.
    Usb,
    /// `AC97`, for old guests.
    Ac97,
}

/// A sound server of the desktop's user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SoundServer {
    /// PipeWire.
    PipeWire,
    /// PulseAudio, or what stands in for it.
    Pulse,
}

impl SoundServer {
    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::PipeWire => "PipeWire",
            Self::Pulse => "PulseAudio",
        }
    }
}

impl Audio {
    /// A node that every sound card of the host has beside it, with the owner and group of all of them.
    pub const ALSA_NODE: &str = "/dev/snd/timer";

    /// Its name with what the guest plays with; `None` if it has no sound card.
    pub fn sound(&self) -> Option<(&'static str, &Sound)> {
        match self {
            Self::None => None,
            Self::Auto(sound) => Some(("Auto", sound)),
            Self::PipeWire(sound) => Some(("PipeWire", sound)),
            Self::Pulse(sound) => Some(("Pulse", sound)),
            Self::Jack(sound) => Some(("Jack", sound)),
            Self::Alsa(sound) => Some(("Alsa", sound)),
            Self::Spice(sound) => Some(("Spice", sound)),
        }
    }

    /// The servers of a user that are asked, the first that answers being taken.
    pub fn servers(&self) -> &'static [SoundServer] {
        match self {
            Self::Auto(_) => &[SoundServer::PipeWire, SoundServer::Pulse],
            Self::PipeWire(_) => &[SoundServer::PipeWire],
            Self::Pulse(_) => &[SoundServer::Pulse],
            Self::None | Self::Jack(_) | Self::Alsa(_) | Self::Spice(_) => &[],
        }
    }
}

impl Subject for Audio {
    fn check(&self, problems: &mut Problems) {
        let Some((server, sound)) = self.sound() else { return };
        let Sound { card, microphone, user, output, input, latency_ms } = sound;
        if let Some(latency) = latency_ms.filter(|latency| !LATENCY.contains(latency)) {
            problems.add("audio.latency_ms", format!("`audio.latency_ms` cannot be {latency}")).allowed(format!(
                "{} to {} milliseconds",
                LATENCY.start(),
                LATENCY.end()
            ));
        }
        if matches!(self, Self::Spice(_) | Self::Jack(_)) && latency_ms.is_some() {
            problems
                .add("audio.latency_ms", format!("`audio.latency_ms` has no effect with `{server}`"))
                .help("leave it out: the server, or the client, sets its own");
        }
        for (name, written) in [("output", output), ("input", input)] {
            let field = format!("audio.{name}");
            match written {
                Some(_) if matches!(self, Self::Spice(_)) => {
                    problems
                        .add(&field, format!("`{field}` has no effect with `Spice`"))
                        .help("leave it out: the client plays on what its user chose");
                }
                Some(text) if text.is_empty() || text.len() > MAX_NAME => {
                    problems.add(&field, format!("`{field}` cannot be {text:?}")).allowed(format!(
                        "a name of 1 to {MAX_NAME} bytes, as `pactl list short sinks` (or `sources`) shows it"
                    ));
                }
                _ => {}
            }
        }
        if input.is_some() && !microphone {
            problems
                .add("audio.input", "`audio.input` has no effect without `microphone: true`")
                .help("add `microphone: true`, or leave `input` out");
        }
        if *microphone && *card == SoundCard::Usb {
            problems
                .add("audio.microphone", "QEMU's USB sound card has no microphone")
                .help("use `card: Ich9`, or leave `microphone` out");
        }
        if let Some(user) = user {
            let bad = user.is_empty() || user.starts_with(['-', '.']) || user.len() > 32 || !consists_of(user, "-._");
            if bad {
                problems
                    .add("audio.user", format!("`audio.user` cannot be {user:?}"))
                    .allowed("an account's name, or its number in quotes");
            } else if self.servers().is_empty() {
                problems
                    .add("audio.user", format!("`audio.user` has no effect with `{server}`"))
                    .help("leave it out, or use `PipeWire`, `Pulse` or `Auto`");
            }
        }
    }

    fn name(&self, named: &mut Named) {
        if matches!(self, Self::Alsa(_)) {
            named.files.push(PathBuf::from(Self::ALSA_NODE));
        }
        if !self.servers().is_empty() || matches!(self, Self::Jack(_)) {
            let user = self.sound().and_then(|(_, sound)| sound.user.clone());
            named.accounts.extend(user.clone());
            named.desktop = true;
            named.desktop_user = user;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::machine::{Audio, Sound, SoundCard, parse};

    fn read(written: &str) -> Result<Audio, String> {
        let text = format!("(guest: Linux, memory: (size: \"1 GiB\"), audio: {written})");
        parse(Path::new("m.ron"), &text).map(|source| source.machine.audio).map_err(|refused| refused.to_string())
    }

    #[test]
    fn a_word_is_enough_and_fields_can_follow_it() {
        assert_eq!(read("None").unwrap(), Audio::None);
        assert_eq!(read("Auto").unwrap(), Audio::Auto(Sound::default()));
        assert_eq!(read("Auto()").unwrap(), Audio::Auto(Sound::default()));
        let sound = Sound { card: SoundCard::Virtio, microphone: true, latency_ms: Some(20), ..Sound::default() };
        assert_eq!(read("Pulse(card: Virtio, microphone: true, latency_ms: 20)").unwrap(), Audio::Pulse(sound));
    }

    #[test]
    fn what_no_server_can_do_is_refused_at_its_place() {
        for (written, expected) in [
            ("Auto(latency_ms: 1)", "m.ron:1:65: `audio.latency_ms` cannot be 1"),
            ("Auto(latency_ms: 1001)", "m.ron:1:65: `audio.latency_ms` cannot be 1001"),
            ("Jack(latency_ms: 20)", "m.ron:1:65: `audio.latency_ms` has no effect with `Jack`"),
            ("Auto(output: \"\")", "m.ron:1:61: `audio.output` cannot be \"\""),
            ("Auto(input: \"mic\")", "m.ron:1:60: `audio.input` has no effect without `microphone: true`"),
            ("Auto(card: Usb, microphone: true)", "m.ron:1:76: QEMU's USB sound card has no microphone"),
            ("Auto(user: \"a b\")", "m.ron:1:59: `audio.user` cannot be \"a b\""),
            ("Alsa(user: \"a\")", "m.ron:1:59: `audio.user` has no effect with `Alsa`"),
            ("Spice", "m.ron:1:48: `audio: Spice` sends sound to a SPICE client, and the machine has no SPICE server"),
            ("Pipewire", "m.ron:1:48: unknown value `Pipewire` for `audio`; did you mean `PipeWire`?"),
        ] {
            let refused = read(written).unwrap_err();
            assert!(refused.starts_with(expected), "{written}: {refused}");
        }
    }
}
