//! Keeps the host's work and interrupts off the CPUs of the vCPUs.
//!
//! What is written to the default for new interrupts is also what a driver that gets its device back would find, so that
//! comes after the handover of devices and is undone before it. The interrupts of those devices are left alone: they end
//! with their drivers. Sources: `Documentation/core-api/irq/irq-affinity.rst`, `kernel/irq/proc.c`,
//! `Documentation/core-api/workqueue.rst`.

use std::path::{Path, PathBuf};

use super::super::Placement;
use super::super::Severity::{Hard, Soft};
use super::super::draft::Draft;
use super::checks::{did_not_look, may_write};
use crate::change::{Compare, Knob, Setting, UNMOVABLE_IRQ, Writes};
use crate::host::{Irq, Tuning};
use crate::units::{CpuSet, PciAddress};

/// The CPUs of unbound workqueues. That of writeback stays: the kernel keeps it within this one.
pub(super) const WORKQUEUES: Knob = Knob {
    field: "host.workqueues",
    files: &["/sys/devices/virtual/workqueue/cpumask"],
    compare: Compare::CpuMask,
    ..Knob::new("keep unbound work of the kernel off the vCPUs' CPUs", "it would take the vCPUs' time")
};
/// What was asked for, from Linux 6.7 on; the mask itself then reads without the CPUs of isolated cpuset partitions.
pub(super) const REQUESTED: &str = "/sys/devices/virtual/workqueue/cpumask_requested";
const IRQS: Knob = Knob {
    field: "host.irqs",
    files: &["/proc/irq/{n}/smp_affinity_list"],
    compare: Compare::CpuList,
    may_be_missing: true,
    may_refuse: &UNMOVABLE_IRQ,
    ..Knob::new("keep interrupts off the vCPUs' CPUs", "each would stop a vCPU")
};
/// The CPUs of interrupts that are asked for from now on.
pub(super) const NEW_IRQS: Knob = Knob {
    field: "host.irqs",
    files: &["/proc/irq/default_smp_affinity"],
    compare: Compare::CpuMask,
    ..Knob::new("keep new interrupts off the vCPUs' CPUs", "each would stop a vCPU")
};

/// The CPUs of the vCPUs, and the others of the host.
struct Split {
    guest: CpuSet,
    host: CpuSet,
}

impl Split {
    /// `None` if the vCPUs have no CPUs of their own, or all there are.
    fn of(draft: &Draft, placement: &Placement) -> Option<Self> {
        let guest = placement.vcpu_set();
        let host = draft.host.cpus.online.difference(&guest);
        (placement.pinned && !host.is_empty()).then_some(Self { guest, host })
    }

    /// What is left of a set without the vCPUs' CPUs; `None` if it has none of them.
    fn without_guest(&self, cpus: &CpuSet) -> Option<CpuSet> {
        if cpus.intersection(&self.guest).is_empty() {
            return None;
        }
        let rest = cpus.difference(&self.guest).intersection(&self.host);
        Some(if rest.is_empty() { self.host.clone() } else { rest })
    }
}

/// Adds the changes that only prepare.
pub(super) fn decide(draft: &mut Draft, placement: &Placement, given: &[PciAddress]) {
    let asked = &draft.machine.host;
    let (wants_workqueues, wants_irqs) = (asked.workqueues.is_some(), asked.irqs.is_some());
    if wants_workqueues && let Some((tuning, split)) = grounds(draft, placement, WORKQUEUES.field) {
        workqueues(draft, tuning, &split);
    }
    if wants_irqs && let Some((tuning, split)) = grounds(draft, placement, IRQS.field) {
        irqs(draft, tuning, &split, given);
    }
}

/// What a field is decided by; says so if it is missing.
fn grounds<'a>(draft: &mut Draft<'a>, placement: &Placement, field: &str) -> Option<(&'a Tuning, Split)> {
    let Some(tuning) = &draft.host.tuning else {
        did_not_look(draft, field);
        return None;
    };
    let split = Split::of(draft, placement);
    if split.is_none() {
        no_split(draft, placement, field);
    }
    Some((tuning, split?))
}

/// Adds the change of the default for new interrupts.
pub(in super::super) fn decide_after_devices(draft: &mut Draft, placement: &Placement) {
    let split = draft.machine.host.irqs.and_then(|_| Split::of(draft, placement));
    let (Some(split), Some(tuning)) = (split, &draft.host.tuning) else { return };
    if draft.findings.iter().any(|finding| finding.key == NEW_IRQS.field && finding.blocks()) {
        return;
    }
    if let Some((_, setting)) = narrowed(&NEW_IRQS, tuning, &split) {
        push(draft, &NEW_IRQS, vec![setting]);
    }
}

