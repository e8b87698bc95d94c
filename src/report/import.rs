//! What became of an import.

use std::path::Path;

use super::hanging::within;
use crate::import::{Entry, Imported, Place, Verdict};
use crate::units::counted;

/// How many places of an entry are named.
const NAMED: usize = 2;
/// Also in a file, where it is read.
const WIDTH: usize = 110;

/// The account of an import. `written`: the file that it is in. `whole`: with what was taken over as it was. `quiet`: only what
/// needs a person; for scripts, so each entry is a line. For a reader of this width.
pub fn import(imported: &Imported, written: Option<&Path>, whole: bool, quiet: bool, width: usize) -> String {
    let width = if quiet { usize::MAX } else { width.min(WIDTH) };
    let mut text = String::new();
    for verdict in Verdict::ALL {
        let entries: Vec<&Entry> = imported.entries.iter().filter(|entry| entry.verdict == verdict).collect();
        let silent = quiet && verdict != Verdict::NeedsYou;
        if entries.is_empty() || silent {
            continue;
        }
        let values: usize = entries.iter().map(|entry| entry.places.len()).sum();
        text.push_str(&format!("{} ({})\n", verdict.title(), counted(values, "value", "values")));
        for entry in entries.into_iter().filter(|entry| whole || !entry.words.is_empty()) {
            let line = match (places(&entry.places), entry.words.as_str()) {
                (places, "") => places,
                (places, words) if places.is_empty() => words.to_owned(),
                (places, words) => format!("{places}: {words}"),
            };
            text.push_str(&within(width, "  ", &line));
            text.push('\n');
        }
    }
    if quiet {
        return text.trim_end().to_owned();
    }
    let needs = imported.entries.iter().filter(|entry| entry.verdict == Verdict::NeedsYou).count();
    let next = match written {
        Some(path) => format!("{} is written; next: `vfio-run check {}`", path.display(), path.display()),
        None => "-o FILE writes the machine file".to_owned(),
    };
    let person = match needs {
        0 => "nothing needs you".to_owned(),
        n => format!("{} what to write by hand", counted(n, "entry says", "entries say")),
    };
    text + &within(width, "", &format!("{}: {person}; {next}", imported.name))
}

/// Where values stand: the first lines, and how many more there are.
fn places(places: &[Place]) -> String {
    let mut lines: Vec<&Place> = Vec::new();
    for place in places {
        let same = |line: &&Place| {
            (&line.file, line.line) == (&place.file, place.line) && (place.file.is_none() || line.text == place.text)
        };
        if !lines.iter().any(same) {
            lines.push(place);
        }
    }
    let shown = |place: &&Place| match &place.file {
        Some(file) => format!("{file}:{}: `{}`", place.line, place.text),
        None => format!("line {} {}", place.line, place.text),
    };
    let named: Vec<String> = lines.iter().take(NAMED).map(shown).collect();
    match lines.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}
