//! Characters in the words and values of a script that is read, which stand for what no character does.

/// What a variable may hold, in bytes.
pub const MAX_VALUE: usize = 16_000;
/// What stands between the words that a variable's value has.
pub const SPLIT: char = '\u{1}';
/// The first mark: a character of private use for each note of what a value has only if a test holds.
pub const QUOTED: u32 = 0xf_0000;
/// The first mark of those that stand where a shell splits a value into words.
pub const SPLITS: u32 = 0x10_0000;

/// Whether it is a character that stands for a note.
pub fn is_mark(c: char) -> bool {
    u32::from(c) >= QUOTED
}

/// A character of a value, where a shell splits the value into words.
pub fn unquoted(c: char) -> char {
    match u32::from(c) {
        mark @ QUOTED..SPLITS => char::from_u32(mark - QUOTED + SPLITS).unwrap_or(c),
        _ if c.is_whitespace() => SPLIT,
        _ => c,
    }
}
