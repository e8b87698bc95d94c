//! The colours that all pictures share.

/// Text.
pub const INK: &str = "#1c2530";
/// Text that matters less.
pub const PALE_INK: &str = "#566270";
/// Text on the strong colours.
pub const LIGHT_INK: &str = "#ffffff";
/// What is behind everything.
pub const PAPER: &str = "#fcfcfb";
/// Lines.
pub const LINE: &str = "#b4bdc8";
/// What went wrong.
pub const WRONG: &str = "#d1242f";
