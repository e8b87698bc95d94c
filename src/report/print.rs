//! What was asked for, on standard output; what is wrong with what the user wrote, on standard error.

use std::io::{self, ErrorKind, Write as _};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use serde::Serialize;

use super::hanging::{each_within, messages_width};

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
            c if c.is_control() && c != '\n' => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text
}

/// Prints lines that were asked for on standard output. A reader that went away (`| head`) is no error; any other makes
/// [`unwritten`] say so.
pub fn say(text: &str) {
    let mut out = anstream::stdout();
    note(writeln!(out, "{text}").and_then(|()| out.flush()));
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
    drop(writeln!(anstream::stderr(), "{}", each_within(messages_width(), text)));
}
