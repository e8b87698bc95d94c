//! A host's facts without what belongs to somebody, for a report of a fault: serial numbers, MAC and IP addresses, UUIDs, names
//! of users, hosts, networks, folders and machines. What is not known to be the same on each computer of its kind is replaced,
//! so a fact that is new is hidden until somebody says that it may be shown. Equal texts stay equal, and the facts stay facts:
//! `plan --host` takes them.

mod common;
mod stand_ins;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize as _;
use serde_json::Value;

use super::Host;
use stand_ins::StandIns;

/// The facts with stand-ins for what belongs to somebody. `own`: words that belong to somebody wherever they stand, such as the
/// host's name.
///
/// # Errors
/// If a fact cannot be told any more with a stand-in in its place, which is a fault of this program.
pub fn anonymous(host: &Host, own: &[String]) -> serde_json::Result<Host> {
    let facts = serde_json::to_value(host)?;
    match serde_json::from_value(hidden(facts.clone(), own, &BTreeSet::new())) {
        Ok(clean) => Ok(clean),
        // A word that belongs to somebody here is one of those that a fact can be: a host called `ethernet`.
        Err(_) => serde_json::from_value(hidden(facts.clone(), own, &fixed(facts))),
    }
}

/// The facts with stand-ins, but for those in the places that are `fixed`.
fn hidden(mut facts: Value, own: &[String], fixed: &BTreeSet<String>) -> Value {
    let mut stand_ins = StandIns::new(own);
    replace(&mut facts, "", fixed, &mut stand_ins);
    scrub(&mut facts, "", fixed, &stand_ins);
    facts
}

/// The places whose texts are variants of the facts' types, so none there is somebody's. Other types that do not take just any word
/// (subnets) hide what is in them by another of its form.
fn fixed(mut facts: Value) -> BTreeSet<String> {
    let mut first = BTreeMap::new();
    texts(&facts, "", "", &mut first);
    let mut is_fixed = |pointer: &str| {
        let Some(text) = facts.pointer_mut(pointer) else { return false };
        let was = std::mem::replace(text, Value::from("name-0"));
        let told = Host::deserialize(&facts);
        if let Some(text) = facts.pointer_mut(pointer) {
            *text = was;
        }
        // serde's words, of which there is no other form.
        told.is_err_and(|error| error.to_string().contains("unknown variant"))
    };
    first.into_iter().filter(|(_, pointer)| is_fixed(pointer)).map(|(place, _)| place).collect()
}

/// The first text in each place, by its JSON pointer (RFC 6901).
fn texts(value: &Value, place: &str, pointer: &str, first: &mut BTreeMap<String, String>) {
    match value {
        Value::String(_) => {
            first.entry(place.to_owned()).or_insert_with(|| pointer.to_owned());
        }
        Value::Array(items) => {
            let place = format!("{place}[]");
            items.iter().enumerate().for_each(|(at, item)| texts(item, &place, &format!("{pointer}/{at}"), first));
        }
        Value::Object(fields) => {
            for (key, value) in fields {
                let pointer = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
                texts(value, &below(place, key), &pointer, first);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The place of what is called `key` in this one.
fn below(place: &str, key: &str) -> String {
    if common::has_names(place) { format!("{place}{{}}") } else { format!("{place}.{key}") }
}

/// Replaces each text that is not common. `place` is where it stands: `.pci.functions[].ids`.
fn replace(value: &mut Value, place: &str, fixed: &BTreeSet<String>, stand_ins: &mut StandIns) {
    match value {
        Value::String(_) if fixed.contains(place) => {}
        Value::String(text) => {
            if let Some(other) = common::shown(place, text, stand_ins) {
                *text = other;
            }
        }
        Value::Array(items) => {
            let place = format!("{place}[]");
            items.iter_mut().for_each(|item| replace(item, &place, fixed, stand_ins));
        }
        Value::Object(fields) => {
            let named = common::has_names(place);
            let old = std::mem::take(fields);
            for (key, mut value) in old {
                replace(&mut value, &below(place, &key), fixed, stand_ins);
                let key = if named { stand_ins.of(&key) } else { key };
                fields.insert(key, value);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Takes out of all that is shown what was replaced elsewhere: the name of a user in the name of a thread, say.
fn scrub(value: &mut Value, place: &str, fixed: &BTreeSet<String>, stand_ins: &StandIns) {
    match value {
        Value::String(_) if fixed.contains(place) => {}
        Value::String(text) => {
            if let Some(clean) = stand_ins.taken_out_of(text) {
                *text = clean;
            }
        }
        Value::Array(items) => {
            let place = format!("{place}[]");
            items.iter_mut().for_each(|item| scrub(item, &place, fixed, stand_ins));
        }
        Value::Object(fields) => {
            fields.iter_mut().for_each(|(key, value)| scrub(value, &below(place, key), fixed, stand_ins));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
