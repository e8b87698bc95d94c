//! Checks a command and its arguments against QEMU's own description of them, as `query-qmp-schema` gave it.
//!
//! QEMU's JSON options are these commands: `-blockdev` is `blockdev-add`, `-object` is `object-add`, `-netdev` is
//! `netdev_add`. So a golden command line is checked without a QEMU, and for every QEMU that was recorded.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// A QEMU's description of its commands and types.
pub struct Schema<'a> {
    entities: HashMap<&'a str, &'a Value>,
}

impl<'a> Schema<'a> {
    /// As `query-qmp-schema` gave it: a list.
    pub fn of(schema: &'a Value) -> Self {
        let entities = schema.as_array().into_iter().flatten();
        Self { entities: entities.map(|entity| (word(entity, "name"), entity)).collect() }
    }

    /// Whether this QEMU takes the command with these arguments, else where and why not.
    ///
    /// `device_add` takes properties that the schema does not list (they are the drivers' own): there only the members
    /// that it knows are checked.
    pub fn check(&self, command: &str, arguments: &Value) -> Result<(), String> {
        let entity = self.entity(command).filter(|e| word(e, "meta-type") == "command");
        let entity = entity.ok_or_else(|| format!("there is no command `{command}`"))?;
        self.value(word(entity, "arg-type"), arguments, command, command == "device_add")
    }

    fn entity(&self, name: &str) -> Option<&'a Value> {
        self.entities.get(name).copied()
    }

    fn value(&self, kind: &str, value: &Value, at: &str, open: bool) -> Result<(), String> {
        let entity = self.entity(kind).ok_or_else(|| format!("{at}: the schema lacks its type {kind}"))?;
        match word(entity, "meta-type") {
            "builtin" => builtin(word(entity, "json-type"), value, at),
            "enum" => enumeration(entity, value, at),
            "array" => {
                let items = value.as_array().ok_or_else(|| format!("{at}: a list is wanted, not {value}"))?;
                let element = word(entity, "element-type");
                let mut items = items.iter().enumerate();
                items.try_for_each(|(i, item)| self.value(element, item, &format!("{at}[{i}]"), false))
            }
            "alternate" => {
                let choices = list(entity, "members").map(|m| self.value(word(m, "type"), value, at, false));
                let errors: Vec<String> = match choices.collect::<Vec<_>>() {
                    results if results.iter().any(Result::is_ok) => return Ok(()),
                    results => results.into_iter().filter_map(Result::err).collect(),
                };
                Err(format!("{at}: none of its forms fits: {}", errors.join("; ")))
            }
            "object" => {
                let object = value.as_object().ok_or_else(|| format!("{at}: an object is wanted, not {value}"))?;
                self.object(entity, object, at, open)
            }
            other => Err(format!("{at}: unknown meta-type `{other}`")),
        }
    }

    fn object(&self, entity: &Value, object: &Map<String, Value>, at: &str, open: bool) -> Result<(), String> {
        let mut members: Vec<&Value> = list(entity, "members").collect();
        if let Some(tag) = entity.get("tag").and_then(Value::as_str) {
            let case = object.get(tag).and_then(Value::as_str).unwrap_or_default();
            let variant = list(entity, "variants").find(|v| word(v, "case") == case);
            // A tag without a variant adds no members; whether the tag is known is checked with the members.
            if let Some(variant) = variant.and_then(|v| self.entity(word(v, "type"))) {
                members.extend(list(variant, "members"));
                // A variant may itself be a tagged union.
                if variant.get("tag").is_some() {
                    return self.object_with(variant, &members, object, at, open);
                }
            }
        }
        self.members(&members, object, at, open)
    }

    fn object_with(
        &self,
        variant: &Value,
        outer: &[&'a Value],
        object: &Map<String, Value>,
        at: &str,
        open: bool,
    ) -> Result<(), String> {
        let case = object.get(word(variant, "tag")).and_then(Value::as_str).unwrap_or_default();
        let inner = list(variant, "variants").find(|v| word(v, "case") == case);
        let mut members = outer.to_vec();
        if let Some(inner) = inner.and_then(|v| self.entity(word(v, "type"))) {
            members.extend(list(inner, "members"));
        }
        self.members(&members, object, at, open)
    }

    fn members(&self, members: &[&Value], object: &Map<String, Value>, at: &str, open: bool) -> Result<(), String> {
        for (key, value) in object {
            match members.iter().find(|member| word(member, "name") == key) {
                Some(member) => self.value(word(member, "type"), value, &format!("{at}.{key}"), false)?,
                None if open => {}
                None => {
                    let known: Vec<&str> = members.iter().map(|member| word(member, "name")).collect();
                    return Err(format!("{at}: unknown member `{key}`; known are {}", known.join(", ")));
                }
            }
        }
        // A member that may be left out has a `default`, which is null for lack of a better one.
        let mut needed = members.iter().filter(|member| member.get("default").is_none());
        match needed.find(|member| !object.contains_key(word(member, "name"))) {
            Some(missing) => Err(format!("{at}: `{}` is missing", word(missing, "name"))),
            None => Ok(()),
        }
    }
}