fn no_split(draft: &mut Draft, placement: &Placement, field: &str) {
    let (detail, remedy) = match placement.pinned {
        false => (
            "the vCPUs have no CPUs of their own that the host's work could be kept off",
            "use fewer vCPUs, so that each gets a CPU, or leave",
        ),
        true => ("the vCPUs have all CPUs of the host, so none is left for its work", "use fewer vCPUs, or leave"),
    };
    draft.no(field, Hard, detail, &format!("{remedy} `{field}` out"));
    draft.about(field);
}

/// The mask in the knob's file and the setting that takes the vCPUs' CPUs out of it.
fn narrowed(knob: &Knob, tuning: &Tuning, split: &Split) -> Option<(PathBuf, Setting)> {
    let setting = knob.settings("", &CpuSet::new()).pop()?;
    let mask = CpuSet::from_mask(&tuning.files.get(&setting.path)?.text)?;
    let value = split.without_guest(&mask)?.mask();
    Some((setting.path.clone(), Setting { value, ..setting }))
}

fn workqueues(draft: &mut Draft, tuning: &Tuning, split: &Split) {
    let (field, path) = (WORKQUEUES.field, Path::new(WORKQUEUES.files[0]));
    let Some(attribute) = tuning.files.get(path) else {
        draft.no(field, Hard, format!("this host has no {}", path.display()), &format!("leave `{field}` out"));
        return draft.about(field);
    };
    let requested = tuning.files.get(Path::new(REQUESTED));
    if requested.is_some_and(|requested| !Compare::CpuMask.is_same(&requested.text, &attribute.text)) {
        let detail = "a cpuset partition of this host keeps unbound work off its CPUs already, and what was asked for \
                      before could not be restored exactly";
        draft.no(field, Hard, detail, &format!("leave `{field}` out"));
        return draft.about(field);
    }
    let Some((path, setting)) = narrowed(&WORKQUEUES, tuning, split) else {
        return draft.yes(field, Hard, format!("unbound work stays off CPUs {} already", split.guest));
    };
    if may_write(draft, field, &path, attribute) {
        let detail = format!("unbound work of the kernel stays off CPUs {}: {}", split.guest, WORKQUEUES.why);
        draft.yes(field, Hard, detail);
        push(draft, &WORKQUEUES, vec![setting]);
    }
}

fn irqs(draft: &mut Draft, tuning: &Tuning, split: &Split, given: &[PciAddress]) {
    let (field, default) = (IRQS.field, Path::new(NEW_IRQS.files[0]));
    let Some(attribute) = tuning.files.get(default) else {
        draft.no(field, Hard, format!("this host has no {}", default.display()), &format!("leave `{field}` out"));
        return draft.about(field);
    };
    if !may_write(draft, field, default, attribute) {
        return;
    }
    let settings: Vec<Setting> = tuning.irqs.iter().filter_map(|irq| moved(irq, split, given)).collect();
    let detail = format!("{} interrupts may reach CPUs {}: {}", settings.len(), split.guest, IRQS.why);
    draft.yes(field, Hard, detail);
    if !settings.is_empty() {
        push(draft, &IRQS, settings);
    }
    if tuning.irqbalance {
        let detail = "irqbalance runs and may move interrupts back to the vCPUs' CPUs";
        draft.no("host.irqs.irqbalance", Soft, detail, "stop it for the run: `systemctl stop irqbalance`");
        draft.about(field);
    }
}

/// The setting of an interrupt that somebody handles and that a CPU of the vCPUs may get.
fn moved(irq: &Irq, split: &Split, given: &[PciAddress]) -> Option<Setting> {
    let leaves = irq.device.is_some_and(|device| given.contains(&device));
    let actions = irq.actions.as_deref();
    if leaves || actions == Some("") {
        return None;
    }
    let value = split.without_guest(&irq.cpus)?.to_string();
    let setting = IRQS.settings(&value, &CpuSet::from_iter([irq.number])).pop()?;
    // Another device may have the number when it is undone.
    let identity = actions.map(|_| format!("/sys/kernel/irq/{}/actions", irq.number).into());
    Some(Setting { identity, ..setting })
}

fn push(draft: &mut Draft, knob: &Knob, files: Vec<Setting>) {
    draft.change(Writes { what: knob.what.to_owned(), files }, draft.file(knob.field));
}

/// [`moved`] on a host with CPUs 0 to 3, the last two of them the vCPUs'.
#[cfg(test)]
pub(super) fn moved_on_four(irq: &Irq, given: &[PciAddress]) -> Option<Setting> {
    let split = Split { guest: CpuSet::from_iter([2, 3]), host: CpuSet::from_iter([0, 1]) };
    moved(irq, &split, given)
}
