//! Why something is in a plan.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why an option of the command line, a change or a helper is in the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The user wrote it: path of the field (`disks[0].file`) and its line, if the file's text is known.
    File {
        /// Path of the field in the machine file.
        field: String,
        /// Line in the file, from 1.
        line: Option<u32>,
    },
    /// A default of the guest family, or of this program, with its reason.
    Default(String),
    /// A fact of the host or of the QEMU binary, with what was seen.
    Fact(String),
    /// Added by the user through an escape hatch, unchecked.
    Raw {
        /// Path of the field in the machine file.
        field: String,
        /// Line in the file, from 1.
        line: Option<u32>,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written = |f: &mut fmt::Formatter<'_>, field: &str, line: &Option<u32>| match line {
            Some(line) => write!(f, "line {line}: {field}"),
            None => write!(f, "{field}"),
        };
        match self {
            Self::File { field, line } => written(f, field, line),
            Self::Default(why) => write!(f, "default: {why}"),
            Self::Fact(seen) => write!(f, "fact: {seen}"),
            Self::Raw { field, line } => {
                written(f, field, line)?;
                f.write_str(" (unchecked)")
            }
        }
    }
}
