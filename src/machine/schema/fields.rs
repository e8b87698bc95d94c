//! The fields of a machine file by their paths, with all that the schema says of each: what help, the manual and errors
//! show.

use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::examples;
use super::json_schema::schema;

/// What the schema says of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its path without places in lists and names of variants: `disks.cache`, `display.port`.
    pub path: String,
    /// What it is: its whole documentation.
    pub about: String,
    /// What a value looks like, in RON's words.
    pub takes: Option<String>,
    /// Whether it must be given, if the part that it is in is given.
    pub required: bool,
    /// What it is if it is left out, unless the documentation says so.
    pub default: Option<String>,
    /// The names that it can have as a value, each with what it means.
    pub choices: Vec<(String, String)>,
    /// Fields in it.
    pub below: Vec<String>,
}

/// The schema with a way to look fields up by their path.
pub struct Fields(Value);

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
            // A path may leave the place in a list out.
            if part.parse::<usize>().is_err()
                && !part.ends_with(']')
                && let Some(items) = node.get("items")
            {
                node = self.follow(items);
            }
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

    /// The first field of a variant that takes what begins with these words, as [`Fields::takes`] has them.
    pub fn first_in_variant(&self, path: &str, variant: &str, takes: &str) -> Option<&str> {
        let node = self.follow(self.get(path)?);
        let (_, inner) = self.variants(node).find(|(name, inner)| *name == variant && inner.is_some())?;
        let kind = takes.split([':', ',']).next().unwrap_or(takes);
        let fits = |name: &&str| self.takes(&format!("{path}.{name}")).is_some_and(|taken| taken.starts_with(kind));
        self.names(self.follow(inner?)).into_iter().find(fits)
    }

    /// The names that a value of the field can be and that take fields, none of which must be written.
    #[cfg(test)]
    pub fn words_with_fields(&self, path: &str) -> Vec<String> {
        let node = self.get(path).map(|node| self.follow(node));
        let variants = node.into_iter().flat_map(|node| self.variants(node));
        let free = |inner: &Value| inner.get("properties").is_some() && inner.get("required").is_none();
        let words = variants.filter(|(_, inner)| inner.is_some_and(|inner| free(self.follow(inner))));
        words.map(|(name, _)| name.to_owned()).collect()
    }

    /// What a value of the field looks like, in RON's words.
    pub fn takes(&self, path: &str) -> Option<String> {
        let node = self.follow(self.get(path)?);
        let variants: Vec<String> = self
            .variants(node)
            .map(|(name, inner)| match inner.map(|inner| self.follow(inner)) {
                None => format!("`{name}`"),
                Some(inner) if inner.get("properties").is_some() => format!("`{name}(…)`"),
                Some(inner) if inner.get("type").is_some_and(|kind| kind == "integer") => format!("`{name}(…)`"),
                Some(_) => format!("`{name}(\"…\")`"),
            })
            .collect();
        if !variants.is_empty() {
            // A word or a list, as `input`.
            let or_list = if node.get("items").is_some() { ", or a list in brackets: `[ … ]`" } else { "" };
            return Some(variants.join(", ") + or_list);
        }
        // A text or a list of texts, as `cpu.pin`.
        if node.get("type").is_some_and(|kinds| *kinds == serde_json::json!(["string", "array"])) {
            let about = node.get("description").and_then(Value::as_str).map(lower_first).unwrap_or_default();
            return Some(format!("text in double quotes: {about}, or a list in brackets: `[ … ]`"));
        }
        // A text or fields, as an entry of `pci`; a list or fields, as one of `hooks`.
        if let Some([short, _]) = node.get("type").and_then(Value::as_array).map(Vec::as_slice) {
            let names = self.names(node);
            let first = names.iter().find(|name| self.required(node, name)).or(names.first())?;
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
            "object" if node.get("additionalProperties").is_some_and(Value::is_object) => {
                "names and values in braces: `{\"…\": …}`".to_owned()
            }
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

    /// The paths of all fields, each before those in it, in the order of the types.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect("", &mut paths);
        paths
    }

    fn collect(&self, path: &str, paths: &mut Vec<String>) {
        for below in self.below(path) {
            paths.push(below.clone());
            self.collect(&below, paths);
        }
    }

    /// All of a field, by its path.
    pub fn field(&self, path: &str) -> Option<Field> {
        let path = plain(path);
        let node = self.get(&path)?;
        let kind = self.follow(node);
        let about =
            node.get("description").or_else(|| kind.get("description")).and_then(Value::as_str).unwrap_or_default();
        let (parent, name) = path.rsplit_once('.').unwrap_or(("", &path));
        let parent = self.element(parent)?;
        let required = self.required(parent, name);
        let default = node.get("default").and_then(|value| self.written(kind, value));
        Some(Field {
            about: about.replace('\n', " "),
            takes: self.takes(&path),
            required,
            default: default.filter(|_| !required && !about.contains("Default")),
            choices: self.choices(kind),
            below: self.below(&path),
            path,
        })
    }

    /// A value of the field, as an example: `"16 GiB"` for `memory.size`.
    pub fn example(&self, path: &str) -> Option<String> {
        let path = plain(path);
        examples::of(&path).map(str::to_owned).or_else(|| self.derived(&path))
    }

    /// The field with an example and all that must be written around it, to be pasted into a machine file:
    /// `disks: [(file: "linux.qcow2", cache: Writeback)]`.
    pub fn snippet(&self, path: &str) -> Option<String> {
        let path = plain(path);
        if let Some(whole) = examples::whole(&path) {
            return Some(whole.to_owned());
        }
        let mut value = self.example(&path)?;
        let (mut parent, mut name) = path.rsplit_once('.').unwrap_or(("", &path));
        while !parent.is_empty() {
            let node = self.follow(self.get(parent)?);
            value = self.fields_with(parent, name, &value)?;
            let variant = self.variants(node).find_map(|(variant, inner)| {
                let inner = self.follow(inner?);
                inner.pointer(&format!("/properties/{name}")).map(|_| variant)
            });
            value = variant.map_or(value.clone(), |variant| format!("{variant}{value}"));
            if node.get("items").is_some() {
                value = format!("[{value}]");
            }
            (parent, name) = parent.rsplit_once('.').unwrap_or(("", parent));
        }
        Some(format!("{name}: {value}"))
    }

    /// The fields of a part in parentheses: those that must be there, or nearly always are, and this one.
    fn fields_with(&self, parent: &str, name: &str, value: &str) -> Option<String> {
        let node = self.element(parent)?;
        let mut fields = Vec::new();
        let belongs = |other: &&str| {
            *other == name || self.required(node, other) || examples::nearly_always(parent) == Some(*other)
        };
        for other in self.names(node).into_iter().filter(belongs) {
            let other_value =
                if other == name { value.to_owned() } else { self.example(&format!("{parent}.{other}"))? };
            fields.push(format!("{other}: {other_value}"));
        }
        // The fields of a variant: none of them must be there.
        if fields.is_empty() {
            fields.push(format!("{name}: {value}"));
        }
        Some(format!("({})", fields.join(", ")))
    }

    /// An example for a field whose type shows what it takes.
    fn derived(&self, path: &str) -> Option<String> {
        let node = self.get(path)?;
        let kind = self.follow(node);
        let default = node.get("default").and_then(Value::as_str);
        if let Some((name, _)) = self.variants(kind).find(|(name, inner)| inner.is_none() && Some(*name) != default) {
            return Some(name.to_owned());
        }
        if kind.get("type").and_then(Value::as_str) == Some("boolean") {
            return Some("true".to_owned());
        }
        let item = self.element(path)?;
        let names = self.names(item);
        let first = names.iter().find(|name| self.required(item, name)).or(names.first())?;
        let fields = self.fields_with(path, first, &self.example(&format!("{path}.{first}"))?)?;
        Some(if kind.get("items").is_some() { format!("[{fields}]") } else { fields })
    }

    /// The type of the field, or of its elements if it is a list.
    fn element(&self, path: &str) -> Option<&Value> {
        let node = self.follow(self.get(path)?);
        Some(node.get("items").map_or(node, |items| self.follow(items)))
    }

    fn below(&self, path: &str) -> Vec<String> {
        let Some(node) = self.element(path) else { return Vec::new() };
        let mut names = self.names(node);
        for inner in self.variants(node).filter_map(|(_, inner)| inner) {
            let more = self.names(self.follow(inner));
            names.extend(more.into_iter().filter(|name| !names.contains(name)).collect::<Vec<_>>());
        }
        names.into_iter().map(|name| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }).collect()
    }

    /// A value of the schema as a machine file has it. Parts with fields of their own have no text worth showing.
    fn written(&self, kind: &Value, value: &Value) -> Option<String> {
        match value {
            Value::String(name) if self.variants(kind).any(|(variant, _)| variant == name) => Some(name.clone()),
            Value::String(text) => Some(format!("{text:?}")),
            Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
            Value::Array(items) if items.is_empty() => Some("[]".to_owned()),
            _ => None,
        }
    }

    /// The names that a value can be, as they are written, each with its documentation.
    fn choices(&self, kind: &Value) -> Vec<(String, String)> {
        let element = kind.get("items").map_or(kind, |items| self.follow(items));
        let about = |name: &str| {
            let one_of = element.get("oneOf").and_then(Value::as_array)?;
            let is = |variant: &&Value| {
                variant.get("const").and_then(Value::as_str) == Some(name)
                    || variant.pointer(&format!("/properties/{name}")).is_some()
            };
            one_of.iter().find(is)?.get("description")?.as_str()
        };
        self.variants(element)
            .map(|(name, inner)| {
                let holds = inner.map_or("", |inner| match self.follow(inner).get("properties") {
                    Some(_) => "(…)",
                    None => "(\"…\")",
                });
                (format!("{name}{holds}"), about(name).unwrap_or_default().replace('\n', " "))
            })
            .collect()
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

/// A path without places in lists.
fn plain(path: &str) -> String {
    let names = path.split(['.', '[']).map(|part| part.trim_end_matches(']'));
    names.filter(|part| !part.is_empty() && part.parse::<usize>().is_err()).collect::<Vec<_>>().join(".")
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}
