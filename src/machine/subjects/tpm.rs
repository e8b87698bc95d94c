//! The trusted platform module.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::machine::named::Named;
use crate::machine::subject::Subject;

/// The guest's TPM: one that swtpm emulates, whose state vfio-run keeps for the machine, or the host's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Tpm {
    /// TPM 2.0 for Windows 11, none for others.
    #[default]
    Auto,
    /// TPM 2.0.
    V2,
    /// The host's own, by its device node: `Passthrough("/dev/tpm0")`. The host has none while the guest runs, and what the
    /// guest measures is added to what the host has measured.
    Passthrough(PathBuf),
    /// None.
    None,
}

impl Tpm {
    /// The emulator's program, and its name in the plan.
    pub const PROGRAM: &str = "swtpm";
}

impl Subject for Tpm {
    fn paths(&mut self) -> Vec<(String, &mut PathBuf)> {
        match self {
            Self::Passthrough(node) => vec![("tpm.Passthrough".to_owned(), node)],
            Self::Auto | Self::V2 | Self::None => Vec::new(),
        }
    }

    fn name(&self, named: &mut Named) {
        match self {
            Self::Auto | Self::V2 => named.programs.push(Self::PROGRAM.to_owned()),
            Self::Passthrough(_) | Self::None => {}
        }
    }
}
