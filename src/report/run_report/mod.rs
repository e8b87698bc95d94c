//! The report of a run: its steps on a scale of time, in the terminal and as an SVG picture, and what is said beside them.

mod picture;
mod terminal;
mod words;

pub use picture::svg;
pub use terminal::text;
