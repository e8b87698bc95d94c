//! The plan as a value: what a run does, in order.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::machine::GiveBack;
use crate::plan::{
    AGENT, Account, Cgroup, Descriptor, DeviceIrqs, Finding, Helper, Isolation, Keep, LateDevice, Link, Move, Paths,
    Placement, PlannedChange, PlannedHold, PlannedHook, Variable, Viewer,
};
use crate::qemu::command::CommandLine;
use crate::units::{Forward, PciAddress};

/// Everything that a run will do, in order. `vfio-run plan` prints this value and `vfio-run run` carries it out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The machine's name.
    pub name: String,
    /// The machine's UUID.
    pub uuid: uuid::Uuid,
    /// The machine file, if it was made from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// The folders and files of this machine.
    pub paths: Paths,
    /// Which CPUs each of QEMU's threads runs on.
    pub placement: Placement,
    /// What is done to the host, in order; undone in reverse.
    pub changes: Vec<PlannedChange>,
    /// Graphics cards that are taken and show the host's screen, which is black from then on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub screens: Vec<PciAddress>,
    /// The CPUs for the interrupts of the devices that the guest has, once its drivers have asked for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub device_irqs: Vec<DeviceIrqs>,
    /// How everything else of the host is kept off the vCPUs' CPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// What the host does for as long as QEMU runs, with descriptors that QEMU inherits; nothing to undo.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<PlannedHold>,
    /// The user's own programs, in the order that they are run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<PlannedHook>,
    /// Files that are made once and kept: variable store, TPM state.
    pub keep: Vec<Keep>,
    /// Helper processes, in the order that they start.
    pub helpers: Vec<Helper>,
    /// Descriptors that QEMU inherits.
    pub descriptors: Vec<Descriptor>,
    /// What QEMU's environment has beside what the launcher passes on of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<Variable>,
    /// QEMU's command line.
    pub command: CommandLine,
    /// Network cards whose cable is unplugged before the guest runs, by their ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unplugged: Vec<String>,
    /// Ports of the host that lead to the guest, by whatever connects it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forwards: Vec<Forward>,
    /// Devices of the host that QEMU is given just before the guest runs, and again each time that they are plugged in, in
    /// this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub late: Vec<LateDevice>,
    /// The account that QEMU and the helpers run as; `None`: ours.
    pub account: Option<Account>,
    /// The cgroup that QEMU lives in.
    pub cgroup: Cgroup,
    /// The host's devices that no other machine may have meanwhile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leases: Vec<PciAddress>,
    /// What else of the host no other machine may have meanwhile, by the names of its leases: Looking Glass's memory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_leases: Vec<String>,
    /// Whether QEMU may lock all of its memory: a device reaches it past the CPU's page tables, or the machine file says so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lock_memory: bool,
    /// The unit that the launcher moves to before it changes anything, if the changes would end it where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moves: Option<Move>,
    /// Whom the VNC or SPICE socket is given to; `None`: to nobody but QEMU's account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub viewer: Option<Viewer>,
    /// Links that QEMU must find in the display folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// Whether the launcher joins its terminal to the guest's serial port (by the `serial.sock` among `descriptors`).
    pub console: bool,
    /// Whether QEMU is started anew when the guest restarts, in place of a reset.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub relaunch: bool,
    /// Seconds from the first request to power off until the guest is ended by force.
    pub shutdown_timeout: u32,
    /// Whether the run is followed by a report of what made the guest stutter.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub report: bool,
    /// What the guest must show, and when, to keep the devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub give_back_unless: Option<GiveBack>,
    /// What was found, good and bad.
    pub findings: Vec<Finding>,
}

impl Plan {
    /// Id of the graphics card that QEMU emulates.
    pub const VIDEO: &str = "video0";

    /// Seconds that its hooks may take: those on the way to the guest, or the others.
    pub fn hooks_limit(&self, start: bool) -> u32 {
        let hooks = self.hooks.iter().filter(|hook| hook.stage.is_start() == start);
        hooks.fold(0, |sum: u32, hook| sum.saturating_add(hook.timeout))
    }

    /// The first of its changes that takes something from the host: its index, else their number.
    pub fn first_taking(&self) -> usize {
        let takes = |planned: &PlannedChange| planned.change.nature().takes_from_host();
        self.changes.iter().position(takes).unwrap_or(self.changes.len())
    }

    /// Whether the guest has a screen that QEMU emulates.
    pub fn has_screen(&self) -> bool {
        self.command.options.iter().any(|option| option.has_id(Self::VIDEO))
    }

    /// Whether the guest has a channel to its agent (`qga.sock`).
    pub fn has_agent(&self) -> bool {
        self.command.options.iter().any(|option| option.has_id(AGENT))
    }

    /// Whether QEMU makes sockets of its own (VNC, SPICE).
    pub fn uses_display_folder(&self) -> bool {
        let folder = self.paths.display.to_string_lossy();
        self.command.options.iter().filter_map(|o| o.value.written()).any(|v| v.contains(&*folder))
    }
}
