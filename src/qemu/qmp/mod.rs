//! QMP: the conversation with a running QEMU.

mod connection;
mod error;
#[cfg(test)]
mod tests;
mod wire;

pub use connection::{Answer, Event, Qmp, Version, typed};
pub use error::QmpError;
