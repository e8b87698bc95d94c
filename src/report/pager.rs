//! Long texts: through a pager on a terminal, plain elsewhere.

use std::fs::File;
use std::io::{IsTerminal as _, Seek as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::Result;

use super::hanging::USUAL_WIDTH;

/// How wide text is for a reader: as the terminal, but no line too long to be followed.
pub fn text_width() -> usize {
    terminal_width().unwrap_or(USUAL_WIDTH).clamp(40, 100)
}

/// How wide a picture can be: as `$COLUMNS` says if it is set, else as the terminal.
pub fn picture_width() -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    columns.filter(|width| *width > 0).or_else(terminal_width).unwrap_or(USUAL_WIDTH).min(1000)
}

/// How many columns and lines the terminal has.
pub fn window() -> (usize, usize) {
    terminal_size::terminal_size().map_or((USUAL_WIDTH, 24), |(width, height)| (width.0.into(), height.0.into()))
}

fn terminal_width() -> Option<usize> {
    terminal_size::terminal_size().map(|(width, _)| usize::from(width.0))
}

/// Shows a text with styles. On a terminal the process becomes `$PAGER` (`less` if it is not set), so nothing after this
/// call is done then; without one, or elsewhere, the text is printed.
pub fn page(text: &str) {
    if std::io::stdout().is_terminal() {
        // The text is printed if it cannot be shown.
        drop(show(text));
    }
    super::say(text.trim_end());
}

/// Returns only if there is no pager.
fn show(text: &str) -> Result<()> {
    let pager = std::env::var("PAGER").unwrap_or_else(|_| "less".to_owned());
    // A program and its arguments: no shell reads them.
    let mut words = pager.split_whitespace();
    let Some(program) = words.next() else { return Ok(()) };
    let plain = anstream::AutoStream::choice(&std::io::stdout()) == anstream::ColorChoice::Never;
    let text = if plain { anstream::adapter::strip_str(text).to_string() } else { text.to_owned() };
    // All of it is there before the pager begins, so that nobody waits for either.
    let mut file = File::from(rustix::fs::memfd_create("manual", rustix::fs::MemfdFlags::CLOEXEC)?);
    writeln!(file, "{}", text.trim_end())?;
    file.rewind()?;
    let mut command = Command::new(program);
    command.args(words).stdin(file);
    if std::env::var_os("LESS").is_none() {
        // Keeps styles, and ends at once if all fits on the screen.
        command.env("LESS", "FRX");
    }
    Err(command.exec().into())
}
