//! A host's facts without what belongs to somebody, for a report of a fault: serial numbers, MAC and IP addresses, UUIDs, names
//! of users, hosts, networks, folders and machines. What is not known to be the same on each computer of its kind is replaced,
//! so a fact that is new is hidden until somebody says that it may be shown. Equal texts stay equal, and the facts stay facts:
//! `plan --host` takes them.

mod common;
mod stand_ins;

#[cfg(test)]
mod tests;

use serde_json::Value;

use super::Host;
use stand_ins::StandIns;

/// The facts with stand-ins for what belongs to somebody. `own`: words that belong to somebody wherever they stand, such as the
/// host's name.
///
/// # Errors
/// If a fact cannot be told any more with a stand-in in its place, which is a fault of this program.
pub fn anonymous(host: &Host, own: &[String]) -> serde_json::Result<Host> {
    let mut facts = serde_json::to_value(host)?;
    let mut stand_ins = StandIns::new(own);
    replace(&mut facts, "", &mut stand_ins);
    scrub(&mut facts, &stand_ins);
    serde_json::from_value(facts)
}

/// Replaces each text that is not common. `place` is where it stands: `.pci.functions[].ids`.
fn replace(value: &mut Value, place: &str, stand_ins: &mut StandIns) {
    match value {
        Value::String(text) => {
            if let Some(other) = common::shown(place, text, stand_ins) {
                *text = other;
            }
        }
        Value::Array(items) => {
            let place = format!("{place}[]");
            items.iter_mut().for_each(|item| replace(item, &place, stand_ins));
        }
        Value::Object(fields) => {
            let named = common::has_names(place);
            let old = std::mem::take(fields);
            for (key, mut value) in old {
                let inner = if named { format!("{place}{{}}") } else { format!("{place}.{key}") };
                replace(&mut value, &inner, stand_ins);
                let key = if named { stand_ins.of(&key) } else { key };
                fields.insert(key, value);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Takes out of all that is shown what was replaced elsewhere: the name of a user in the name of a thread, say.
fn scrub(value: &mut Value, stand_ins: &StandIns) {
    match value {
        Value::String(text) => {
            if let Some(clean) = stand_ins.taken_out_of(text) {
                *text = clean;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| scrub(item, stand_ins)),
        Value::Object(fields) => fields.values_mut().for_each(|value| scrub(value, stand_ins)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
