//! The host's keyboard and mouse, shared with the guest: a key press gives them to the one or the other (evdev).

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::machine::named::Named;
use crate::machine::problems::Problems;
use crate::machine::subject::Subject;

/// More than anybody has before one screen.
const MAX_DEVICES: usize = 16;
/// The word for what is found on the host.
const AUTO: &str = "Auto";

/// Which of the host's keyboards and mice the guest shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Those of the seat that is in front of the host's screen.
    Auto,
    /// These.
    Devices(Vec<InputDevice>),
}

/// A keyboard or mouse of the host that the guest shares.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InputDevice {
    /// The event device of a keyboard: a path below /dev/input/by-id, which is the same at each boot.
    #[serde(default)]
    pub keyboard: Option<PathBuf>,
    /// The event device of a mouse.
    #[serde(default)]
    pub mouse: Option<PathBuf>,
    /// The keys that give it to the guest and to the host in turn, pressed together. Default `CtrlCtrl`.
    #[serde(default)]
    pub toggle: Option<Toggle>,
    /// Whether the guest gets the key presses that the host's kernel repeats while a key is held down. Default: yes, for a
    /// keyboard.
    #[serde(default)]
    pub repeat: Option<bool>,
    /// Whether its toggle moves all other devices in `input` with it. Default: yes for the first keyboard.
    #[serde(default)]
    pub grab_all: Option<bool>,
    /// Whether the machine starts without it. The guest is given it when it is plugged in. Default: yes.
    #[serde(default)]
    pub optional: Option<bool>,
}

/// Keys that are pressed together to give the devices to the guest and back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Toggle {
    /// Both Ctrl keys.
    #[default]
    CtrlCtrl,
    /// Both Alt keys.
    AltAlt,
    /// Both Shift keys.
    ShiftShift,
    /// Both Meta keys, which have a logo on them.
    MetaMeta,
    /// Scroll Lock.
    ScrollLock,
    /// Ctrl and Scroll Lock.
    CtrlScrollLock,
}

impl Toggle {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::CtrlCtrl, Self::AltAlt, Self::ShiftShift, Self::MetaMeta, Self::ScrollLock, Self::CtrlScrollLock];

    /// QEMU's word for it (`GrabToggleKeys` in its `qapi/common.json`).
    pub fn word(self) -> &'static str {
        match self {
            Self::CtrlCtrl => "ctrl-ctrl",
            Self::AltAlt => "alt-alt",
            Self::ShiftShift => "shift-shift",
            Self::MetaMeta => "meta-meta",
            Self::ScrollLock => "scrolllock",
            Self::CtrlScrollLock => "ctrl-scrolllock",
        }
    }
}

impl InputDevice {
    /// The path of its event device, and whether it is to be a keyboard.
    pub fn path(&self) -> Option<(&PathBuf, bool)> {
        self.keyboard.as_ref().map(|path| (path, true)).or(self.mouse.as_ref().map(|path| (path, false)))
    }
}

impl Input {
    /// The entries of the list.
    pub fn devices(&self) -> &[InputDevice] {
        match self {
            Self::Auto => &[],
            Self::Devices(devices) => devices,
        }
    }

    /// Refuses a word other than `Auto`. `ron` says that there was a word and not which, if a list is possible too.
    pub(in crate::machine) fn check_word(&self, word: &str, problems: &mut Problems) {
        if *self == Self::Auto && word.trim_matches('"') != AUTO {
            problems
                .add("input", format!("`input` cannot be `{word}`"))
                .allowed("`Auto`, or a list in brackets: `[(keyboard: \"/dev/input/by-id/…\"), …]`");
        }
    }
}

impl Subject for Input {
    fn check(&self, problems: &mut Problems) {
        let devices = self.devices();
        if devices.len() > MAX_DEVICES {
            problems
                .add(format!("input[{MAX_DEVICES}]"), format!("{} event devices are too many", devices.len()))
                .allowed(format!("at most {MAX_DEVICES}"));
        }
        let mut seen = BTreeMap::new();
        let mut all_by: Option<usize> = None;
        for (i, device) in devices.iter().enumerate() {
            if device.keyboard.is_some() == device.mouse.is_some() {
                problems.add(format!("input[{i}]"), "an entry of `input` is one `keyboard` or one `mouse`").allowed(
                    "`(keyboard: \"/dev/input/by-id/…-event-kbd\")` or `(mouse: \"/dev/input/by-id/…-event-mouse\")`",
                );
            }
            if let Some((path, keyboard)) = device.path() {
                let field = format!("input[{i}].{}", if keyboard { "keyboard" } else { "mouse" });
                if !path.starts_with("/dev") {
                    problems
                        .add(&field, format!("{} is no event device", path.display()))
                        .allowed("a path below /dev/input")
                        .help("`ls -l /dev/input/by-id` shows those that have a name");
                }
                if let Some(first) = seen.insert(path.clone(), i) {
                    problems.add(field, format!("{} is already that of `input[{first}]`", path.display()));
                }
            }
            if device.grab_all == Some(true) {
                if let Some(first) = all_by.replace(i) {
                    problems
                        .add(format!("input[{i}].grab_all"), format!("`input[{first}]` has `grab_all` already"))
                        .help("the toggle of one keyboard moves all others; with two of them each moves only itself");
                }
                if device.keyboard.is_none() {
                    problems
                        .add(format!("input[{i}].grab_all"), "a mouse has no keys for a toggle")
                        .help("give `grab_all` to a keyboard, or leave it out");
                }
            }
        }
    }

