//! From the text of a machine file to a valid machine, or to why it was refused and where.

mod explain;
mod lines;
mod refused;
mod source;
mod tokens;
mod validate;
mod words;

pub use explain::nearest;
pub use lines::{Lines, Position};
pub use refused::{Place, Refused};
pub use source::{Source, parse, read};
