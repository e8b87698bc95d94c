//! Switch the controller `cpuset` on for the groups below a cgroup (`Documentation/admin-guide/cgroup-v2.rst`,
//! "Controlling Controllers").

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files::{move_tasks, observed, remove, unless_gone, write};
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
        // systemd removes a scope's group when its last process has ended, perhaps between two looks.
        unless_gone(self.switch_back(root, before))
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

    fn switch_back(&self, root: &Root, before: &FoundController) -> Result<Undone, FileError> {
        let mut undone = Undone::AlreadyBack;
        if self.is_on(root)? && !before.on {
            undone = match self.switch(root, false) {
                Ok(()) => Undone::Restored,
                Err(error) if error.errno() == Some(libc::EBUSY) => {
                    Undone::NotOurs { found: "another group uses it".to_owned() }
                }
                Err(error) => return Err(error),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// systemd removes a scope's group as soon as its last process has ended, also between two looks of ours.
    #[test]
    fn a_group_that_goes_while_it_is_looked_at_has_nothing_left_to_undo() {
        let folder = tempfile::tempdir().unwrap();
        let (root, path) = (Root::new(folder.path()), folder.path().join("group"));
        std::fs::create_dir(&path).unwrap();
        let control = path.join("cgroup.subtree_control");
        nix::unistd::mkfifo(&control, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let kernel = std::thread::spawn(move || {
            let mut file = std::fs::OpenOptions::new().write(true).open(&control).unwrap();
            // The reader has it open by now, and whoever writes it next finds none.
            std::fs::remove_dir_all(path).unwrap();
            std::io::Write::write_all(&mut file, b"cpuset memory").unwrap();
        });
        let controller = CpusetController { group: PathBuf::from("/group"), clears: false };
        let undone = controller.undo(&root, &FoundController { on: false, below: false });
        kernel.join().unwrap();
        assert_eq!(undone.unwrap(), Undone::AlreadyBack);
    }
}
