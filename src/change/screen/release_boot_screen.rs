//! Unbind the firmware's framebuffer from its driver.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::change::attribute::write_bounded;
use crate::change::error::{ChangeError, FileError};
use crate::change::record::{Existed, Undone};
use crate::change::step::{Nature, Observed, Progress, Step};
use crate::change::wait::wait_for;
use crate::host::Root;

/// How long the link may take to show what a write that has returned did.
const LIMIT: Duration = Duration::from_secs(10);

/// Unbind the firmware's framebuffer from its driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseBootScreen {
    /// `efi-framebuffer`.
    pub driver: String,
    /// `efi-framebuffer.0`.
    pub device: String,
}

impl Step for ReleaseBootScreen {
    type Before = Existed;

    fn nature(&self) -> Nature {
        Nature::takes(false)
    }

    fn capture(&self, root: &Root) -> Result<Existed, ChangeError> {
        Ok(Existed { exists: self.is_bound(root) })
    }

    fn apply(&self, root: &Root, _: &Existed, _: Progress<'_>) -> Result<(), ChangeError> {
        if !self.is_bound(root) {
            return Ok(());
        }
        let path = self.folder().join("unbind");
        write_bounded(root, &path, &self.device)?;
        match wait_for(root, LIMIT, || !self.is_bound(root)) {
            true => Ok(()),
            false => Err(FileError::NotTaken { path, wanted: "unbound".to_owned(), found: self.device.clone() }.into()),
        }
    }

    /// The firmware's framebuffer may be gone for good: a driver that took over the card's memory removed its device.
    fn undo(&self, root: &Root, before: &Existed) -> Result<Undone, ChangeError> {
        if !before.exists || self.is_bound(root) {
            return Ok(Undone::AlreadyBack);
        }
        match write_bounded(root, &self.folder().join("bind"), &self.device) {
            Ok(()) => Ok(Undone::Restored),
            Err(error) if matches!(error.errno(), Some(libc::ENODEV | libc::ENOENT | libc::EBUSY | libc::ENOMEM)) => {
                Ok(Undone::NotOurs { found: "the card's own driver has the screen".to_owned() })
            }
            Err(error) => Err(error.into()),
        }
    }

    fn lock_files(&self, _: &Existed) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Every rehearsal looks at all framebuffers.
    fn observe(&self, _: &Root) -> Vec<Observed> {
        Vec::new()
    }
}

impl fmt::Display for ReleaseBootScreen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unbind {} from its driver", self.device)
    }
}

impl ReleaseBootScreen {
    fn folder(&self) -> PathBuf {
        Path::new("/sys/bus/platform/drivers").join(&self.driver)
    }

    fn is_bound(&self, root: &Root) -> bool {
        root.path(self.folder().join(&self.device)).is_symlink()
    }
}
