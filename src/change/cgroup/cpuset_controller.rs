//! Switch the controller `cpuset` on for the groups below a cgroup (`Documentation/admin-guide/cgroup-v2.rst`,
//! "Controlling Controllers").

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files::{move_tasks, observed, remove, write};
use crate::change::error::{ChangeError, FileError};
use crate::change::file::read;
use crate::change::record::Undone;
use crate::change::step::{Nature, Observed, Progress, Step};
use crate::host::Root;
use crate::units::CGROUPS;

const NAME: &str = "cpuset";
/// The group that the processes of a group move to.
const BELOW: &str = "launcher";

/// Switch the controller `cpuset` on for the groups below a cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpusetController {
    /// The group's folder.
    pub group: PathBuf,
    /// Whether its processes, the launcher among them, move to a group below it first. With processes in it the kernel
    /// does not refuse to switch the controller on, but then makes the other groups below unusable (`domain invalid`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clears: bool,
}

/// What was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundController {
    /// Whether the controller was on.
    pub on: bool,
    /// Whether the group that processes move to was there.
    #[serde(default)]
    pub below: bool,
}

impl Step for CpusetController {
    type Before = FoundController;

    fn nature(&self) -> Nature {
        Nature::PREPARES
    }

    fn capture(&self, root: &Root) -> Result<FoundController, ChangeError> {
        Ok(FoundController { on: self.is_on(root)?, below: root.path(self.below()).is_dir() })
    }

    fn apply(&self, root: &Root, before: &FoundController, _: Progress<'_>) -> Result<(), ChangeError> {
        if self.clears {
            let below = self.below();
            if !before.below {
                std::fs::create_dir(root.path(&below)).map_err(FileError::io("make", &below))?;
            }
            move_tasks(root, &self.group, &below, "cgroup.procs")?;
        }
        if !before.on {
            self.switch(root, true)?;
        }
        Ok(())
    }

    /// Switches it off again, unless groups below use it by now, and moves the processes back.
    fn undo(&self, root: &Root, before: &FoundController) -> Result<Undone, ChangeError> {
        let on = match self.is_on(root) {
            Err(error) if error.is_gone() => return Ok(Undone::AlreadyBack),
            on => on?,
        };
        let mut undone = Undone::AlreadyBack;
        if on && !before.on {
            undone = match self.switch(root, false) {
                Ok(()) => Undone::Restored,
                Err(error) if error.errno() == Some(libc::EBUSY) => {
                    Undone::NotOurs { found: "another group uses it".to_owned() }
                }
                Err(error) => return Err(error.into()),
            };
        }
        let below = self.below();
        if self.clears && !before.below && root.path(&below).is_dir() {
            move_tasks(root, &below, &self.group, "cgroup.procs")?;
            remove(root, &below)?;
            undone = Undone::Restored;
        }
        Ok(undone)
    }

    fn lock_files(&self, _: &FoundController) -> Vec<PathBuf> {
        Vec::new()
    }

    fn observe(&self, root: &Root) -> Vec<Observed> {
        observed(root, &self.file())
    }
}

impl CpusetController {
    /// That of the groups at the top.
    pub(super) fn at_the_top() -> Self {
        Self { group: PathBuf::from(CGROUPS), clears: false }
    }

    fn file(&self) -> PathBuf {
        self.group.join("cgroup.subtree_control")
    }

    fn below(&self) -> PathBuf {
        self.group.join(BELOW)
    }

    /// Whether it is on.
    pub(super) fn is_on(&self, root: &Root) -> Result<bool, FileError> {
        Ok(read(root, &self.file())?.split_ascii_whitespace().any(|name| name == NAME))
    }

    /// Switches it on or off, and reads that back.
    pub(super) fn switch(&self, root: &Root, on: bool) -> Result<(), FileError> {
        let file = self.file();
        if !root.is_real() {
            return switch_in_text(root, &file, on);
        }
        let wanted = format!("{}{NAME}", if on { '+' } else { '-' });
        write(root, &file, &wanted)?;
        match self.is_on(root)? == on {
            true => Ok(()),
            false => Err(FileError::NotTaken { path: file.clone(), wanted, found: read(root, &file)? }),
        }
    }
}

/// What the kernel does with the file.
fn switch_in_text(root: &Root, file: &Path, on: bool) -> Result<(), FileError> {
    let found = read(root, file)?;
    let others = found.split_ascii_whitespace().filter(|name| *name != NAME);
    let names: Vec<&str> = others.chain(on.then_some(NAME)).collect();
    write(root, file, &names.join(" "))
}

impl fmt::Display for CpusetController {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "switch the controller cpuset on below {}", self.group.display())?;
        if self.clears {
            write!(f, ", whose processes move to its group {BELOW}")?;
        }
        Ok(())
    }
}
