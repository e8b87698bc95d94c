//! Validation that needs nothing but the file, and what the host must be asked about: both as the subjects say it.

#[cfg(test)]
mod tests;

use std::path::Path;

use super::lines::{Lines, Value};
use super::refused::{MOST, Refused};
use super::tokens::Span;
use crate::machine::file::Machine;
use crate::machine::named::Named;
use crate::machine::problems::{Problem, Problems};
use crate::machine::values;

/// Fills in what follows from the file's place: the name, and absolute paths, so that nothing depends on the folder that
/// we run in.
pub(super) fn complete(machine: &mut Machine, file: &Path) {
    if machine.name.is_empty() {
        machine.name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    }
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let folder = absolute.parent().unwrap_or(Path::new("/"));
    values::resolve(machine, folder);
    machine.subjects_mut().for_each(|subject| subject.resolve(folder));
}

/// Refuses with the problems in the file's order, of several at one place the first.
pub(super) fn check(machine: &Machine, file: &Path, text: &str, lines: &Lines) -> Result<(), Refused> {
    let mut problems = Problems::default();
    values::check(machine, &mut problems);
    machine.subjects().for_each(|subject| subject.check(&mut problems));
    if let (Some(input), Some(Value { head, .. })) = (&machine.input, lines.get("input")) {
        input.check_word(text.get(head.start..head.end).unwrap_or_default(), &mut problems);
    }
    values::check_path(machine, &mut problems);
    for (field, path) in machine.clone().subjects_mut().flat_map(|subject| subject.paths()) {
        problems.path(&field, path);
    }
    if let Ok(value) = serde_json::to_value(machine) {
        problems.unprintable(&value, String::new());
    }
    let mut placed: Vec<_> = problems.0.into_iter().map(|problem| (locate(lines, &problem.field), problem)).collect();
    // A stable sort: if two problems share a place, the order of the checks decides.
    placed.sort_by_key(|(span, _)| span.start);
    placed.dedup_by_key(|(span, _)| span.start);
    let mut refused = placed.into_iter().take(MOST).map(|(span, problem)| {
        let Problem { field, message, allowed, help } = problem;
        let refused = Refused::at(file, text, span, message).field(&field);
        let refused = allowed.into_iter().fold(refused, Refused::allowed);
        help.into_iter().fold(refused, Refused::help)
    });
    match refused.next() {
        None => Ok(()),
        Some(first) => Err(Refused { also: refused.collect(), ..first }),
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

impl Machine {
    /// What the host must be asked about before a plan for this machine is made.
    pub fn named(&self) -> Named {
        let mut named = Named::default();
        values::named(self, &mut named);
        for (_, path) in self.clone().subjects_mut().flat_map(|subject| subject.paths()) {
            named.files.push(path.clone());
        }
        self.subjects().for_each(|subject| subject.name(&mut named));
        named
    }
}
