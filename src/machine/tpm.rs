//! The trusted platform module.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The guest's TPM, emulated by swtpm; its state is kept per machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Tpm {
    /// TPM 2.0 for Windows 11, none for others.
    #[default]
    Auto,
    /// TPM 2.0.
    V2,
    /// None.
    None,
}
