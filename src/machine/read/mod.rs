//! From the text of a machine file to a valid machine, or to why it was refused and where.

mod base;
mod codes;
mod explain;
mod lines;
mod missing;
mod nearest;
mod of_others;
mod pieces;
mod position;
mod refused;
mod rewritten;
mod source;
mod tokens;
mod validate;
mod values_of_others;
mod whole_entries;
mod words;

pub use base::ReadText;
pub use lines::Lines;
pub use nearest::nearest;
pub use position::Position;
pub use refused::{Place, Refused};
pub use source::{Source, parse, parse_with, read, text};
