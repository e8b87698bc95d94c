//! The fields of the machine file, as pages: what help and the manual say of them, made from the schema.

use std::fmt::Write as _;

use super::Page;
use crate::machine::{Field, Fields};

/// All of a field and of those in it; `None` if there is no such field.
pub fn field(path: &str) -> Option<Page> {
    let fields = Fields::of_machine();
    let field = fields.field(path)?;
    let mut text = String::new();
    section(&field, 1, fields, &mut text);
    Some(Page::parse(&text))
}

/// A section for each field of the file itself, in Markdown.
pub(super) fn all() -> String {
    let fields = Fields::of_machine();
    let mut text = "## Fields\n\n".to_owned();
    for path in fields.paths().iter().filter(|path| !path.contains('.')) {
        if let Some(field) = fields.field(path) {
            section(&field, 3, fields, &mut text);
        }
    }
    text
}

/// Writing to a String cannot fail, here and below.
fn section(field: &Field, level: usize, fields: &Fields, text: &mut String) {
    let _ = writeln!(text, "{} {}\n", "#".repeat(level), field.path);
    for paragraph in meaning(field) {
        let _ = writeln!(text, "{paragraph}\n");
    }
    if let Some(snippet) = fields.snippet(&field.path) {
        let _ = writeln!(text, "Example:\n\n```ron\n{snippet}\n```\n");
    }
    for (name, about) in &field.choices {
        let _ = writeln!(text, "`{name}`\n: {about}\n");
    }
    let below = field.below.iter().flat_map(|path| with_below(path, fields));
    for field in below.filter_map(|path| fields.field(&path)) {
        let _ = writeln!(text, "`{}`", field.path);
        let mut mark = ": ";
        for paragraph in meaning(&field) {
            let _ = writeln!(text, "{mark}{paragraph}\n");
            mark = "  ";
        }
        for (name, about) in field.choices.iter().filter(|(_, about)| !about.is_empty()) {
            let _ = writeln!(text, "{mark}- `{name}`: {about}");
            mark = "  ";
        }
        if !field.choices.is_empty() {
            text.push('\n');
        }
        if let Some(snippet) = fields.snippet(&field.path) {
            let _ = writeln!(text, "{mark}Example: `{snippet}`\n");
        }
    }
}

fn with_below(path: &str, fields: &Fields) -> Vec<String> {
    let below = fields.field(path).map(|field| field.below).unwrap_or_default();
    let below = below.iter().flat_map(|path| with_below(path, fields));
    std::iter::once(path.to_owned()).chain(below).collect()
}

/// What a field is, what it takes, and what it is if it is left out.
fn meaning(field: &Field) -> Vec<String> {
    let mut paragraphs = vec![field.about.clone()];
    let mut facts = Vec::new();
    if field.required {
        facts.push("Must be given.".to_owned());
    }
    // Choices are listed with what they mean.
    if let Some(takes) = field.takes.as_ref().filter(|_| field.choices.is_empty()) {
        facts.push(format!("Takes {takes}."));
    }
    if let Some(default) = &field.default {
        facts.push(format!("Default: `{default}`."));
    }
    if !facts.is_empty() {
        paragraphs.push(facts.join(" "));
    }
    paragraphs.retain(|paragraph| !paragraph.is_empty());
    paragraphs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &str) -> String {
        anstream::adapter::strip_str(&field(path).unwrap().for_terminal(200)).to_string()
    }

    #[test]
    fn a_field_is_shown_with_what_it_takes_its_default_and_an_example() {
        let cache = text("disks.cache");
        assert!(cache.contains("Default None (O_DIRECT) for disks"), "{cache}");
        assert!(cache.contains("disks: [(file: \"disk.qcow2\", cache: None)]"), "{cache}");
        assert!(cache.contains("Writethrough"), "{cache}");
        let size = text("memory.size");
        assert!(size.contains("Must be given") && size.contains("memory: (size: \"16 GiB\")"), "{size}");
        // Those in it are there too, and places in lists may be written.
        let disks = text("disks[0]");
        assert!(
            disks.contains("disks.discard") && disks.contains("Example: disks: [(file: \"disk.qcow2\", id:"),
            "{disks}"
        );
        assert!(field("disks.nonsense").is_none());
    }

    #[test]
    fn the_manual_has_every_field() {
        let text = all();
        for path in Fields::of_machine().paths() {
            let there = text.contains(&format!("`{path}`")) || text.contains(&format!("### {path}\n"));
            assert!(there, "{path}");
        }
    }
}
