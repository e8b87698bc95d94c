//! QEMU's command line: options with their origins, turned into argv.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::role::Role;
use crate::units::Origin;

/// QEMU's whole command line, each option with its origin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandLine {
    /// The binary.
    pub binary: PathBuf,
    /// The options in order.
    pub options: Vec<QemuOption>,
}

/// One option: `-device` with its JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QemuOption {
    /// With its dash: `-device`.
    pub name: String,
    /// What follows it.
    pub value: OptionValue,
    /// Why it is there.
    pub origin: Origin,
    /// The members of the value that have another origin than the option itself, by key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<(String, Origin)>,
    /// What it does to the host or for others. A plan of version 0.1.0 has none; nobody tries such a plan, since a trial is
    /// made of the plan of the same process.
    #[serde(default, skip_serializing_if = "Role::is_plain")]
    pub role: Role,
}

/// The forms that QEMU takes a value in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum OptionValue {
    /// No value: `-nodefaults`.
    None,
    /// As it is, no escaping: `-m`, `-uuid`, extra arguments.
    Text(String),
    /// `first,key=value,…`; commas in values are doubled when written (`-chardev`, `-machine`, `-cpu`, `-smp`).
    Keys {
        /// The word before the first comma, if any: `q35`.
        first: Option<String>,
        /// Keys and values in order.
        keys: Vec<(String, String)>,
    },
    /// A JSON object (`-device`, `-blockdev`, `-object`, `-netdev`, `-display`).
    Json(serde_json::Map<String, serde_json::Value>),
}

impl CommandLine {
    /// The arguments after the binary, as they are given to exec.
    pub fn argv(&self) -> Vec<String> {
        let mut argv = Vec::with_capacity(self.options.len() * 2);
        for option in &self.options {
            argv.extend(option.words());
        }
        argv
    }
}

impl QemuOption {
    /// What the path of an inherited descriptor begins with; its number follows.
    pub const FD_PATH: &str = "/proc/self/fd/";

    /// What the path of a set of descriptors begins with; its number follows. A descriptor is in the set of its own number.
    pub const FD_SET: &str = "/dev/fdset/";

    /// An option without a value.
    pub fn flag(name: &str, origin: Origin) -> Self {
        Self { name: name.to_owned(), value: OptionValue::None, origin, parts: Vec::new(), role: Role::Plain }
    }

    /// An option whose value is written as it is.
    pub fn text(name: &str, value: impl Into<String>, origin: Origin) -> Self {
        Self {
            name: name.to_owned(),
            value: OptionValue::Text(value.into()),
            origin,
            parts: Vec::new(),
            role: Role::Plain,
        }
    }

    /// An option whose value is a JSON object.
    pub fn json(name: &str, value: serde_json::Map<String, serde_json::Value>, origin: Origin) -> Self {
        Self { name: name.to_owned(), value: OptionValue::Json(value), origin, parts: Vec::new(), role: Role::Plain }
    }

    /// An option of keys and values, none yet; see [`Self::set`].
    pub fn keys(name: &str, first: Option<&str>, origin: Origin) -> Self {
        let value = OptionValue::Keys { first: first.map(str::to_owned), keys: Vec::new() };
        Self { name: name.to_owned(), value, origin, parts: Vec::new(), role: Role::Plain }
    }

    /// `-global driver=…,property=…,value=…`: a property of all devices of a driver.
    pub fn global(driver: &str, property: &str, value: &str, origin: Origin) -> Self {
        Self::keys("-global", None, origin).with("driver", driver).with("property", property).with("value", value)
    }

    /// Sets a key to a value, in place of an earlier one. Does nothing to an option of another form.
    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        if let OptionValue::Keys { keys, .. } = &mut self.value {
            let value = value.into();
            match keys.iter_mut().find(|(name, _)| name == key) {
                Some((_, old)) => *old = value,
                None => keys.push((key.to_owned(), value)),
            }
        }
    }

    /// As [`Self::set`], for a key with an origin of its own.
    pub fn set_from(&mut self, key: &str, value: impl Into<String>, origin: Origin) {
        self.set(key, value);
        self.parts.retain(|(name, _)| name != key);
        if origin != self.origin {
            self.parts.push((key.to_owned(), origin));
        }
    }

    /// Gives a member of the value an origin of its own.
    #[must_use]
    pub fn explained(mut self, key: &str, origin: Origin) -> Self {
        self.parts.push((key.to_owned(), origin));
        self
    }

    /// Gives it a role other than [`Role::Plain`].
    #[must_use]
    pub fn with_role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }

    /// Sets a key, for chains.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.set(key, value);
        self
    }

    /// The value of a key, if the option has keys and this one among them.
    pub fn get(&self, key: &str) -> Option<&str> {
        match &self.value {
            OptionValue::Keys { keys, .. } => {
                keys.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
            }
            _ => None,
        }
    }

    /// Whether it is a device of this driver.
    pub fn is_device(&self, driver: &str) -> bool {
        let OptionValue::Json(object) = &self.value else { return false };
        self.name == "-device" && object.get("driver").is_some_and(|found| found == driver)
    }

    /// Whether this is its id.
    pub fn has_id(&self, id: &str) -> bool {
        match &self.value {
            OptionValue::Json(object) => object.get("id").is_some_and(|found| found == id),
            _ => self.get("id") == Some(id),
        }
    }

    /// The numbers of the descriptors that it names, by `fd`, `vhostfd` or an address of that type, several by `fds` and
    /// `vhostfds`, or as the path of a file.
    pub fn fds(&self) -> Vec<i32> {
        let text = |key: &str| match &self.value {
            OptionValue::Json(object) => object.get(key)?.as_str(),
            _ => self.get(key),
        };
        let texts = ["fd", "fds", "vhostfd", "vhostfds"].into_iter().filter_map(text);
        let path = match &self.value {
            OptionValue::Text(text) => Some(text.as_str()),
            _ => ["file", "mem-path", "romfile"].into_iter().find_map(text),
        };
        let path = path.and_then(|path| path.strip_prefix(Self::FD_PATH));
        let address = match &self.value {
            OptionValue::Json(object) => object.get("addr").filter(|address| address["type"] == "fd"),
            _ => None,
        };
        let address = address.and_then(|address| address["str"].as_str());
        let numbers = texts.chain(address).chain(path).flat_map(|numbers| numbers.split(':'));
        numbers.filter_map(|number| number.parse().ok()).collect()
    }

    /// Name and value as separate words.
    pub fn words(&self) -> impl Iterator<Item = String> {
        std::iter::once(self.name.clone()).chain(self.value.written())
    }
}

impl OptionValue {
    /// The value as QEMU reads it, or `None` if the option has none.
    pub fn written(&self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Text(text) => Some(text.clone()),
            Self::Keys { first, keys } => {
                let mut words: Vec<String> = first.iter().map(|w| w.replace(',', ",,")).collect();
                words.extend(keys.iter().map(|(k, v)| format!("{k}={}", v.replace(',', ",,"))));
                Some(words.join(","))
            }
            // An object of strings, numbers, lists and objects always serialises.
            Self::Json(object) => Some(serde_json::Value::Object(object.clone()).to_string()),
        }
    }
}
