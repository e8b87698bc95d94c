//! Whether the vCPUs' CPUs become theirs alone, and what is in the way if not.

use super::super::Severity::{Hard, Soft};
use super::super::draft::Draft;
use super::super::{Cgroup, Move, Placement};
use super::in_the_way::InTheWay;
use super::partition::{self, Isolation};
use super::slice;
use crate::host::Cpusets;
use crate::machine::Isolate;
use crate::units::CpuSet;

const FIELD: &str = "host.isolate";

/// Decides it. `cgroup` is QEMU's, `moves` whether the launcher moves to a unit first. The emulator's threads may get other
/// CPUs by it. Unless the machine file says, it is done if it costs the host nothing but the vCPUs' CPUs.
pub(in super::super) fn decide(
    draft: &mut Draft,
    placement: &mut Placement,
    cgroup: &Cgroup,
    moves: Option<&Move>,
) -> Option<Isolation> {
    let written = draft.machine.host.isolate;
    let required = written.is_some();
    if written == Some(Isolate::None) || !required && !placement.pinned {
        return None;
    }
    let severity = if required { Hard } else { Soft };
    let Some(cpusets) = &draft.host.cpusets else {
        if required {
            draft.unknown(FIELD, Hard, "vfio-run did not look whether this host can make a cpuset partition");
            draft.about(FIELD);
        }
        return None;
    };
    let made = possible(draft, placement, cpusets).and_then(|cpus| match (cpusets.exclusive, required) {
        (true, _) => partition::make(draft, cpusets, cgroup, moves, cpus),
        (false, true) => slice::make(draft, cpusets, cgroup, placement, cpus),
        (false, false) => {
            let detail = "the host's other programs may run on the vCPUs' CPUs too: before Linux 6.7 only a partition with \
                          the CPUs of QEMU's other threads can be made";
            Err(InTheWay::usual(detail, format!("`{FIELD}: Partition` makes it")))
        }
    });
    let InTheWay { detail, remedy, usual } = match made {
        Ok(isolation) => {
            let detail = format!("nothing else of the host runs on CPUs {}: a cpuset partition", isolation.cpus);
            draft.yes(FIELD, severity, detail);
            return Some(Isolation { required, ..isolation });
        }
        Err(in_the_way) => in_the_way,
    };
    if required {
        draft.no(FIELD, Hard, detail, &format!("{remedy}, or leave `{FIELD}` out"));
        draft.about(FIELD);
    } else if usual {
        draft.yes(FIELD, Soft, detail);
        draft.remedy(&remedy);
    } else {
        draft.no(FIELD, Soft, detail, &format!("{remedy}, or write `host: (isolate: None)`"));
    }
    None
}

/// The CPUs of the vCPUs, if they can be theirs alone however that is done.
fn possible(draft: &Draft, placement: &Placement, cpusets: &Cpusets) -> Result<CpuSet, InTheWay> {
    let (process, guest) = (&draft.host.process, placement.vcpu_set());
    if !placement.pinned {
        let detail = "the vCPUs have no CPUs of their own that everything else could be kept off";
        return Err(InTheWay::new(detail, "use fewer vCPUs, so that each gets a CPU"));
    }
    if process.uid != 0 {
        let detail =
            "a user may not keep the host's other programs off the vCPUs' CPUs; the vCPUs stay there, others may come";
        return Err(InTheWay::usual(detail, "started as root, it can keep them off"));
    }
    if draft.host.cpus.online.difference(&guest).is_empty() {
        let detail = "the vCPUs have all CPUs of the host, so none is left for everything else";
        return Err(InTheWay::new(detail, "use fewer vCPUs"));
    }
    if process.cgroup.is_none() || !cpusets.offered {
        let detail =
            "this host has no cgroup v2 with the controller cpuset, so everything else stays on the vCPUs' CPUs too";
        return Err(InTheWay::usual(
            detail,
            "boot without `systemd.unified_cgroup_hierarchy=0` and `cgroup_disable=cpuset`",
        ));
    }
    let taken = guest.difference(&cpusets.effective);
    if !taken.is_empty() {
        let detail = format!("CPUs {taken} belong to another cpuset partition, as that of another machine");
        return Err(InTheWay::new(detail, "choose other CPUs in `cpu.pin`, or end what has them"));
    }
    Ok(guest)
}
