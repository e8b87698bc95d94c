//! The host's CPUs as a picture, with the machines whose threads run on them: a map made from facts and placements, drawn
//! for a terminal or as SVG.

mod build;
mod line;
mod map;
mod outline;
mod svg;
mod terminal;
mod words;

pub use build::map;
pub use map::{Device, Map, Shown};
pub use svg::svg;
pub use terminal::text;
