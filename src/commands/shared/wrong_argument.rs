//! Arguments that clap takes and that are wrong nevertheless.

use serde::Serialize;

/// An argument is wrong; nothing was touched. The program ends with [`crate::units::exit::USAGE`].
#[derive(Debug, Serialize, thiserror::Error)]
#[error("{argument}: {message}")]
pub struct WrongArgument {
    /// The option: `--iso`.
    pub argument: &'static str,
    /// What is wrong with its value, and what is allowed.
    pub message: String,
}

impl WrongArgument {
    /// The error, for this option.
    pub fn new(argument: &'static str, message: impl Into<String>) -> Self {
        Self { argument, message: message.into() }
    }
}
