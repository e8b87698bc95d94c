//! Changes to what shows on a screen: consoles, the firmware's framebuffer, cards that compositors hold.

pub mod hide_card;
pub mod leave_console;
pub mod release_boot_screen;