    fn paths(&mut self) -> Vec<(String, &mut PathBuf)> {
        let Self::Devices(devices) = self else { return Vec::new() };
        let entries = devices.iter_mut().enumerate().flat_map(|(i, device)| {
            let keyboard = device.keyboard.as_mut().map(|path| (format!("input[{i}].keyboard"), path));
            keyboard.into_iter().chain(device.mouse.as_mut().map(|path| (format!("input[{i}].mouse"), path)))
        });
        entries.collect()
    }

    fn name(&self, named: &mut Named) {
        named.desk = true;
        named.inputs.extend(self.devices().iter().filter_map(|device| Some(device.path()?.0.clone())));
    }
}

impl Serialize for Input {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => to.serialize_str(AUTO),
            Self::Devices(devices) => devices.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Input {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Input;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("`Auto` or a list")
            }

            fn visit_unit<E: serde::de::Error>(self) -> Result<Input, E> {
                Ok(Input::Auto)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Input, E> {
                match text {
                    AUTO => Ok(Input::Auto),
                    other => Err(E::custom(format!("{other:?} is neither `Auto` nor a list"))),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Input, A::Error> {
                let mut devices = Vec::new();
                while let Some(device) = list.next_element()? {
                    devices.push(device);
                }
                Ok(Input::Devices(devices))
            }
        }
        from.deserialize_any(Either)
    }
}

impl JsonSchema for Input {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Input".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let item = generator.subschema_for::<InputDevice>();
        schemars::json_schema!({
            "oneOf": [
                {
                    "type": "string",
                    "const": AUTO,
                    "description": "All keyboards and mice of the seat in front of the host's screen that are there at the start."
                },
                { "type": "array" }
            ],
            "items": item,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::machine::parse;

    fn read(written: &str) -> Result<Option<Input>, String> {
        let text = format!("(guest: Linux, memory: (size: \"1 GiB\"), input: {written})");
        let read = parse(Path::new("m.ron"), &text).map_err(|refused| refused.to_string());
        read.map(|source| source.machine.input)
    }

    #[test]
    fn devices_are_found_by_the_plan_or_named() {
        assert_eq!(read("Auto").unwrap(), Some(Input::Auto));
        assert_eq!(read("None").unwrap(), None);
        let named = read(
            r#"[(keyboard: "/dev/input/by-id/k", toggle: ScrollLock, repeat: false), (mouse: "/dev/input/by-id/m")]"#,
        );
        let named = named.unwrap().unwrap();
        let [keyboard, mouse] = named.devices() else { panic!("{named:?}") };
        assert_eq!((keyboard.toggle, keyboard.repeat), (Some(Toggle::ScrollLock), Some(false)));
        assert_eq!(mouse.path(), Some((&PathBuf::from("/dev/input/by-id/m"), false)));
        for input in [Input::Auto, named] {
            let text = serde_json::to_string(&input).unwrap();
            assert_eq!(serde_json::from_str::<Input>(&text).unwrap(), input);
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (written, expected) in [
            ("Atuo", "`input` cannot be `Atuo`"),
            ("\"Atuo\"", "`input` cannot be `\"Atuo\"`"),
            ("[()]", "an entry of `input` is one `keyboard` or one `mouse`"),
            (r#"[(keyboard: "/dev/input/a", mouse: "/dev/input/b")]"#, "is one `keyboard` or one `mouse`"),
            (r#"[(keyboard: "/dev/input/a"), (mouse: "/dev/input/a")]"#, "/dev/input/a is already that of `input[0]`"),
            (r#"[(keyboard: "by-id/a")]"#, "is no event device"),
            (r#"[(mouse: "/dev/input/a", grab_all: true)]"#, "a mouse has no keys for a toggle"),
            (
                r#"[(keyboard: "/dev/input/a", grab_all: true), (keyboard: "/dev/input/b", grab_all: true)]"#,
                "`input[0]` has `grab_all` already",
            ),
        ] {
            let refused = read(written).unwrap_err();
            assert!(refused.contains(expected), "{written}: {refused}");
        }
    }
}
