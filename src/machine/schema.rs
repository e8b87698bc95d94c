//! The machine file's JSON schema: for editors and generators, and for what errors say is allowed.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::Machine;

/// The JSON schema of a machine file, in the dialect of 2020-12.
///
/// RON has no schema language of its own. What a person writes in RON stands to this schema as follows, which the
/// schema's `$comment` repeats: `(a: 1)` is an object, `Name` is the string `"Name"`, `Name(a: 1)` is an object of one
/// key, `{"Name": {"a": 1}}`, and a field that is left out is absent.
pub fn schema() -> Value {
    let mut schema =
        schemars::generate::SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Machine>();
    let schema = schema.ensure_object();
    schema.insert("title".into(), json!("vfio-run machine file"));
    schema.insert(
        "$comment".into(),
        json!(
            "The file is RON. An object is written (field: value), the string of an enum is a bare name, and an \
             object with one key of an enum is that name with the value in parentheses: {\"Vnc\": {\"port\": 5900}} \
             is Vnc(port: 5900)."
        ),
    );
    let mut schema = Value::Object(std::mem::take(schema));
    // The name's own default is the file's, not the empty text that stands for it in the types.
    if let Some(Value::Object(name)) = schema.pointer_mut("/properties/name") {
        name.remove("default");
    }
    drop_nulls(&mut schema);
    schema
}

/// Takes `null` out: what is left out of a machine file is left out, nobody writes it as nothing.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        Value::Object(map) => {
            map.values_mut().for_each(drop_nulls);
            for key in ["anyOf", "type", "enum"] {
                if let Some(Value::Array(items)) = map.get_mut(key) {
                    items
                        .retain(|item| *item != json!({ "type": "null" }) && *item != json!("null") && !item.is_null());
                    if let ("anyOf", [Value::Object(only)]) = (key, items.as_slice()) {
                        let only = only.clone();
                        map.remove("anyOf");
                        map.extend(only);
                    } else if let ("type", [Value::String(only)]) = (key, items.as_slice()) {
                        let only = json!(only);
                        map.insert("type".into(), only);
                    }
                }
            }
            if let Some(default) = map.get_mut("default") {
                strip_nulls(default);
                if default.is_null() {
                    map.remove("default");
                }
            }
        }
        _ => {}
    }
}

fn strip_nulls(value: &mut Value) {
    if let Value::Object(map) = value {
        map.values_mut().for_each(strip_nulls);
        map.retain(|_, value| !value.is_null());
    }
}

/// The schema with a way to look fields up by their path.
pub(super) struct Fields(Value);

