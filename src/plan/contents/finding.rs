//! What a check found.

use serde::{Deserialize, Serialize};

use crate::units::Origin;

/// One question about machine and host, with its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// A stable name for scripts: `kvm.works`.
    pub key: String,
    /// Whether a *no* forbids the start.
    pub severity: Severity,
    /// The answer.
    pub ok: Verdict,
    /// What is so, in one sentence.
    pub detail: String,
    /// What to do about it, if something can be done.
    pub remedy: Option<String>,
    /// The field of the machine file that it is about, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// The place of that field, if a file was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// A place in a machine file. `file:line:column` is what terminals and editors jump to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The file, as it was named.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Whether a *no* forbids the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The machine does not start.
    Hard,
    /// The machine starts; the user is told.
    Soft,
}

/// The answer to a check's question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Yes,
    /// Not as it should be.
    No,
    /// Could not be found out; never forbids a start.
    Unknown,
}

impl Finding {
    /// Whether it forbids the start.
    pub fn blocks(&self) -> bool {
        self.severity == Severity::Hard && self.ok == Verdict::No
    }

    /// What is so; if the file is wrong, behind the place that is.
    pub fn sentence(&self) -> String {
        match self.place.as_ref().filter(|_| self.ok == Verdict::No) {
            Some(place) => format!("{place}: {}", self.detail),
            None => self.detail.clone(),
        }
    }
}
