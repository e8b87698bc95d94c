//! Files that somebody takes for a disk's image and that are plainly something else.

use std::fs::File;
use std::io::{self, Read as _};

/// How much of a file is looked at.
const START: u64 = 512;

/// What a file begins with.
pub fn start_of(file: &File) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    file.take(START).read_to_end(&mut start)?;
    Ok(start)
}

/// What a file that begins so is, if it is no disk's image: `a text`.
pub fn what_else(start: &[u8]) -> Option<&'static str> {
    if start.starts_with(b"\x7fELF") || start.starts_with(b"#!") {
        return Some("a program");
    }
    let is_text = |byte: &u8| !byte.is_ascii_control() || byte.is_ascii_whitespace();
    // A character may be cut at the end of what was read.
    let is_utf8 = std::str::from_utf8(start).map_or_else(|wrong| wrong.error_len().is_none(), |_| true);
    (!start.is_empty() && start.iter().all(is_text) && is_utf8).then_some("a text")
}
