//! Unbind the virtual consoles from a framebuffer.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::change::attribute::write_bounded;
use crate::change::error::{ChangeError, FileError};
use crate::change::file::read;
use crate::change::record::{Existed, Undone};
use crate::change::step::{Nature, Observed, Progress, Step};
use crate::change::wait::wait_for;
use crate::host::Root;

/// How long the console may take to follow a write.
const LIMIT: Duration = Duration::from_secs(10);
/// How long it may take to come back after its card's driver has. A driver makes its framebuffer when it is bound, if it makes
/// one.
const BACK_LIMIT: Duration = Duration::from_secs(3);

/// Unbind the virtual consoles from a framebuffer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaveConsole {
    /// The console's driver: `vtcon1`.
    pub name: String,
}

impl Step for LeaveConsole {
    type Before = Existed;

    fn nature(&self) -> Nature {
        Nature::takes(true)
    }

    fn capture(&self, root: &Root) -> Result<Existed, ChangeError> {
        Ok(Existed { exists: read(root, &self.bind())? == "1" })
    }

    fn apply(&self, root: &Root, _: &Existed, _: Progress<'_>) -> Result<(), ChangeError> {
        let path = self.bind();
        if read(root, &path)? == "0" {
            return Ok(());
        }
        write_bounded(root, &path, "0")?;
        match wait_for(root, LIMIT, || read(root, &path).is_ok_and(|found| found == "0")) {
            true => Ok(()),
            false => Err(FileError::NotTaken { path, wanted: "0".to_owned(), found: "1".to_owned() }.into()),
        }
    }

    /// The kernel removes the console's driver with the last framebuffer, and makes and binds it with the next one. So the
    /// undo waits for it first, and binds it only if it came back unbound. It need not come back: NVIDIA's driver makes no
    /// framebuffer without `nvidia-drm.fbdev=1`, others none while the monitor sleeps, and the firmware's is gone for good.
    fn undo(&self, root: &Root, before: &Existed) -> Result<Undone, ChangeError> {
        if !before.exists {
            return Ok(Undone::AlreadyBack);
        }
        let path = self.bind();
        let mut found = None;
        wait_for(root, BACK_LIMIT, || {
            found = read(root, &path).ok();
            found.is_some()
        });
        match found.as_deref() {
            Some("1") => Ok(Undone::AlreadyBack),
            Some(_) => {
                write_bounded(root, &path, "1")?;
                match read(root, &path)?.as_str() {
                    "1" => Ok(Undone::Restored),
                    found => Err(FileError::NotTaken { path, wanted: "1".to_owned(), found: found.to_owned() }.into()),
                }
            }
            None => {
                tracing::warn!(
                    "the text consoles stay dark: the card's driver has made no framebuffer. With NVIDIA's driver \
                     `nvidia-drm.fbdev=1` on the kernel command line has it make one; with others a monitor that wakes may do. \
                     Graphical screens are not concerned"
                );
                Ok(Undone::AlreadyBack)
            }
        }
    }

    fn lock_files(&self, _: &Existed) -> Vec<PathBuf> {
        vec![self.bind()]
    }

    /// Every rehearsal looks at all consoles.
    fn observe(&self, _: &Root) -> Vec<Observed> {
        Vec::new()
    }
}

impl fmt::Display for LeaveConsole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unbind the consoles from {}", self.name)
    }
}

impl LeaveConsole {
    fn bind(&self) -> PathBuf {
        PathBuf::from(format!("/sys/class/vtconsole/{}/bind", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_framebuffer_that_does_not_come_back_is_no_failure() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let change = LeaveConsole { name: "vtcon1".to_owned() };
        let undone = change.undo(&root, &Existed { exists: true }).unwrap();
        assert!(matches!(undone, Undone::AlreadyBack), "{undone:?}");
    }
}
