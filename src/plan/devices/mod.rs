//! The devices that are passed through: which functions they are, whether they can be, what vfio-run does to the host for
//! it, and in which order.

mod changes;
mod checks;
mod given;
mod hidden;
mod modules;
#[cfg(test)]
mod place_tests;
mod resolve;
mod rom;
#[cfg(test)]
mod rom_tests;
#[cfg(test)]
mod screen_tests;
#[cfg(test)]
mod session_tests;
mod stopped;
mod taking;
#[cfg(test)]
mod tests;

pub(super) use changes::make;
pub(super) use given::{Devices, Given};
pub(super) use resolve::resolve;
pub use taking::{Taking, taking};
