//! Stop a unit of a user's service manager, and start it again.
//!
//! The bus of a user refuses root, and there may be none. So `systemctl --user` is run as that user: it speaks to the
//! manager's private socket (`/run/user/UID/systemd/private`), which needs no session and no bus.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use crate::change::attribute::wait_for;
use crate::change::systemd::stop_unit::is_up;
use crate::change::{Before, ChangeError, Undone, program};
use crate::child::Command;
use crate::host::Root;

/// How long a unit may take: systemd kills what does not stop within 90 s by default.
const LIMIT: Duration = Duration::from_secs(100);
/// How long the manager may take to answer a question.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// A unit of a user's.
pub(in crate::change) struct UserUnit<'a> {
    /// The root that the manager's runtime folder is under.
    pub root: &'a Root,
    /// Whose manager.
    pub uid: u32,
    /// Its name: `wireplumber.service`.
    pub unit: &'a str,
}

impl UserUnit<'_> {
    /// Whether it runs, or is about to.
    pub fn capture(&self) -> Result<Before, ChangeError> {
        // A manager that has ended meanwhile runs nothing.
        Ok(Before::Exists(self.manager_lives() && is_up(&self.state()?)))
    }

    /// Stops it and waits until it has ended.
    pub fn stop(&self) -> Result<(), ChangeError> {
        if !self.manager_lives() || !is_up(&self.state()?) {
            return Ok(());
        }
        self.systemctl(&["stop", "--", self.unit], LIMIT)?;
        self.reach(|state| matches!(state, "inactive" | "failed"))
    }

    /// Starts it again, if it was up and its manager is still there. A manager that has ended with its session starts
    /// what belongs to a session when there is one again.
    pub fn start(&self, was_up: bool) -> Result<Undone, ChangeError> {
        if !was_up || !self.manager_lives() || is_up(&self.state()?) {
            return Ok(Undone::AlreadyBack);
        }
        // Its count of starts is forgotten first, see `StopUnit`. Refused where the unit is not loaded.
        let _ = self.systemctl(&["reset-failed", "--", self.unit], ANSWER_LIMIT);
        match self.systemctl(&["start", "--", self.unit], LIMIT).and_then(|_| self.reach(is_up)) {
            // The manager itself was just ending.
            Err(_) if !self.manager_lives() => Ok(Undone::AlreadyBack),
            result => result.map(|()| Undone::Restored),
        }
    }

    fn manager_lives(&self) -> bool {
        self.runtime_folder().join("systemd/private").exists() && self.ids().is_some()
    }

    fn runtime_folder(&self) -> PathBuf {
        self.root.path(format!("/run/user/{}", self.uid))
    }

    /// The user's group, by the folder that is that user's own.
    fn ids(&self) -> Option<(u32, u32)> {
        use std::os::unix::fs::MetadataExt as _;
        let meta = std::fs::metadata(self.runtime_folder()).ok()?;
        (!self.root.is_real() || meta.uid() == self.uid).then_some((self.uid, meta.gid()))
    }

    /// `active`, `inactive`, `failed`, …; a unit that the manager does not know is inactive.
    fn state(&self) -> Result<String, ChangeError> {
        self.systemctl(&["show", "--property=ActiveState", "--value", "--", self.unit], ANSWER_LIMIT)
    }

    fn reach(&self, settled: fn(&str) -> bool) -> Result<(), ChangeError> {
        let mut state = Ok(String::new());
        let reached = wait_for(ANSWER_LIMIT, || {
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

    fn systemctl(&self, arguments: &[&str], limit: Duration) -> Result<String, ChangeError> {
        // The folder may go at any moment, and without it nothing says as whom to run: never as ourselves.
        let (uid, gid) =
            self.ids().ok_or_else(|| self.failed("the user has no service manager any more".to_owned()))?;
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

    fn failed(&self, why: String) -> ChangeError {
        ChangeError::Unit { unit: format!("{} of user {}", self.unit, self.uid), why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn nothing_is_run_for_a_user_whose_folder_has_gone() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("bin/systemctl");
        std::fs::create_dir(folder.path().join("bin")).unwrap();
        std::fs::write(&program, "#!/bin/sh\n>${0%/*}/../ran\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let root = Root::new(folder.path());
        let unit = UserUnit { root: &root, uid: 1000, unit: "mixer.service" };
        let words = unit.state().unwrap_err().to_string();
        assert_eq!(words, "mixer.service of user 1000: the user has no service manager any more");
        assert!(!folder.path().join("ran").exists());
    }
}
