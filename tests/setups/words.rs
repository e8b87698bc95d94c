//! The words of a QEMU command line, as options with members: JSON and `first,key=value` alike.

use std::collections::BTreeMap;

use serde_json::Value;

/// What the first word of an option's value is called if it has no name of its own.
const FIRST: [(&str, &str); 19] = [
    ("-accel", "accel"),
    ("-audiodev", "driver"),
    ("-boot", "order"),
    ("-chardev", "backend"),
    ("-cpu", "model"),
    ("-device", "driver"),
    ("-display", "type"),
    ("-fw_cfg", "name"),
    ("-m", "size"),
    ("-machine", "type"),
    ("-mon", "chardev"),
    ("-name", "guest"),
    ("-netdev", "type"),
    ("-object", "qom-type"),
    ("-sandbox", "enable"),
    ("-smbios", "file"),
    ("-smp", "cpus"),
    ("-tpmdev", "type"),
    ("-uuid", "uuid"),
];

/// An option, and what its value says: `cache.direct` is `on`.
#[derive(Debug, Clone, PartialEq)]
pub struct Words {
    /// With its dash.
    pub name: String,
    /// Members in order of their names.
    pub members: BTreeMap<String, String>,
}

impl Words {
    /// A member.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.members.get(key).map(String::as_str)
    }
}

/// Reads the arguments after the binary.
pub fn read(argv: &[String]) -> Vec<Words> {
    let mut options: Vec<Words> = Vec::new();
    for word in argv {
        match (word.strip_prefix('-'), options.last_mut()) {
            (Some(_), _) => options.push(Words { name: word.clone(), members: BTreeMap::new() }),
            (None, Some(option)) if option.members.is_empty() => option.members = members(&option.name, word),
            _ => panic!("no option's value: {word}"),
        }
    }
    options
}

fn members(option: &str, value: &str) -> BTreeMap<String, String> {
    let mut members = BTreeMap::new();
    if value.starts_with('{') {
        flat("", &serde_json::from_str(value).unwrap(), &mut members);
        return members;
    }
    // A comma that is meant is doubled.
    for (index, part) in value.replace(",,", "\0").split(',').enumerate() {
        let part = part.replace('\0', ",");
        match part.split_once('=') {
            Some((key, value)) => members.insert(key.to_owned(), plain(value)),
            None => {
                let first = FIRST.iter().find(|(name, _)| *name == option && index == 0);
                let (_, key) = first.unwrap_or_else(|| panic!("{option}: a word without a name: {part}"));
                members.insert((*key).to_owned(), part)
            }
        };
    }
    members
}

/// Enters the members of JSON, those of objects in it by `object.member`.
pub fn flat(before: &str, value: &Value, members: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let key = if before.is_empty() { key.clone() } else { format!("{before}.{key}") };
                flat(&key, value, members);
            }
        }
        Value::String(text) => drop(members.insert(before.to_owned(), plain(text))),
        Value::Bool(on) => drop(members.insert(before.to_owned(), if *on { "on" } else { "off" }.to_owned())),
        other => drop(members.insert(before.to_owned(), other.to_string())),
    }
}

/// QEMU has several words for one thing.
fn plain(value: &str) -> String {
    match value {
        "true" | "yes" => "on",
        "false" | "no" => "off",
        "" => "\"\"",
        other => other,
    }
    .to_owned()
}
