//! What was decided before the command line is written.

use super::super::devices::Devices;
use super::super::placement::Told;
use super::super::{Placement, accelerator};
use super::devices::disks;

/// What was decided before the command line is written.
pub(in super::super) struct Decided<'a> {
    /// KVM or emulation.
    pub accelerator: accelerator::Decided,
    /// Which CPUs each thread runs on.
    pub placement: &'a Placement,
    /// What the guest is told of the CPUs below it.
    pub told: Told,
    /// The disks, with what the file leaves open.
    pub disks: Vec<disks::Resolved<'a>>,
    /// The host's devices that the guest is given.
    pub devices: &'a Devices<'a>,
}
