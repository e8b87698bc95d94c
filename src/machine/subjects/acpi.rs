//! ACPI tables that the guest gets beside QEMU's own: the user's files, and the host's licence for Windows.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::machine::named::Named;
use crate::machine::problems::Problems;
use crate::machine::subject::Subject;

/// More than anybody has.
const MAX_TABLES: usize = 32;

/// Files with one ACPI table each, header included, as `acpidump -b` and `iasl` write them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct AcpiTables(pub Vec<PathBuf>);

/// A licence for Windows that the firmware of a computer holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Licence {
    /// None.
    #[default]
    None,
    /// The host's, in its ACPI tables MSDM (the key, since Windows 8) and SLIC (before). Only root may read them.
    Host,
}

impl Licence {
    /// The host's tables that hold a licence, as the kernel shows them to root.
    pub const TABLES: [&str; 2] = ["/sys/firmware/acpi/tables/MSDM", "/sys/firmware/acpi/tables/SLIC"];
}

impl Subject for AcpiTables {
    fn check(&self, problems: &mut Problems) {
        if self.0.len() > MAX_TABLES {
            problems
                .add(format!("acpi_tables[{MAX_TABLES}]"), format!("{} ACPI tables are too many", self.0.len()))
                .allowed(format!("at most {MAX_TABLES}"));
        }
    }

    fn paths(&mut self) -> Vec<(String, &mut PathBuf)> {
        self.0.iter_mut().enumerate().map(|(i, path)| (format!("acpi_tables[{i}]"), path)).collect()
    }

    fn name(&self, named: &mut Named) {
        named.acpi_tables.extend(self.0.iter().cloned());
    }
}

impl Subject for Licence {
    fn name(&self, named: &mut Named) {
        if *self == Self::Host {
            named.files.extend(Self::TABLES.map(PathBuf::from));
            named.acpi_tables.extend(Self::TABLES.map(PathBuf::from));
        }
    }
}
