//! What was asked for, on standard output; what is wrong with what the user wrote, on standard error.

use std::io::{self, ErrorKind, Write as _};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use serde::Serialize;

use super::hanging::{each_within, messages_width};
use crate::units::is_obeyed;

/// Why what was asked for could not be written.
static UNWRITTEN: OnceLock<String> = OnceLock::new();
/// Whether the reader of standard output went away.
static ALONE: AtomicBool = AtomicBool::new(false);

/// Prints a value as JSON, for scripts. What a terminal would obey is written by its number, also what JSON leaves as it is.
pub fn json(value: &impl Serialize) -> Result<()> {
    say(&harmless(&serde_json::to_string_pretty(value)?));
    Ok(())
}

/// The same in one line, for a command that prints several values.
pub fn json_line(value: &impl Serialize) -> Result<()> {
    say(&harmless(&serde_json::to_string(value)?));
    Ok(())
}

fn harmless(json: &str) -> String {
    let mut text = String::new();
    for c in json.chars() {
        match c {
            c if is_obeyed(c) && c != '\n' => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text
}

/// Prints lines that were asked for on standard output. A reader that went away (`| head`) is no error; any other makes
/// [`unwritten`] say so.
pub fn say(text: &str) {
    let mut out = anstream::stdout();
    note(writeln!(out, "{}", styled(text)).and_then(|()| out.flush()));
}

/// A text with styles of ours, without what else a terminal obeys: paths and names in it are of others' choice.
fn styled(text: &str) -> String {
    const OURS: [char; 3] = ['\n', '\t', '\u{1b}'];
    let shown = |c| if is_obeyed(c) && !OURS.contains(&c) { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().map(shown).collect()
}

/// Prints a text that was made whole before, as [`say`] does.
pub fn print(text: &[u8]) {
    let mut out = io::stdout().lock();
    note(out.write_all(text).and_then(|()| out.flush()));
}

fn note(written: io::Result<()>) {
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ALONE.store(true, Ordering::Relaxed),
        Err(error) => drop(UNWRITTEN.set(error.to_string())),
    }
}

/// Whether nobody reads on, or nothing more can be written: what goes on without end ends then.
pub fn is_over() -> bool {
    ALONE.load(Ordering::Relaxed) || UNWRITTEN.get().is_some()
}

/// Why something that was asked for could not be written, such as a full disk.
pub fn unwritten() -> Option<&'static str> {
    UNWRITTEN.get().map(String::as_str)
}

/// Prints what is wrong with what the user wrote on standard error, wrapped for its terminal.
pub fn complain(text: &str) {
    drop(writeln!(anstream::stderr(), "{}", each_within(messages_width(), &styled(text))));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_a_terminal_obeys_only_our_styles_are_left() {
        assert_eq!(
            styled("\u{1b}[1mFAIL\u{1b}[0m\n\ta\u{9b}31m\u{202e}gpj.x\r"),
            "\u{1b}[1mFAIL\u{1b}[0m\n\ta\u{fffd}31m\u{fffd}gpj.x\u{fffd}"
        );
        assert_eq!(harmless("\"\u{9b}\u{202e}\"\n"), "\"\\u009b\\u202e\"\n");
    }
}
