//! The trusted platform module.

use std::path::{Path, PathBuf};

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
    /// TPM 2.0. `V2(state: "/var/lib/libvirt/swtpm/UUID/tpm2")`: with the state that a TPM has so far.
    V2(Emulated),
    /// The host's own, by its device node: `Passthrough("/dev/tpm0")`. The host has none while the guest runs, and what the
    /// guest measures is added to what the host has measured.
    Passthrough(PathBuf),
    /// None.
    None,
}

/// A TPM that swtpm emulates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Emulated {
    /// The folder in which swtpm has kept the TPM's state so far, as it does for libvirt. vfio-run copies the state once for the
    /// machine, and leaves the folder as it is. Default: none, so the machine's TPM is a new one.
    #[serde(default)]
    pub state: Option<PathBuf>,
}

impl Tpm {
    /// The folder of an emulated TPM's state, in the machine's folder.
    pub const FOLDER: &str = "tpm";

    /// The folder whose state is copied.
    pub fn state(&self) -> Option<&Path> {
        match self {
            Self::V2(Emulated { state }) => state.as_deref(),
            Self::Auto | Self::Passthrough(_) | Self::None => None,
        }
    }

    /// The emulator's program, and its name in the plan.
    pub const PROGRAM: &str = "swtpm";
}

impl Subject for Tpm {
    fn paths(&mut self) -> Vec<(String, &mut PathBuf)> {
        match self {
            Self::Passthrough(node) => vec![("tpm.Passthrough".to_owned(), node)],
            Self::V2(Emulated { state: Some(state) }) => vec![("tpm.state".to_owned(), state)],
            Self::Auto | Self::V2(_) | Self::None => Vec::new(),
        }
    }

    fn name(&self, named: &mut Named) {
        match self {
            Self::Auto | Self::V2(_) => {
                named.programs.push(Self::PROGRAM.to_owned());
                named.own_tpm = true;
            }
            Self::Passthrough(_) | Self::None => {}
        }
        if let Some(state) = self.state() {
            named.tpm_state = Some(state.to_owned());
        }
    }
}