impl Fields {
    /// Of the machine file; made when the first error asks for it.
    pub fn of_machine() -> &'static Self {
        static FIELDS: LazyLock<Fields> = LazyLock::new(|| Fields(schema()));
        &FIELDS
    }

    fn follow<'a>(&'a self, mut node: &'a Value) -> &'a Value {
        while let Some(target) = node.get("$ref").and_then(Value::as_str) {
            match self.0.pointer(target.trim_start_matches('#')) {
                Some(found) => node = found,
                None => break,
            }
        }
        node
    }

    /// The schema of the field at this path, and that of its type.
    pub fn get(&self, path: &str) -> Option<&Value> {
        let mut node = &self.0;
        for part in path.split(['.', '[']).filter(|part| !part.is_empty()) {
            node = self.follow(node);
            node = match part.trim_end_matches(']').parse::<usize>() {
                Ok(_) if node.get("items").is_some() => node.get("items")?,
                Ok(_) => self.variants(node).find_map(|(_, inner)| inner)?,
                Err(_) => node.pointer(&format!("/properties/{part}")).or_else(|| {
                    self.variants(node)
                        .filter_map(|(_, inner)| inner)
                        .find_map(|inner| self.follow(inner).pointer(&format!("/properties/{part}")))
                })?,
            };
        }
        Some(node)
    }

    /// The variants of an enum with what they hold.
    fn variants<'a>(&'a self, node: &'a Value) -> impl Iterator<Item = (&'a str, Option<&'a Value>)> {
        let one_of = node.get("oneOf").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let plain = node.get("enum").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let unit = |value: &'a Value| value.as_str().map(|name| (name, None));
        let of_one = one_of.iter().flat_map(move |variant| {
            let unit = variant.get("const").and_then(unit);
            let several = variant.get("enum").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let holding = variant.get("properties").and_then(Value::as_object).and_then(|map| map.iter().next());
            let holding = holding.map(|(name, inner)| (name.as_str(), Some(inner)));
            unit.into_iter().chain(holding).chain(several.iter().filter_map(Value::as_str).map(|name| (name, None)))
        });
        of_one.chain(plain.iter().filter_map(unit))
    }

    /// What a value of the field looks like, in RON's words.
    pub fn takes(&self, path: &str) -> Option<String> {
        let node = self.follow(self.get(path)?);
        let variants: Vec<String> = self
            .variants(node)
            .map(|(name, inner)| match inner.map(|inner| self.follow(inner)) {
                None => format!("`{name}`"),
                Some(inner) if inner.get("properties").is_some() => format!("`{name}(…)`"),
                Some(_) => format!("`{name}(\"…\")`"),
            })
            .collect();
        if !variants.is_empty() {
            return Some(variants.join(", "));
        }
        // A text or fields, as an entry of `pci`; a list or fields, as one of `hooks`.
        if let Some([short, _]) = node.get("type").and_then(Value::as_array).map(Vec::as_slice) {
            let first = self.names(node).into_iter().find(|name| self.required(node, name))?;
            let short = if short == "array" { "a list in brackets: `[ … ]`" } else { "text in double quotes" };
            return Some(format!("{short}, or fields in parentheses: `({first}: …)`"));
        }
        let kind = match node.get("type").and_then(Value::as_str)? {
            "boolean" => "`true` or `false`".to_owned(),
            "integer" => {
                let limit = |key| node.get(key).and_then(Value::as_f64);
                let max = limit("maximum").or(match node.get("format").and_then(Value::as_str) {
                    Some("uint8") => Some(f64::from(u8::MAX)),
                    Some("uint16") => Some(f64::from(u16::MAX)),
                    Some("uint32") => Some(f64::from(u32::MAX)),
                    _ => None,
                });
                match (limit("minimum"), max) {
                    (Some(min), Some(max)) => format!("a whole number from {min} to {max}"),
                    _ => "a whole number".to_owned(),
                }
            }
            "array" => "a list in brackets: `[ … ]`".to_owned(),
            "object" => {
                let fields = self.names(node);
                let first = fields.iter().find(|name| self.required(node, name)).or(fields.first())?;
                format!("fields in parentheses: `({first}: …)`")
            }
            "string" => match node.get("format").and_then(Value::as_str) {
                Some("uuid") => "a UUID in double quotes: `\"123e4567-e89b-12d3-a456-426614174000\"`".to_owned(),
                Some("ip") => "an IP address in double quotes: `\"127.0.0.1\"`".to_owned(),
                _ => match (node.get("pattern"), node.get("description").and_then(Value::as_str)) {
                    // A unit type: its description has an example.
                    (Some(_), Some(about)) => format!("text in double quotes: {}", lower_first(about)),
                    _ => "text in double quotes".to_owned(),
                },
            },
            _ => return None,
        };
        Some(kind)
    }

    /// The first sentence of what the field's documentation says.
    pub fn about(&self, path: &str) -> Option<String> {
        let node = self.get(path)?;
        let text = node.get("description").or_else(|| self.follow(node).get("description"))?.as_str()?;
        Some(text.lines().next()?.to_owned())
    }

    fn names<'a>(&'a self, node: &'a Value) -> Vec<&'a str> {
        let fields = node.get("properties").and_then(Value::as_object);
        fields.map(|map: &Map<_, _>| map.keys().map(String::as_str).collect()).unwrap_or_default()
    }

    fn required(&self, node: &Value, name: &str) -> bool {
        node.get("required").and_then(Value::as_array).is_some_and(|names| names.iter().any(|n| n == name))
    }

    /// The top-level fields whose own fields include this name: where a misplaced field may belong.
    pub fn homes(&self, name: &str) -> Vec<&str> {
        let has = |node: &Value| node.pointer(&format!("/properties/{name}")).is_some();
        let mut homes = self.names(&self.0);
        homes.retain(|field| {
            self.get(field).is_some_and(|node| {
                let node = self.follow(node);
                has(node)
                    || node.get("items").is_some_and(|item| has(self.follow(item)))
                    || self.variants(node).filter_map(|(_, inner)| inner).any(|inner| has(self.follow(inner)))
            })
        });
        homes
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}
