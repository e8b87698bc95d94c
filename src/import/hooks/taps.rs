//! Tap devices that a script makes and puts on a bridge, which the launcher does for `Bridge`.

use std::collections::BTreeMap;

use super::command::Command;
use super::wrapped::{base, before};
use crate::import::context::Context;
use crate::machine::Backend;

/// Tap devices of the machine that a script makes and puts on a bridge.
pub struct Taps(BTreeMap<String, String>);

impl Taps {
    /// Finds them, and connects their cards to the bridges.
    pub fn of(cx: &mut Context, commands: &[Command]) -> Self {
        let mut found = BTreeMap::new();
        for network in cx.machine.networks.iter_mut().flatten() {
            let Backend::Tap(name) = &network.backend else { continue };
            let mut all = commands.iter().filter(|command| !command.control).map(words);
            let made = all.clone().any(|words| makes(&words, name));
            let bridge = all.find_map(|words| bridge_of(&words, name).map(str::to_owned));
            if let Some(bridge) = bridge.filter(|bridge| made && !bridge.contains(['$', '`'])) {
                found.insert(name.clone(), bridge.clone());
                network.backend = Backend::Bridge(bridge);
            }
        }
        Self(found)
    }

    /// Whether a command makes, connects or removes one of them.
    pub fn makes(&self, command: &Command) -> bool {
        let words = words(command);
        !command.control
            && self
                .0
                .keys()
                .any(|name| makes(&words, name) || bridge_of(&words, name).is_some() || switches(&words, name))
    }
}

/// What a command does, without what starts it.
fn words(command: &Command) -> Vec<&str> {
    let all: Vec<&str> = command.words.iter().map(String::as_str).collect();
    all[before(&all)..].to_vec()
}

/// Whether a tap device of this name is made, or removed again.
fn makes(words: &[&str], name: &str) -> bool {
    match words.first().map(|program| base(program)) {
        Some("ip") => words.get(1).is_some_and(|object| matches!(*object, "tuntap" | "tap")) && words.contains(&name),
        Some("tunctl") => words.contains(&name),
        Some("openvpn") => words.iter().any(|word| matches!(*word, "--mktun" | "--rmtun")) && words.contains(&name),
        _ => false,
    }
}

/// The bridge that a device is put on, or taken from.
fn bridge_of<'w>(words: &[&'w str], name: &str) -> Option<&'w str> {
    let value = |key: &str| words.iter().position(|word| *word == key).and_then(|at| words.get(at + 1)).copied();
    match words.first().map(|program| base(program))? {
        "ip" if is_of_link(words, name) => value("master"),
        "brctl" if matches!(words.get(1)?, &"addif" | &"delif") && words.get(3) == Some(&name) => words.get(2).copied(),
        _ => None,
    }
}

/// Whether a device is only switched on or off, or let go.
fn switches(words: &[&str], name: &str) -> bool {
    let only = |known: &[&str]| words[1..].iter().all(|word| *word == name || known.contains(word));
    match words.first().map(|program| base(program)) {
        Some("ip") if is_of_link(words, name) => {
            only(&["link", "set", "dev", "up", "down", "nomaster", "promisc", "on", "del", "delete"])
        }
        Some("ifconfig") => words.get(1) == Some(&name) && only(&["up", "down", "promisc", "0.0.0.0"]),
        _ => false,
    }
}

fn is_of_link(words: &[&str], name: &str) -> bool {
    words.get(1) == Some(&"link") && words.iter().skip(2).take(3).any(|word| *word == name)
}
