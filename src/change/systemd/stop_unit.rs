//! Stop a unit of systemd's, and start it again.
//! Source: org.freedesktop.systemd1(5).

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::change::error::{ChangeError, UnitError};
use crate::change::record::{Existed, Undone};
use crate::change::step::{Nature, Observed, Progress, Step};
use crate::host::Root;
use crate::systemd::{Mode, Systemd, SystemdError, blocking, is_up};

/// How long a unit may take: systemd kills what does not stop within 90 s by default.
const LIMIT: Duration = Duration::from_secs(100);

/// Stop a unit of systemd's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopUnit {
    /// Its name: `gdm.service`.
    pub unit: String,
}

impl Step for StopUnit {
    type Before = Existed;

    fn nature(&self) -> Nature {
        Nature::takes(true)
    }

    /// Whether the unit runs, or is about to.
    fn capture(&self, _: &Root) -> Result<Existed, ChangeError> {
        self.ask(async |systemd| Ok(Existed { exists: is_up(&systemd.state(&self.unit).await?) }))
    }

    /// Stops the unit and waits until it has ended.
    fn apply(&self, _: &Root, _: &Existed, _: Progress<'_>) -> Result<(), ChangeError> {
        self.ask(async |systemd| {
            if !is_up(&systemd.state(&self.unit).await?) {
                return Ok(());
            }
            systemd.stop(&self.unit, Some(LIMIT)).await?;
            systemd.wait_for(&self.unit, LIMIT, |state| matches!(state, "inactive" | "failed")).await.map(drop)
        })
    }

    /// Starts the unit again if it was up. Its count of failed starts is reset first: systemd gives up on a unit that was
    /// started often within a short time, and nothing was wrong with those.
    fn undo(&self, _: &Root, before: &Existed) -> Result<Undone, ChangeError> {
        if !before.exists {
            return Ok(Undone::AlreadyBack);
        }
        let state = self.ask(async |systemd| {
            // A host that shuts down starts nothing any more, and has the unit again when it is up.
            if systemd.state(&self.unit).await? == "active" || systemd.is_shutting_down().await? {
                return Ok(None);
            }
            systemd.reset_failed(&self.unit).await;
            systemd.start(&self.unit, Mode::Replace, Some(LIMIT)).await?;
            systemd.wait_for(&self.unit, LIMIT, |state| matches!(state, "active" | "failed")).await.map(Some)
        })?;
        match state.as_deref() {
            None => Ok(Undone::AlreadyBack),
            Some("active") => Ok(Undone::Restored),
            Some(state) => {
                let why = format!("it is {state} after its start; `systemctl status {}` says why", self.unit);
                Err(UnitError::Systemd { unit: self.unit.clone(), why }.into())
            }
        }
    }

    fn lock_files(&self, _: &Existed) -> Vec<PathBuf> {
        Vec::new()
    }

    fn observe(&self, root: &Root) -> Vec<Observed> {
        vec![Observed::new(format!("unit {}", self.unit), up_or_down(self.capture(root)))]
    }
}

impl fmt::Display for StopUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stop {}", self.unit)
    }
}

impl StopUnit {
    fn ask<T: Send>(
        &self,
        question: impl AsyncFnOnce(&Systemd) -> Result<T, SystemdError> + Send,
    ) -> Result<T, ChangeError> {
        Ok(blocking(question).map_err(|why| UnitError::Systemd { unit: self.unit.clone(), why: why.to_string() })?)
    }
}

/// The state of a unit in one word, or why it is unknown.
pub(super) fn up_or_down(found: Result<Existed, ChangeError>) -> String {
    match found {
        Ok(Existed { exists: true }) => "up".to_owned(),
        Ok(_) => "down".to_owned(),
        Err(error) => error.to_string(),
    }
}
