//! Changes to what shows on a screen: consoles, the firmware's framebuffer, cards that compositors hold.

pub(super) mod hide_card;
pub(super) mod leave_console;
