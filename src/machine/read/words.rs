//! A name alone for one with empty parentheses: `display: Vnc` for `display: Vnc()`. RON wants the parentheses of a variant
//! that takes fields, also if none is written.

use std::borrow::Cow;

use super::lines::Lines;

/// The names that take fields none of which must be written, by the field whose values they are. A table of its own, so
/// that reading a machine file does not build the schema; a test compares the two.
const WORDS: &[(&str, &[&str])] = &[
    ("audio", &["Auto", "PipeWire", "Pulse", "Jack", "Alsa", "Spice"]),
    ("display", &["Vnc", "Spice", "Gtk", "Sdl", "DBus"]),
    ("firmware", &["Uefi"]),
    ("smbios", &["Fields"]),
    ("tpm", &["V2"]),
    ("video", &["VirtioGl"]),
];
/// What is added behind a name.
const PARENTHESES: &str = "()";

/// A machine file's text with the parentheses that its names were left without.
pub(super) struct Completed<'a> {
    /// The text that `ron` reads.
    pub text: Cow<'a, str>,
    /// Where parentheses were added: the bytes of the file's own text behind which they stand, ascending.
    added: Vec<usize>,
}

impl<'a> Completed<'a> {
    /// Adds them.
    pub fn new(text: &'a str, lines: &Lines) -> Self {
        let takes_fields = |path: &str, word: &str| {
            let path = without_places(path);
            WORDS.iter().any(|(field, words)| *field == path && words.contains(&word))
        };
        let bare = lines.bare().filter(|value| takes_fields(&value.path, &text[value.head.start..value.head.end]));
        let added: Vec<usize> = bare.map(|value| value.head.end).collect();
        if added.is_empty() {
            return Self { text: Cow::Borrowed(text), added };
        }
        let mut completed = text.to_owned();
        added.iter().rev().for_each(|at| completed.insert_str(*at, PARENTHESES));
        Self { text: Cow::Owned(completed), added }
    }

    /// The byte of the file's own text that this byte of the completed text is.
    pub fn original(&self, byte: usize) -> usize {
        let mut original = byte;
        for at in &self.added {
            // What stands between the two parentheses is behind the name.
            original -= original.saturating_sub(*at).min(PARENTHESES.len());
        }
        original
    }
}

/// A path without places in lists.
fn without_places(path: &str) -> String {
    path.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::schema::Fields;

    #[test]
    fn the_table_is_that_of_the_schema() {
        let fields = Fields::of_machine();
        let known: Vec<(String, Vec<String>)> =
            fields.paths().into_iter().map(|path| (path.clone(), fields.words_with_fields(&path))).collect();
        let known: Vec<_> = known.into_iter().filter(|(_, words)| !words.is_empty()).collect();
        let mut table: Vec<(String, Vec<String>)> = WORDS
            .iter()
            .map(|(path, words)| ((*path).to_owned(), words.iter().map(|word| (*word).to_owned()).collect()))
            .collect();
        table.sort_by_key(|(path, _)| known.iter().position(|(other, _)| other == path));
        assert_eq!(table, known);
    }

    #[test]
    fn parentheses_are_added_where_they_are_missing_and_places_stay_those_of_the_file() {
        let text = "(display: Vnc, firmware: Uefi , audio: Auto(user: \"a\"), vsock: Auto)";
        let completed = Completed::new(text, &Lines::find(text).unwrap());
        assert_eq!(completed.text, "(display: Vnc(), firmware: Uefi() , audio: Auto(user: \"a\"), vsock: Auto)");
        for (byte, char) in completed.text.char_indices().filter(|(_, c)| !"()".contains(*c)) {
            assert_eq!(text[completed.original(byte)..].chars().next(), Some(char));
        }
        let text = "(guest: Linux)";
        let completed = Completed::new(text, &Lines::find(text).unwrap());
        assert!(matches!(completed.text, Cow::Borrowed(_)));
        assert_eq!(completed.original(7), 7);
        assert_eq!(without_places("a[0].b[12].c"), "a.b.c");
    }
}
