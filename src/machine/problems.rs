//! What was found wrong with a machine file, gathered until the first in the file's order is told.

use std::path::Path;

/// What was found wrong.
#[derive(Debug, Default)]
pub(super) struct Problems(pub(super) Vec<Problem>);

/// One thing that is wrong.
#[derive(Debug, Default)]
pub(super) struct Problem {
    /// Path of the field.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What the field takes.
    pub allowed: Option<String>,
    /// How to correct it.
    pub help: Option<String>,
}

impl Problems {
    /// Adds a problem with the field at this path. The message should begin with what was read.
    pub fn add(&mut self, field: impl Into<String>, message: impl Into<String>) -> &mut Problem {
        self.0.push(Problem { field: field.into(), message: message.into(), ..Problem::default() });
        let last = self.0.len() - 1;
        &mut self.0[last]
    }

    /// Refuses a path that cannot be meant.
    pub fn path(&mut self, field: &str, path: &Path) {
        let name = field.trim_end_matches(".File");
        if path.as_os_str().is_empty() {
            self.add(field, format!("`{name}` is empty")).allowed("the path of a file");
        } else if path.starts_with("~") {
            self.add(field, format!("`{name}`: `~` is not your home folder here"))
                .allowed("an absolute path, or one that starts from the machine file's folder")
                .help("root and you have different homes, so write the whole path");
        }
    }

    /// Refuses control characters in any text: they end lines in logs and files, and a NUL ends an argument. `path` is
    /// the field's.
    pub fn unprintable(&mut self, value: &serde_json::Value, path: String) {
        match value {
            serde_json::Value::String(text) if text.contains(char::is_control) => {
                // Variants begin with a capital; in the message the field is enough.
                let field = path.rsplit_once('.').filter(|(_, last)| last.starts_with(char::is_uppercase));
                let field = field.map_or(path.as_str(), |(field, _)| field).to_owned();
                self.add(path, format!("`{field}`: {text:?} has a control character in it"))
                    .allowed("text on one line, without tabs");
            }
            serde_json::Value::Array(items) => {
                for (i, item) in items.iter().enumerate() {
                    self.unprintable(item, format!("{path}[{i}]"));
                }
            }
            serde_json::Value::Object(map) => {
                for (key, item) in map {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    self.unprintable(item, path);
                }
            }
            _ => {}
        }
    }
}

impl Problem {
    /// Says what the field takes.
    pub fn allowed(&mut self, allowed: impl Into<String>) -> &mut Self {
        self.allowed = Some(allowed.into());
        self
    }

    /// Says how to correct it.
    pub fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }
}

/// Whether every character is an ASCII letter, a digit, or one of these.
pub(super) fn consists_of(text: &str, others: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}
