//! Give a slice of a machine's own its CPUs, by systemd, which writes the kernel's file (systemd.resource-control(5),
//! `AllowedCPUs=`), so that it and this program never write different things there.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zbus::zvariant::Value;

use super::cpuset_controller::CpusetController;
use super::files::{cpus, not_taken, observed};
use crate::change::error::{ChangeError, FileError, UnitError};
use crate::change::file::read;
use crate::change::record::{Text, Undone};
use crate::change::step::{Nature, Observed, Progress, Step};
use crate::change::wait::wait_for;
use crate::host::Root;
use crate::systemd::{Systemd, SystemdError, blocking};
use crate::units::{CGROUPS, CpuSet};

const PROPERTY: &str = "AllowedCPUs";
/// How long systemd may take until the kernel's file says what it was told.
const LIMIT: Duration = Duration::from_secs(10);
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// How long systemd may take, after it has answered, until it switches the controller off that nothing needs any more.
const OFF_LIMIT: Duration = Duration::from_secs(3);

/// Give a slice its CPUs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowedCpus {
    /// The slice, at the top, which exists for one machine alone.
    pub slice: String,
    /// The CPUs.
    pub cpus: CpuSet,
}

impl Step for AllowedCpus {
    type Before = Text;

    fn nature(&self) -> Nature {
        Nature::PREPARES
    }

    fn capture(&self, root: &Root) -> Result<Text, ChangeError> {
        Ok(Text { text: read(root, &self.file()).unwrap_or_default() })
    }

    fn apply(&self, root: &Root, _: &Text, _: Progress<'_>) -> Result<(), ChangeError> {
        self.set(&bytes(&self.cpus))?;
        let file = self.file();
        let mut found = CpuSet::new();
        let is_there = wait_for(root, LIMIT, || {
            found = cpus(root, &file).unwrap_or_default();
            found == self.cpus
        });
        match is_there {
            true => Ok(()),
            false => Err(not_taken(&file, &self.cpus, &found).into()),
        }
    }

    /// Ends the slice, which nobody is in any more, and removes what systemd has kept of it. If QEMU is in it still, the
    /// slice may use all CPUs again and stays.
    fn undo(&self, root: &Root, _: &Text) -> Result<Undone, ChangeError> {
        let drop_in = self.drop_in();
        let exists = root.path(self.group()).is_dir();
        if !exists && !root.path(&drop_in).exists() {
            return Ok(Undone::AlreadyBack);
        }
        let events = root.text(self.group().join("cgroup.events")).unwrap_or_default();
        if events.lines().any(|line| line == "populated 1") {
            self.set(&[])?;
        } else if exists {
            self.ask(async |systemd| systemd.stop(&self.slice, Some(STOP_LIMIT)).await)?;
        }
        match std::fs::remove_file(root.path(&drop_in)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(FileError::io("remove", &drop_in)(error).into());
            }
            _ => {}
        }
        // Others may have put drop-ins there. The outer folder was made for this one too, if it was the first.
        for folder in drop_in.ancestors().skip(1).take(2) {
            if std::fs::remove_dir(root.path(folder)).is_err() {
                break;
            }
        }
        self.wait_for_the_controller(root);
        Ok(Undone::Restored)
    }

    fn lock_files(&self, _: &Text) -> Vec<PathBuf> {
        Vec::new()
    }

    fn observe(&self, root: &Root) -> Vec<Observed> {
        observed(root, &self.file())
    }
}

impl AllowedCpus {
    fn group(&self) -> PathBuf {
        Path::new(CGROUPS).join(&self.slice)
    }

    fn file(&self) -> PathBuf {
        self.group().join("cpuset.cpus")
    }

    /// What systemd keeps of a property that was set for the time until the next boot.
    fn drop_in(&self) -> PathBuf {
        Path::new("/run/systemd/system.control").join(format!("{}.d/50-{PROPERTY}.conf", self.slice))
    }

    /// Waits until systemd has switched the controller off at the top, if no other group there was given CPUs. The kernel
    /// forgets every thread's own CPUs while that is done (`cpuset_attach()` up to Linux 6.1), and systemd answers before:
    /// what is put back next would be lost. Another program may keep the controller on; then only the time is lost.
    fn wait_for_the_controller(&self, root: &Root) {
        let has_cpus = |name: &String| {
            let list = Path::new(CGROUPS).join(name).join("cpuset.cpus");
            *name != self.slice && cpus(root, &list).is_ok_and(|cpus| !cpus.is_empty())
        };
        let top = CpusetController::at_the_top();
        wait_for(root, OFF_LIMIT, || !top.is_on(root).unwrap_or(false) || root.names(CGROUPS).iter().any(has_cpus));
        // The file says so from the beginning of systemd's write on; systemd answers nothing before its end.
        if let Err(error) = self.ask(async |systemd| systemd.is_shutting_down().await) {
            tracing::debug!("{error}");
        }
    }

    fn set(&self, cpus: &[u8]) -> Result<(), ChangeError> {
        self.ask(async |systemd| {
            systemd.set_properties(&self.slice, vec![(PROPERTY, Value::from(cpus.to_vec()))]).await
        })
    }

    fn ask<T: Send>(
        &self,
        question: impl AsyncFnOnce(&Systemd) -> Result<T, SystemdError> + Send,
    ) -> Result<T, ChangeError> {
        let failed = |why: SystemdError| UnitError::Systemd { unit: self.slice.clone(), why: why.to_string() };
        Ok(blocking(question).map_err(failed)?)
    }
}

/// A set of CPUs as systemd takes it: a bit for each, the lowest first (org.freedesktop.systemd1(5)).
fn bytes(cpus: &CpuSet) -> Vec<u8> {
    let mut bytes = Vec::new();
    for cpu in cpus.iter().map(|cpu| cpu as usize) {
        if bytes.len() <= cpu / 8 {
            bytes.resize(cpu / 8 + 1, 0);
        }
        bytes[cpu / 8] |= 1 << (cpu % 8);
    }
    bytes
}

impl fmt::Display for AllowedCpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "give {} CPUs {}", self.slice, self.cpus)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_takes_a_bit_a_cpu() {
        assert_eq!(bytes(&CpuSet::from_iter([0, 1])), [3]);
        assert_eq!(bytes(&CpuSet::from_iter([2, 9, 23])), [4, 2, 128]);
        assert_eq!(bytes(&CpuSet::new()), [] as [u8; 0]);
    }
}
