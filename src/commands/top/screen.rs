//! A screen that is drawn again and again, and what the user does meanwhile.

use anyhow::Result;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::report;
use crate::run::{Output, Typed};

/// A screen of its own without a cursor, and back to what was there before (xterm's `ctlseqs`: DECSET 1049 and 25).
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l";
const LEAVE: &[u8] = b"\x1b[?25h\x1b[?1049l";
/// To the first place of the screen; the rest of the line is empty; what follows below is.
const HOME: &str = "\x1b[H";
const REST_OF_LINE: &str = "\x1b[K";
const REST_OF_SCREEN: &str = "\x1b[J";
/// `q`, Ctrl-C as a raw terminal has it.
const LEAVES: [u8; 3] = [b'q', b'Q', 0x03];

/// What the user did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    /// Has had enough, or is gone.
    Leaves,
    /// Made the window larger or smaller.
    Resized,
}

/// The terminal, as it was again when this is dropped.
pub(super) struct Screen {
    typed: Typed,
    output: Output,
    resized: Signal,
    has_colours: bool,
}

impl Screen {
    /// Takes the terminal.
    pub(super) fn open() -> Result<Self> {
        let resized = signal(SignalKind::window_change())?;
        let has_colours = anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never;
        let mut screen = Self { typed: Typed::standard()?, output: Output::standard()?, resized, has_colours };
        screen.output.push(ENTER);
        Ok(screen)
    }

    /// How wide it is.
    pub(super) fn width(&self) -> usize {
        report::window().0
    }

    /// Draws a text. While the terminal has not taken the picture before, there is none.
    pub(super) fn draw(&mut self, text: &str, interval: f64) {
        let (width, height) = report::window();
        if !self.output.write_now() {
            return;
        }
        let leaves = if self.typed.is_terminal() { "q leaves" } else { "Ctrl-C leaves" };
        let last = format!("every {interval} s; {leaves}");
        let mut lines = report::fitted(text, (width, height.saturating_sub(2).max(1)));
        if height > 3 {
            lines.push(String::new());
            lines.extend(report::fitted(&last, (width, 1)));
        }
        let picture = format!("{HOME}{}{REST_OF_LINE}{REST_OF_SCREEN}", lines.join(&format!("{REST_OF_LINE}\n")));
        let picture = if self.has_colours { picture } else { without_colours(&picture) };
        self.output.push(picture.as_bytes());
        self.output.write_now();
    }

    /// Waits until the user does something, and gives the terminal what it has not taken meanwhile.
    pub(super) async fn happens(&mut self) -> Done {
        loop {
            tokio::select! {
                typed = self.typed.next() => match typed {
                    Some(keys) if keys.iter().any(|key| LEAVES.contains(key)) => return Done::Leaves,
                    // The terminal is gone; the end of a file or a pipe means nothing.
                    None if self.typed.is_terminal() => return Done::Leaves,
                    _ => {}
                },
                _ = self.resized.recv() => return Done::Resized,
                () = self.output.flush(), if !self.output.is_empty() => {
                    if self.output.failure().is_some() {
                        return Done::Leaves;
                    }
                }
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.output.push(LEAVE);
        self.output.write_now();
    }
}

/// The picture without styles (`ESC [ … m`), which are all that colours are; where the text stands is told all the same.
fn without_colours(picture: &str) -> String {
    let mut parts = picture.split("\x1b[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(part.len());
        match part.get(end..).and_then(|text| text.strip_prefix('m')) {
            Some(text) => plain.push_str(text),
            None => {
                plain.push_str("\x1b[");
                plain.push_str(part);
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colours_the_text_stands_where_it_stood() {
        let picture = "\x1b[H\x1b[1mNAME\x1b[0m\x1b[K\nwin11\x1b[K\x1b[J";
        assert_eq!(without_colours(picture), "\x1b[HNAME\x1b[K\nwin11\x1b[K\x1b[J");
    }
}
