//! Validation that needs nothing but the file: what no host and no QEMU could run, or what the user cannot have meant.
//! What is merely unwise is left to the plan, which has findings for it.

mod cpu;
mod disks;
mod hooks;
mod paths;
mod pci;
mod platform;
mod screen;

#[cfg(test)]
mod tests;

use std::path::Path;

use super::Machine;
use super::lines::{Lines, Value};
use super::refused::Refused;
use super::tokens::Span;

pub use platform::is_name;

/// Fills in what follows from the file's place: the name, and absolute paths.
pub(super) fn complete(machine: &mut Machine, file: &Path) {
    if machine.name.is_empty() {
        machine.name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    }
    paths::resolve(machine, file);
}

/// Refuses with the first problem in the file's order.
pub(super) fn check(machine: &Machine, file: &Path, text: &str, lines: &Lines) -> Result<(), Refused> {
    let mut problems = Problems::default();
    platform::check(machine, &mut problems);
    cpu::check(machine, &mut problems);
    disks::check(&machine.disks, &mut problems);
    pci::check(machine, &mut problems);
    screen::check(machine, &mut problems);
    hooks::check(machine, &mut problems);
    paths::check(machine, &mut problems);
    problems.unprintable(machine);
    let placed = problems.0.into_iter().map(|problem| (locate(lines, &problem.field), problem));
    // A stable sort: where two problems share a place, the order of the checks decides.
    match placed.min_by_key(|(span, _)| span.start) {
        None => Ok(()),
        Some((span, problem)) => {
            let mut refused = Refused::at(file, text, span, problem.message).field(&problem.field);
            if let Some(allowed) = problem.allowed {
                refused = refused.allowed(allowed);
            }
            if let Some(help) = problem.help {
                refused = refused.help(help);
            }
            Err(refused)
        }
    }
}

/// Where the field's value was written, or the nearest that holds it.
fn locate(lines: &Lines, field: &str) -> Span {
    let mut path = field;
    loop {
        if let Some(Value { head, .. }) = lines.get(path) {
            return *head;
        }
        match path.rfind(['.', '[']) {
            Some(end) => path = &path[..end],
            None => return lines.get("").map(|value| value.head).unwrap_or_default(),
        }
    }
}

/// What was found wrong.
#[derive(Debug, Default)]
struct Problems(Vec<Problem>);

/// One thing that is wrong.
#[derive(Debug, Default)]
struct Problem {
    field: String,
    message: String,
    allowed: Option<String>,
    help: Option<String>,
}

impl Problems {
    /// Adds a problem with the field at this path. The message should begin with what was read.
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>) -> &mut Problem {
        self.0.push(Problem { field: field.into(), message: message.into(), ..Problem::default() });
        let last = self.0.len() - 1;
        &mut self.0[last]
    }

    /// Control characters have no place in any value: they end lines in logs and files, and a NUL ends an argument.
    fn unprintable(&mut self, machine: &Machine) {
        if let Ok(value) = serde_json::to_value(machine) {
            self.unprintable_in(&value, String::new());
        }
    }

    fn unprintable_in(&mut self, value: &serde_json::Value, path: String) {
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
                    self.unprintable_in(item, format!("{path}[{i}]"));
                }
            }
            serde_json::Value::Object(map) => {
                for (key, item) in map {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    self.unprintable_in(item, path);
                }
            }
            _ => {}
        }
    }
}

impl Problem {
    fn allowed(&mut self, allowed: impl Into<String>) -> &mut Self {
        self.allowed = Some(allowed.into());
        self
    }

    fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }
}

/// Whether every character is an ASCII letter, a digit, or one of these.
fn consists_of(text: &str, others: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}
