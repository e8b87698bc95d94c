//! Stop a unit of a user's service manager, and start it again.
//!
//! The bus of a user refuses root, and there may be none. So `systemctl --user` is run as that user: it speaks to the
//! manager's private socket (`/run/user/UID/systemd/private`), which needs no session and no bus.

use std::fmt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::stop_unit::up_or_down;
use crate::change::error::{ChangeError, UnitError};
use crate::change::program;
use crate::change::record::{Existed, Undone};
use crate::change::step::{Nature, Observed, Progress, Step};
use crate::change::wait::wait_for;
use crate::child::Command;
use crate::host::Root;
use crate::systemd::is_up;

/// How long a unit may take: systemd kills what does not stop within 90 s by default.
const LIMIT: Duration = Duration::from_secs(100);
/// How long the manager may take to answer a question.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Stop a unit of a user's service manager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopUserUnit {
    /// Whose manager.
    pub uid: u32,
    /// Its name: `wireplumber.service`.
    pub unit: String,
}

impl Step for StopUserUnit {
    type Before = Existed;

    fn nature(&self) -> Nature {
        Nature::takes(true)
    }

    /// Whether the unit runs, or is about to. A manager that has ended meanwhile runs nothing.
    fn capture(&self, root: &Root) -> Result<Existed, ChangeError> {
        let manager = self.manager(root);
        Ok(Existed { exists: manager.lives() && is_up(&manager.state()?) })
    }

    /// Stops the unit and waits until it has ended.
    fn apply(&self, root: &Root, _: &Existed, _: Progress<'_>) -> Result<(), ChangeError> {
        let manager = self.manager(root);
        if !manager.lives() || !is_up(&manager.state()?) {
            return Ok(());
        }
        manager.systemctl(&["stop", "--", &self.unit], LIMIT)?;
        Ok(manager.wait_until(|state| matches!(state, "inactive" | "failed"))?)
    }

    /// Starts the unit again if it was up and its manager is still there. A manager that has ended with its session starts
    /// what belongs to a session when there is one again.
    fn undo(&self, root: &Root, before: &Existed) -> Result<Undone, ChangeError> {
        let manager = self.manager(root);
        if !before.exists || !manager.lives() || is_up(&manager.state()?) {
            return Ok(Undone::AlreadyBack);
        }
        // Its count of starts is reset first, see `StopUnit`. The manager refuses it for a unit that is not loaded.
        drop(manager.systemctl(&["reset-failed", "--", &self.unit], ANSWER_LIMIT));
        match manager.systemctl(&["start", "--", &self.unit], LIMIT).and_then(|_| manager.wait_until(is_up)) {
            // The manager itself was just ending.
            Err(_) if !manager.lives() => Ok(Undone::AlreadyBack),
            result => Ok(result.map(|()| Undone::Restored)?),
        }
    }

    fn lock_files(&self, _: &Existed) -> Vec<PathBuf> {
        Vec::new()
    }

    fn observe(&self, root: &Root) -> Vec<Observed> {
        let what = format!("unit {} of user {}", self.unit, self.uid);
        vec![Observed::new(what, up_or_down(self.capture(root)))]
    }
}

impl fmt::Display for StopUserUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stop {} of user {}", self.unit, self.uid)
    }
}

impl StopUserUnit {
    fn manager<'a>(&'a self, root: &'a Root) -> Manager<'a> {
        Manager { root, uid: self.uid, unit: &self.unit }
    }
}

/// The service manager of a user, asked about one unit.
struct Manager<'a> {
    /// The root that the manager's runtime folder is below.
    root: &'a Root,
    uid: u32,
    unit: &'a str,
}

impl Manager<'_> {
    fn lives(&self) -> bool {
        self.runtime_folder().join("systemd/private").exists() && self.ids().is_some()
    }

    fn runtime_folder(&self) -> PathBuf {
        self.root.path(format!("/run/user/{}", self.uid))
    }

    /// The user's own ids, by the owner of the runtime folder.
    fn ids(&self) -> Option<(u32, u32)> {
        use std::os::unix::fs::MetadataExt as _;
        let meta = std::fs::metadata(self.runtime_folder()).ok()?;
        (!self.root.is_real() || meta.uid() == self.uid).then_some((self.uid, meta.gid()))
    }

    /// `active`, `inactive`, `failed`, …; a unit that the manager does not know is inactive.
    fn state(&self) -> Result<String, UnitError> {
        self.systemctl(&["show", "--property=ActiveState", "--value", "--", self.unit], ANSWER_LIMIT)
    }

    fn wait_until(&self, settled: fn(&str) -> bool) -> Result<(), UnitError> {
        let mut state = Ok(String::new());
        let reached = wait_for(self.root, ANSWER_LIMIT, || {
            state = self.state();
            state.as_ref().map_or(true, |state| settled(state))
        });
        match (reached, state?) {
            (true, _) => Ok(()),
            (false, state) => {
                Err(self.failed(format!("it is {state}; `systemctl --user status` of that user says why")))
            }
        }
    }

    fn systemctl(&self, arguments: &[&str], limit: Duration) -> Result<String, UnitError> {
        // The folder may vanish at any moment, and without it the user's group is unknown. Never run it as root instead.
        let (uid, gid) =
            self.ids().ok_or_else(|| self.failed("the user no longer has a service manager".to_owned()))?;
        let program = match self.root.is_real() {
            true => PathBuf::from("systemctl"),
            false => self.root.path("/bin/systemctl"),
        };
        let mut command = Command::new(program);
        command.arg("--user").args(arguments).stdout(Stdio::piped());
        command.env("XDG_RUNTIME_DIR", self.runtime_folder());
        if self.root.is_real() {
            command.user(uid, gid, &[]);
        }
        program::run(command, &format!("systemctl {}", arguments[0]), limit).map_err(|why| self.failed(why))
    }

    fn failed(&self, why: String) -> UnitError {
        UnitError::Systemd { unit: format!("{} of user {}", self.unit, self.uid), why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn no_program_is_run_for_a_user_whose_folder_has_vanished() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("bin/systemctl");
        std::fs::create_dir(folder.path().join("bin")).unwrap();
        std::fs::write(&program, "#!/bin/sh\n>${0%/*}/../ran\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let root = Root::new(folder.path());
        let unit = Manager { root: &root, uid: 1000, unit: "mixer.service" };
        let words = unit.state().unwrap_err().to_string();
        assert_eq!(words, "mixer.service of user 1000: the user no longer has a service manager");
        assert!(!folder.path().join("ran").exists());
    }
}
