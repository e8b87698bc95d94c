//! What a check found.

use serde::{Deserialize, Serialize};

use super::Origin;

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
    /// What to do about it, where something can be done.
    pub remedy: Option<String>,
    /// The field of the machine file that it is about, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
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
}
