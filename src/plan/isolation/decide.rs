//! Whether the vCPUs' CPUs become theirs alone, and what is in the way if not.

use super::super::Severity::{self, Hard, Soft};
use super::super::draft::Draft;
use super::super::{Cgroup, Move, Placement};
use super::in_the_way::InTheWay;
use super::partition::{self, Isolation};
use super::{slice, slices};
use crate::change::OwnSlice;
use crate::host::Cpusets;
use crate::machine::{Isolate, Pin};
use crate::units::{CpuSet, Origin};

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
    let made = possible(draft, placement, cpusets).and_then(|cpus| match (written, cpusets.exclusive) {
        (Some(Isolate::Slices), _) => slices::make(draft, cpusets, cgroup, moves, cpus).map(|made| (made, None)),
        (_, exclusive) if exclusive || required => {
            let made = match exclusive {
                true => partition::make(draft, cpusets, cgroup, moves, cpus.clone()),
                false => slice::make(draft, cpusets, cgroup, placement, cpus.clone()),
            };
            match made {
                Ok(made) => Ok((made, None)),
                Err(why) if required => instead(why, slices::make(draft, cpusets, cgroup, moves, cpus)),
                Err(why) => Err(why),
            }
        }
        _ => {
            let detail = "the host's other programs may run on the vCPUs' CPUs too: before Linux 6.7 only a partition with \
                          the CPUs of QEMU's other threads can be made";
            let remedy = format!("`{FIELD}: Partition` makes it; `{FIELD}: Slices` keeps the host's slices off the vCPUs' CPUs alone");
            Err(InTheWay::usual(detail, remedy))
        }
    });
    let InTheWay { detail, remedy, usual, .. } = match made {
        Ok((isolation, no_partition)) => {
            say(draft, severity, &isolation, no_partition);
            // systemd makes it with the scope. That of a unit ends with the unit.
            if let (Some(slice), Cgroup::Scope(_)) = (&isolation.slice, cgroup) {
                draft.change(
                    OwnSlice { slice: slice.clone() },
                    Origin::Default("systemd keeps a slice whose scope has ended".to_owned()),
                );
            }
            // A vCPU in real time would keep from running whatever else is there.
            return Some(Isolation { required: required || placement.scheduler.is_some(), ..isolation });
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

/// Slices, if there can be no partition for this reason.
fn instead(why: InTheWay, slices: Result<Isolation, InTheWay>) -> Result<(Isolation, Option<String>), InTheWay> {
    match slices {
        Ok(made) => Ok((made, Some(why.detail))),
        // What a unit needs for it, it can be given; for a partition it needs another kernel.
        Err(slices) if why.beyond_reach => Err(slices),
        Err(_) => Err(why),
    }
}

/// Says how it is done. `no_partition`: why it is not done by a partition, as the machine file has it.
fn say(draft: &mut Draft, severity: Severity, isolation: &Isolation, no_partition: Option<String>) {
    let (cpus, host) = (isolation.cpus.numbered(), draft.host);
    let Some(slices) = isolation.of_slices() else {
        return draft.yes(FIELD, severity, format!("nothing else of the host runs on {cpus}: a cpuset partition"));
    };
    let why = no_partition.map_or_else(String::new, |why| format!("; there is no partition: {why}"));
    let detail = format!("systemd keeps {} off {cpus} (`AllowedCPUs=`){why}", slices.join(", "));
    draft.yes(FIELD, severity, detail);
    draft.remedy(
        "the kernel's own work stays away too with `host: (kernel_threads: Away, workqueues: Away, irqs: Away)`",
    );
    let others = host.cpusets.as_ref().map(slices::others).unwrap_or_default();
    if !others.is_empty() {
        let detail = format!("programs in the groups {} may run on {cpus}: they are not systemd's", others.join(", "));
        let remedy = "have their manager use systemd's groups (Docker: `native.cgroupdriver=systemd`), or freeze them with `host.quiet`";
        draft.no(&format!("{FIELD}.groups"), Severity::Soft, detail, remedy);
        draft.about(FIELD);
    }
}

/// The CPUs of the vCPUs, if they can be theirs alone however that is done.
fn possible(draft: &Draft, placement: &Placement, cpusets: &Cpusets) -> Result<CpuSet, InTheWay> {
    let (process, guest) = (&draft.host.process, placement.vcpu_set());
    if !placement.pinned {
        let detail = "the vCPUs have no CPUs of their own that everything else could be kept off";
        let remedy = match draft.machine.cpu.pin {
            Some(Pin::Each(_)) => "name one CPU for each in `cpu.pin`",
            _ => "use fewer vCPUs, so that each gets a CPU",
        };
        return Err(InTheWay::new(detail, remedy));
    }
    if process.uid != 0 {
        let detail =
            "a user may not keep the host's other programs off the vCPUs' CPUs; the vCPUs stay there, others may come";
        return Err(InTheWay::usual(detail, "started as root, it can keep them off"));
    }
    let left = cpusets.effective.difference(&guest);
    if draft.host.cpus.online.difference(&guest).is_empty() || left.is_empty() && guest.is_subset(&cpusets.effective) {
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
        let detail = format!("another cpuset partition has {}, as that of another machine", taken.numbered());
        return Err(InTheWay::new(detail, "choose other CPUs in `cpu.pin`, or end what has them"));
    }
    Ok(guest)
}
