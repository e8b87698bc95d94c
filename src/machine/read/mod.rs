//! From the text of a machine file to a valid machine, or to why it was refused and where.

mod base;
mod explain;
mod lines;
mod nearest;
mod of_others;
mod pieces;
mod refused;
mod rewritten;
mod source;
mod tokens;
mod validate;
mod words;

pub use lines::{Lines, Position};
pub use nearest::nearest;
pub use refused::{Place, Refused};
pub use source::{ReadText, Source, parse, parse_with, read, text};
