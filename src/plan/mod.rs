//! Pure decisions: machine, host and QEMU in; placement, changes, helpers, command line and findings out.
//! Nothing here opens a file, asks a clock or starts a process.

mod accelerator;
mod account;
mod cgroup;
mod command;
mod devices;
mod draft;
mod finding;
mod guard;
mod hooks;
mod make;
mod paths;
mod placement;
#[cfg(test)]
pub(crate) mod sample;
mod session;
#[cfg(test)]
mod tests;
mod trial;
mod trust;
mod wanted;

pub use accelerator::tries_kvm;
pub use cgroup::Cgroup;
pub use command::AGENT;
pub use devices::{Taking, taking};
pub use finding::{Finding, Place, Severity, Verdict};
pub use hooks::PlannedHook;
pub use make::plan;
pub use paths::Paths;
pub use placement::Placement;
pub use session::Move;
pub use trial::{Trial, trial};
pub use wanted::{wanted, wanted_by_any};

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::change::Change;
use crate::machine::GiveBack;
use crate::qemu::command::CommandLine;
use crate::units::{Origin, PciAddress};

/// Everything that a run will do, in order. `vfio-run plan` prints this value and `vfio-run run` carries it out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The machine's name.
    pub name: String,
    /// The machine's UUID.
    pub uuid: uuid::Uuid,
    /// The machine file, where it came from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// The folders and files of this machine.
    pub paths: Paths,
    /// Which CPUs each of QEMU's threads runs on.
    pub placement: Placement,
    /// What is done to the host, in order; undone in reverse.
    pub changes: Vec<PlannedChange>,
    /// The user's own programs, in the order that they are run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<PlannedHook>,
    /// Files that are made once and kept: variable store, TPM state.
    pub keep: Vec<Keep>,
    /// Helper processes, in the order that they start.
    pub helpers: Vec<Helper>,
    /// Descriptors that QEMU inherits.
    pub descriptors: Vec<Descriptor>,
    /// QEMU's command line.
    pub command: CommandLine,
    /// The account that QEMU and the helpers run as; `None`: ours.
    pub account: Option<Account>,
    /// The cgroup that QEMU lives in.
    pub cgroup: Cgroup,
    /// The host's devices that no other machine may have meanwhile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leases: Vec<PciAddress>,
    /// Whether QEMU may lock all of its memory: a device reaches it past the CPU's page tables.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lock_memory: bool,
    /// Whither the launcher goes before it touches anything, where the changes would end it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moves: Option<Move>,
    /// Whether the launcher joins its terminal to the guest's serial port (by the `serial.sock` among `descriptors`).
    pub console: bool,
    /// Seconds from the first request to power off until the guest is ended by force.
    pub shutdown_timeout: u32,
    /// What the guest must show, and when, to keep the devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub give_back_unless: Option<GiveBack>,
    /// What was found, good and bad.
    pub findings: Vec<Finding>,
}

/// One host change with the reason that it is in the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedChange {
    /// What is done.
    pub change: Change,
    /// Why.
    pub origin: Origin,
}

/// A helper process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Helper {
    /// Its name in messages and logs: `swtpm`.
    pub name: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Number of the descriptor, in the helper, of its end of the socket pair that joins it and QEMU.
    pub fd: i32,
    /// Why it is there.
    pub origin: Origin,
}

/// A descriptor that QEMU inherits under a fixed number, which its command line names (`fd=3`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Its number in QEMU, from 3 without gaps.
    pub fd: i32,
    /// What it is.
    pub what: Inherited,
}

/// What an inherited descriptor is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inherited {
    /// One end of a connected socket pair; the other is the launcher's QMP connection.
    Qmp,
    /// A listening UNIX socket that the launcher bound at this path, mode 0600.
    Listen(PathBuf),
    /// One end of a connected socket pair; the other is the helper's of this name.
    Helper(String),
}

/// A file or folder that is made once for the machine and never overwritten.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Keep {
    /// A folder, mode 0700, owned by QEMU's account.
    Folder(PathBuf),
    /// A copy of `from`, mode 0600, owned by QEMU's account.
    Copy {
        /// The template.
        from: PathBuf,
        /// The machine's own copy.
        to: PathBuf,
    },
}

/// The account that QEMU runs as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups: just the one that owns `/dev/kvm`, where it is needed.
    pub groups: Vec<u32>,
}
impl std::fmt::Display for Keep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "folder {}", path.display()),
            Self::Copy { from, to } => write!(f, "{}, copied once from {}", to.display(), from.display()),
        }
    }
}

impl Plan {
    /// Seconds that its hooks may take: those on the way to the guest, or the others.
    pub fn hooks_limit(&self, start: bool) -> u32 {
        let hooks = self.hooks.iter().filter(|hook| hook.stage.is_start() == start);
        hooks.fold(0, |sum: u32, hook| sum.saturating_add(hook.timeout))
    }

    /// Whether QEMU makes sockets of its own (VNC, SPICE).
    pub fn uses_display_folder(&self) -> bool {
        let folder = self.paths.display.to_string_lossy();
        self.command.options.iter().filter_map(|o| o.value.written()).any(|v| v.contains(&*folder))
    }
}
