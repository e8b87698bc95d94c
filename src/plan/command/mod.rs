//! QEMU's command line, one file a subject: each adds its options, and with them the changes, helpers and findings that
//! the subject needs.

mod base;
mod board;
mod boot;
mod cpu;
pub(super) mod disks;
mod display;
mod enlightenments;
mod firmware;
mod memory;
mod networks;
mod passthrough;
mod ports;
mod tpm;

pub(super) use firmware::STORES;
pub use ports::AGENT;
pub(super) use tpm::HELPER as SWTPM;

use super::devices::Devices;
use super::draft::Draft;
use super::{Placement, accelerator};
use crate::qemu::command::QemuOption;

/// What was decided before the command line is written.
pub(super) struct Decided<'a> {
    /// KVM or emulation.
    pub accelerator: accelerator::Decided,
    /// Which CPUs each thread runs on.
    pub placement: &'a Placement,
    /// Whether the guest's topology is that of the host's CPUs below it.
    pub faithful: bool,
    /// The disks, with what the file leaves open.
    pub disks: Vec<disks::Resolved<'a>>,
    /// The host's devices that the guest is given.
    pub devices: &'a Devices<'a>,
}

/// Writes the command line, from the process over the board to the devices.
pub(super) fn write(draft: &mut Draft, decided: &Decided) {
    base::process(draft);
    base::monitors(draft);
    let firmware = firmware::choose(draft);
    board::machine(draft, decided, &firmware);
    cpu::write(draft, decided);
    memory::write(draft, decided.placement);
    board::clock(draft, decided);
    firmware::write(draft, &firmware);
    boot::write(draft);
    display::write(draft);
    ports::serial(draft);
    disks::write(draft, &decided.disks);
    passthrough::write(draft, decided.devices, &firmware);
    networks::write(draft);
    tpm::write(draft);
    ports::agent(draft);
    for (index, word) in draft.machine.extra_args.iter().enumerate() {
        let origin = draft.raw(&format!("extra_args[{index}]"));
        draft.push(QemuOption::flag(word, origin));
    }
}
