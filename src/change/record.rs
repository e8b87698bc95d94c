//! What the journal keeps of a change: what it found, and how its undo ended.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::{ChangeError, RecordError};

/// What a change found, as the journal keeps it. Each change has a type of its own for this (`Step::Before`); the journal
/// keeps that type's JSON, so a change can be added without a list of all shapes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Before(serde_json::Value);

impl Before {
    /// Wraps what a change found.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn of(found: &impl Serialize) -> Result<Self, ChangeError> {
        serde_json::to_value(found).map(Self).map_err(|error| RecordError::Unwritable(error.to_string()).into())
    }

    /// What the change found, in its own type.
    ///
    /// # Errors
    /// If the record was written for another kind of change.
    pub fn as_found<T: DeserializeOwned>(&self) -> Result<T, ChangeError> {
        T::deserialize(&self.0).map_err(|_| RecordError::Wrong { before: self.to_string() }.into())
    }
}

impl fmt::Display for Before {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A file's text was found: `{"text": "auto"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// The text.
    pub text: String,
}

/// Something was found or not: `{"exists": true}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Existed {
    /// Whether it was there; of a unit, whether it was up; of a console, whether it was bound.
    pub exists: bool,
}

/// There is nothing to put back: `"nothing"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nothing {
    /// The only value.
    Nothing,
}

/// How an undo ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undone {
    /// What was there before is there again.
    Restored,
    /// It was there already: the change was never made, or was undone before.
    AlreadyBack,
    /// Another program changed it since; the undo did not touch it.
    NotOurs {
        /// What is there.
        found: String,
    },
}

impl Undone {
    /// The device that was changed was removed from the host.
    pub(super) fn no_device() -> Self {
        Self::NotOurs { found: "no such device".to_owned() }
    }
}
