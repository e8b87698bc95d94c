//! Reading QEMU's own description of its QMP commands, which is also that of its JSON options.
//!
//! The description is a flat list of named entities; names of types mean nothing and change between builds, so it is
//! walked from the commands, whose names are stable (`docs/devel/qapi-code-gen.rst`, "Client JSON Protocol
//! introspection").

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

/// The answer of `query-qmp-schema`, by name.
#[derive(Debug)]
pub(super) struct Schema(HashMap<String, Value>);

impl Schema {
    pub(super) fn new(answer: Value) -> Self {
        let Value::Array(entities) = answer else { return Self(HashMap::new()) };
        let named = |entity: Value| Some((entity.get("name")?.as_str()?.to_owned(), entity));
        Self(entities.into_iter().filter_map(named).collect())
    }

    /// Whether there is such a command.
    pub(super) fn has_command(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|entity| text(entity, "meta-type") == Some("command"))
    }

    /// The words that the tag of a command's arguments takes: `driver` of `blockdev-add`, `type` of `netdev_add`.
    pub(super) fn kinds(&self, command: &str) -> BTreeSet<String> {
        self.arguments(command).map(|object| self.tag_values(object)).unwrap_or_default()
    }

    /// The same of what a command returns; a list counts as what it lists.
    pub(super) fn returned_kinds(&self, command: &str) -> BTreeSet<String> {
        let mut kind = self.0.get(command).and_then(|c| self.0.get(text(c, "ret-type")?));
        if let Some(element) = kind.and_then(|list| text(list, "element-type")) {
            kind = self.0.get(element);
        }
        kind.map(|object| self.tag_values(object)).unwrap_or_default()
    }

    /// The words that a member takes in one variant of a command's arguments: `aio` of `blockdev-add` for `file`.
    pub(super) fn words(&self, command: &str, variant: &str, member: &str) -> BTreeSet<String> {
        let find = || {
            let variants = self.arguments(command)?.get("variants")?.as_array()?;
            let chosen = variants.iter().find(|v| text(v, "case") == Some(variant))?;
            self.member(self.0.get(text(chosen, "type")?)?, member)
        };
        find().map(words).unwrap_or_default()
    }

    fn arguments(&self, command: &str) -> Option<&Value> {
        self.0.get(text(self.0.get(command)?, "arg-type")?)
    }

    fn tag_values(&self, object: &Value) -> BTreeSet<String> {
        text(object, "tag").and_then(|tag| self.member(object, tag)).map(words).unwrap_or_default()
    }

    fn member(&self, object: &Value, name: &str) -> Option<&Value> {
        let members = object.get("members")?.as_array()?;
        let member = members.iter().find(|m| text(m, "name") == Some(name))?;
        self.0.get(text(member, "type")?)
    }
}

/// The words of an enumeration: `members` since QEMU 6.2, `values` before (and still there beside it).
fn words(enumeration: &Value) -> BTreeSet<String> {
    let list = |key| enumeration.get(key).and_then(Value::as_array).into_iter().flatten();
    let named = list("members").filter_map(|m| text(m, "name"));
    named.chain(list("values").filter_map(Value::as_str)).map(str::to_owned).collect()
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Schema {
        Schema::new(serde_json::json!([
            { "name": "add", "meta-type": "command", "arg-type": "1", "ret-type": "5" },
            { "name": "1", "meta-type": "object", "tag": "driver",
              "members": [{ "name": "driver", "type": "2" }],
              "variants": [{ "case": "file", "type": "3" }, { "case": "null", "type": "gone" }] },
            { "name": "2", "meta-type": "enum", "members": [{ "name": "file" }, { "name": "null" }] },
            { "name": "3", "meta-type": "object", "members": [{ "name": "aio", "type": "4", "default": null }] },
            { "name": "4", "meta-type": "enum", "values": ["threads", "native"] },
            { "name": "5", "meta-type": "array", "element-type": "1" },
        ]))
    }

    fn set(words: &[&str]) -> BTreeSet<String> {
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    #[test]
    fn walks_from_the_command() {
        assert!(schema().has_command("add"));
        assert!(!schema().has_command("1"));
        assert_eq!(schema().kinds("add"), set(&["file", "null"]));
        assert_eq!(schema().returned_kinds("add"), set(&["file", "null"]));
        assert_eq!(schema().words("add", "file", "aio"), set(&["native", "threads"]));
    }

    #[test]
    fn what_is_not_there_is_empty() {
        assert_eq!(schema().kinds("remove"), set(&[]));
        assert_eq!(schema().words("add", "null", "aio"), set(&[]));
        assert_eq!(schema().words("add", "file", "cache"), set(&[]));
        assert_eq!(Schema::new(Value::Null).kinds("add"), set(&[]));
    }
}
