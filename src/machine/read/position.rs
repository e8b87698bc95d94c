//! Lines and columns of a text, and its bytes.

/// A place in the machine file, both numbers from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Position {
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
}

/// Turns byte offsets that only grow into positions, in one pass over the text: a file may be one long line.
pub(super) struct Walk<'a> {
    /// The text.
    pub text: &'a str,
    byte: usize,
    at: Position,
}

impl<'a> Walk<'a> {
    /// Begins at the text's beginning.
    pub fn new(text: &'a str) -> Self {
        Self { text, byte: 0, at: Position { line: 1, column: 1 } }
    }

    /// The position of this byte, which is not before the last one.
    pub fn to(&mut self, byte: usize) -> Position {
        for c in self.text[self.byte..byte].chars() {
            if c == '\n' {
                self.at = Position { line: self.at.line + 1, column: 1 };
            } else {
                self.at.column += 1;
            }
        }
        self.byte = byte;
        self.at
    }
}

/// Line and column of a byte of the text.
pub(super) fn position(text: &str, byte: usize) -> Position {
    Walk::new(text).to(byte)
}

/// The byte at this line and column of the text, or its end.
pub(super) fn byte_at(text: &str, at: Position) -> usize {
    let start = match at.line {
        0 | 1 => 0,
        line => text.match_indices('\n').nth(line as usize - 2).map_or(text.len(), |(at, _)| at + 1),
    };
    let column = (at.column as usize).saturating_sub(1);
    text[start..].char_indices().nth(column).map_or(text.len(), |(byte, _)| start + byte)
}
