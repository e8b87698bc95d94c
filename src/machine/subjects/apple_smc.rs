//! Apple's system management controller, which macOS asks for a key.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::machine::subject::Subject;

/// Apple's system management controller (QEMU: `isa-applesmc`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AppleSmc {
    /// A file with the 64 characters of the key of your own Mac (OSK). The launcher reads it; the key is in no list of
    /// arguments.
    pub key_file: PathBuf,
}

impl AppleSmc {
    /// QEMU's driver.
    pub const DRIVER: &str = "isa-applesmc";
    /// How many characters a key has.
    pub const KEY: u64 = 64;
}

impl Subject for AppleSmc {
    fn paths(&mut self) -> Vec<(String, &mut PathBuf)> {
        vec![("apple_smc.key_file".to_owned(), &mut self.key_file)]
    }
}
