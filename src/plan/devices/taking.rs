//! What a start that passes a whole IOMMU group through would find and stop, for users who have no machine file yet.

use std::path::Path;

use serde::Serialize;

use super::super::draft::Draft;
use super::super::{Finding, Verdict};
use super::{make, resolve};
use crate::host::Host;
use crate::machine::{self, PciDevice, Refused};
use crate::qemu::QemuFacts;

/// What a start has to do with a group.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Taking {
    /// What stands in its way or is not as it should be, and how to mend it.
    pub findings: Vec<Finding>,
    /// What it stops, ends and takes from others, in its order.
    pub stops: Vec<String>,
}

/// Findings about a process or the host and not about a group: the user who looks need not be the one who starts the guest.
const OF_OURS: [&str; 5] = ["pci.rights", "pci.memlock", "pci.iommu", "pci.interrupts", "pci.driver"];

/// A machine that says nothing of itself but what it must.
const MACHINE: &str = r#"(guest: Linux, memory: (size: "1 GiB"), disks: [], networks: [])"#;

/// Looks at a group as at the only devices of a machine. Of a group that has nothing but bridges nothing is said.
///
/// # Errors
/// None that a group can cause: the machine is of our own making.
pub fn taking(host: &Host, group: u32) -> Result<Taking, Refused> {
    let members = host.pci.iter().flat_map(|pci| pci.of_group(group)).filter(|f| !f.is_bridge() && !f.is_of_board());
    let mut machine = machine::parse(Path::new("group.ron"), MACHINE)?.machine;
    // A group may have more members than a machine file may name.
    machine.pci = members.map(|f| PciDevice::at(f.address.into())).collect();
    if machine.pci.is_empty() {
        return Ok(Taking::default());
    }
    // Nobody's: what is given to any machine is in the way.
    machine.name.clear();
    let facts = QemuFacts::default();
    let mut draft = Draft::new(&machine, &|_| None, host, &facts);
    let given = resolve(&mut draft);
    make(&mut draft, &given);
    let Draft { mut findings, changes, .. } = draft;
    findings.retain(|f| f.ok == Verdict::No && !OF_OURS.contains(&f.key.as_str()));
    // The file that they would be about is not there.
    findings.iter_mut().for_each(|finding| finding.origin = None);
    let stops =
        changes.iter().filter(|planned| planned.change.nature().is_felt()).map(|p| p.change.to_string()).collect();
    Ok(Taking { findings, stops })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{at, details, function, host};
    use super::*;

    fn keys(taking: &Taking) -> Vec<&str> {
        taking.findings.iter().map(|finding| finding.key.as_str()).collect()
    }

    #[test]
    fn a_group_in_use_tells_what_a_start_stops() {
        let taking = taking(&host(), 2).unwrap();
        assert_eq!(taking.stops[0], "stop gdm.service");
        assert!(taking.stops.contains(&"remove the module nvidia".to_owned()), "{taking:?}");
        assert_eq!(keys(&taking), ["pci.0000:01:00.0.rom"]);
    }

    #[test]
    fn what_stands_in_the_way_is_named_with_its_remedy() {
        let mut host = host();
        host.process.uid = 1000;
        details(at(&mut host, "01:00.1")).lease = Some("win11".to_owned());
        details(at(&mut host, "01:00.1")).uses = vec!["swap".to_owned()];
        details(at(&mut host, "01:00.0")).reset_methods = Some(Vec::new());
        let taking = taking(&host, 2).unwrap();
        let of = |key: &str| taking.findings.iter().find(|finding| finding.key == key).unwrap();
        assert!(of("pci.0000:01:00.1.needed").blocks());
        assert_eq!(of("pci.0000:01:00.1.free").remedy.as_deref(), Some("`vfio-run stop win11` ends it"));
        // It is reset with its bus, by its other function; and that only root may is no matter of the group.
        assert!(!keys(&taking).iter().any(|key| key.ends_with(".reset") || key.ends_with("rights")), "{taking:?}");
    }

    #[test]
    fn a_group_may_be_larger_than_any_machine_file() {
        let mut host = host();
        let many =
            (0..40).map(|n| function(&format!("03:{:02x}.{}", n / 8, n % 8), "8086:1520", 0x02_0000, "igbvf", 9));
        host.pci.as_mut().unwrap().functions.extend(many);
        assert_eq!(keys(&taking(&host, 9).unwrap()), [""; 0]);
    }

    #[test]
    fn of_bridges_and_of_no_group_nothing_is_said() {
        let host = host();
        assert_eq!(taking(&host, 1).unwrap(), Taking::default());
        assert_eq!(taking(&host, 7).unwrap(), Taking::default());
        assert_eq!(taking(&Host { pci: None, ..host }, 2).unwrap(), Taking::default());
    }
}
