//! QEMU's command line: options with their origins, turned into argv.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::plan::Origin;

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
            argv.push(option.name.clone());
            argv.extend(option.value.written());
        }
        argv
    }
}

impl OptionValue {
    /// The value as QEMU reads it, or `None` where the option has none.
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