fn builtin(kind: &str, value: &Value, at: &str) -> Result<(), String> {
    let fits = match kind {
        "string" => value.is_string(),
        "number" => value.is_number(),
        "int" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        _ => true,
    };
    if fits { Ok(()) } else { Err(format!("{at}: {kind} is wanted, not {value}")) }
}

fn enumeration(entity: &Value, value: &Value, at: &str) -> Result<(), String> {
    let mut words: Vec<&str> = list(entity, "values").filter_map(Value::as_str).collect();
    words.extend(list(entity, "members").map(|member| word(member, "name")));
    words.sort_unstable();
    words.dedup();
    match value.as_str() {
        Some(text) if words.contains(&text) => Ok(()),
        _ => Err(format!("{at}: {value} is none of {}", words.join(", "))),
    }
}

fn word<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn list<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> + use<'v> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema(version: &str) -> Value {
        let file = format!("{}/tests/qemu/{version}-schema.json", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
    }

    fn both(command: &str, arguments: Value) -> [Result<(), String>; 2] {
        ["7.2", "10.0"].map(|version| Schema::of(&schema(version)).check(command, &arguments))
    }

    #[test]
    fn takes_what_qemu_takes() {
        let disk = json!({
            "driver": "qcow2", "node-name": "disk0", "discard": "unmap", "cache": { "direct": true },
            "file": { "driver": "file", "filename": "/a,b.qcow2", "aio": "native" },
        });
        let by_name = json!({ "driver": "raw", "node-name": "r", "file": "node" });
        let memory = json!({ "qom-type": "memory-backend-memfd", "id": "m", "size": 1048576, "host-nodes": [0] });
        for (command, arguments) in [
            ("blockdev-add", disk),
            ("blockdev-add", by_name),
            ("object-add", memory),
            ("object-add", json!({ "qom-type": "iothread", "id": "io0" })),
            ("netdev_add", json!({ "type": "user", "id": "n0" })),
            ("device_add", json!({ "driver": "nvme", "id": "d", "serial": "x" })),
            ("query-status", json!({})),
        ] {
            assert_eq!(both(command, arguments), [Ok(()), Ok(())]);
        }
    }

    #[test]
    fn refuses_what_qemu_refuses() {
        for (command, arguments, words) in [
            ("blockdev-add", json!({ "driver": "raw", "file": "n", "discrad": "unmap" }), "unknown member `discrad`"),
            ("blockdev-add", json!({ "driver": "raw" }), "`file` is missing"),
            ("blockdev-add", json!({ "driver": "qcow3", "file": "n" }), "\"qcow3\" is none of"),
            ("blockdev-add", json!({ "driver": "raw", "file": 1 }), "none of its forms fits"),
            ("object-add", json!({ "qom-type": "iothread", "id": "i", "poll-max-ns": "1" }), "int is wanted"),
            ("object-add", json!({ "qom-type": "iothread" }), "`id` is missing"),
            ("device_add", json!({ "driver": 1 }), "string is wanted"),
            ("no-such", json!({}), "no command"),
        ] {
            for result in both(command, arguments) {
                let error = result.unwrap_err();
                assert!(error.contains(words), "{error}");
            }
        }
    }

    #[test]
    fn the_versions_differ() {
        let reconnect =
            json!({ "type": "stream", "id": "n", "addr": { "type": "unix", "path": "/s" }, "reconnect-ms": 1 });
        let [old, new] = both("netdev_add", reconnect);
        assert!(old.unwrap_err().contains("reconnect-ms"));
        assert_eq!(new, Ok(()));
    }
}
