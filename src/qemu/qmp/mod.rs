//! QMP: the conversation with a running QEMU.

mod connection;
mod error;
#[cfg(test)]
mod tests;
mod wire;

pub use connection::{Event, Qmp, Version};
pub use error::QmpError;
