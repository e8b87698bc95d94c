//! What was asked for, on standard output; what is wrong with what the user wrote, on standard error.

use std::io::{self, ErrorKind, Write as _};
use std::sync::OnceLock;

use anyhow::Result;
use serde::Serialize;

/// Why what was asked for could not be written.
static UNWRITTEN: OnceLock<String> = OnceLock::new();

/// Prints a value as JSON, for scripts. What a terminal would obey is written by its number, also what JSON leaves as it is.
pub fn json(value: &impl Serialize) -> Result<()> {
    let mut text = String::new();
    for c in serde_json::to_string_pretty(value)?.chars() {
        match c {
            c if c.is_control() && c != '\n' => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    say(&text);
    Ok(())
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
        Err(error) if error.kind() != ErrorKind::BrokenPipe => drop(UNWRITTEN.set(error.to_string())),
        _ => {}
    }
}

/// Why something that was asked for could not be written, such as a full disk.
pub fn unwritten() -> Option<&'static str> {
    UNWRITTEN.get().map(String::as_str)
}

/// Prints what is wrong with what the user wrote, as it is, on standard error.
pub fn complain(text: &str) {
    drop(writeln!(anstream::stderr(), "{text}"));
}
