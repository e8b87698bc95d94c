//! Which CPUs get the interrupts of the devices that are passed through.

use serde::{Deserialize, Serialize};

use super::super::Placement;
use super::super::Severity::{Hard, Soft};
use super::super::devices::Devices;
use super::super::draft::Draft;
use crate::machine::DevicePlace;
use crate::units::{CpuSet, PciAddress};

const FIELD: &str = "host.device_irqs";

/// The CPUs for the interrupts of a function that the guest has. Nothing is undone: they are gone with QEMU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceIrqs {
    /// The function.
    pub device: PciAddress,
    /// The CPUs, of which the kernel chooses one for each interrupt.
    pub cpus: CpuSet,
}

/// The CPUs of the vCPUs, for each function those on its NUMA node if there are some.
pub(in super::super) fn decide_device_irqs(
    draft: &mut Draft,
    placement: &Placement,
    devices: &Devices,
) -> Vec<DeviceIrqs> {
    let asked = draft.machine.host.device_irqs;
    if asked == Some(DevicePlace::Anywhere) || devices.given.is_empty() {
        return Vec::new();
    }
    let root = draft.host.process.uid == 0;
    if !placement.pinned || !root {
        // Nobody has asked for it.
        if asked.is_some() {
            let (detail, remedy) = match root {
                false => ("only root may choose the CPUs of an interrupt", "start as root, or leave"),
                true => {
                    ("the vCPUs have no CPUs of their own that interrupts could go to", "use fewer vCPUs, or leave")
                }
            };
            draft.no(FIELD, Hard, detail, &format!("{remedy} `{FIELD}` out"));
            draft.about(FIELD);
        }
        return Vec::new();
    }
    let all = placement.vcpu_set();
    let on = |node: u32| -> CpuSet {
        let cpus = draft.host.cpus.list.iter().filter(|cpu| cpu.node == Some(node) && all.contains(cpu.id));
        cpus.map(|cpu| cpu.id).collect()
    };
    let functions = devices.given.iter().map(|given| {
        let near = given.details.numa_node.map(on).filter(|near| !near.is_empty());
        DeviceIrqs { device: given.address(), cpus: near.unwrap_or_else(|| all.clone()) }
    });
    let functions: Vec<DeviceIrqs> = functions.collect();
    draft.yes(FIELD, Soft, format!("interrupts of the guest's devices go to the vCPUs' CPUs ({all})"));
    functions
}
