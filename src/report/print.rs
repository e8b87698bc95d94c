//! What was asked for, on standard output; what is wrong with what the user wrote, on standard error.

use anyhow::Result;
use serde::Serialize;

/// Prints a value as JSON, for scripts. A reader that went away is no error.
pub fn json(value: &impl Serialize) -> Result<()> {
    say(&serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Prints lines that were asked for on standard output. A reader that went away (`| head`) is no error.
pub fn say(text: &str) {
    use std::io::Write as _;
    drop(writeln!(anstream::stdout(), "{text}"));
}

/// Prints a text that was made whole before, as [`say`] does.
pub fn print(text: &[u8]) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    drop(out.write_all(text).and_then(|()| out.flush()));
}

/// Prints what is wrong with what the user wrote, as it is, on standard error.
pub fn complain(text: &str) {
    use std::io::Write as _;
    drop(writeln!(anstream::stderr(), "{text}"));
}
