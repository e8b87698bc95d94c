//! The trusted platform module.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::machine::named::Named;
use crate::machine::subject::Subject;

/// The guest's TPM, which swtpm emulates; vfio-run keeps its state for the machine.
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

impl Tpm {
    /// The emulator's program, and its name in the plan.
    pub const PROGRAM: &str = "swtpm";
}

impl Subject for Tpm {
    fn name(&self, named: &mut Named) {
        if *self != Self::None {
            named.programs.push(Self::PROGRAM.to_owned());
        }
    }
}
