//! Keeps the host's work, its threads and its interrupts off the CPUs of the vCPUs.
//!
//! What is written to the default for new interrupts is also what a driver that gets its device back would find, so that
//! comes after the handover of devices and is undone before it. The interrupts of those devices are left alone: they end
//! with their drivers. irqbalance is stopped before any is moved: over its socket it can be told which interrupts to leave
//! alone (`settings ban irqs`), but only those that there are already, and never which CPUs. Sources:
//! `Documentation/core-api/irq/irq-affinity.rst`, `kernel/irq/proc.c`, `Documentation/core-api/workqueue.rst`,
//! `Documentation/admin-guide/lockup-watchdogs.rst`.

use std::path::{Path, PathBuf};

use super::super::Placement;
use super::super::Severity::{Hard, Soft};
use super::super::draft::Draft;
use super::checks::{did_not_look, may_write};
use super::missed::Missed;
use crate::change::{Compare, KernelThreads, Knob, Setting, StopIrqbalance, UNMOVABLE_IRQ, Writes};
use crate::host::{Attribute, Irq, Tuning};
use crate::machine::{HostPlace, HostTuning};
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

/// The CPUs that are watched for programs that never let go.
const WATCHDOG: Knob = Knob {
    field: "host.watchdog",
    files: &["/proc/sys/kernel/watchdog_cpumask"],
    compare: Compare::CpuList,
    ..Knob::new("keep the kernel's watchdog off the vCPUs' CPUs", "its check takes a moment of each vCPU")
};
const KERNEL_THREADS: &str = "host.kernel_threads";

/// What asks for something to be kept away.
type Asked = fn(&HostTuning) -> Option<HostPlace>;

/// The attributes that must be read to decide, with what asks for them.
pub(super) const ATTRIBUTES: &[(&[&str], Asked)] = &[
    (WORKQUEUES.files, |host| host.workqueues),
    (&[REQUESTED], |host| host.workqueues),
    (NEW_IRQS.files, |host| host.irqs),
    (WATCHDOG.files, |host| host.watchdog),
];

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

/// Adds the changes that only prepare. `host`: what is asked for.
pub(super) fn decide(
    draft: &mut Draft,
    host: &HostTuning,
    placement: &Placement,
    given: &[PciAddress],
    missed: &mut Missed,
) {
    if host.workqueues.is_some() {
        missed.unless_written(draft, WORKQUEUES.field, |draft| {
            if let Some((tuning, split)) = grounds(draft, placement, WORKQUEUES.field) {
                workqueues(draft, tuning, &split);
            }
        });
    }
    if host.watchdog.is_some() {
        missed.unless_written(draft, WATCHDOG.field, |draft| {
            if let Some((tuning, split)) = grounds(draft, placement, WATCHDOG.field) {
                watchdog(draft, tuning, &split);
            }
        });
    }
    if host.irqs.is_some() {
        missed.unless_written(draft, IRQS.field, |draft| {
            if let Some((tuning, split)) = grounds(draft, placement, IRQS.field) {
                irqs(draft, tuning, &split, given);
            }
        });
    }
    if host.kernel_threads.is_some() {
        missed.unless_written(draft, KERNEL_THREADS, |draft| {
            if let Some((_, split)) = grounds(draft, placement, KERNEL_THREADS) {
                kernel_threads(draft, split);
            }
        });
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
    let host = draft.machine.host.tuned();
    let split = host.irqs.and_then(|_| Split::of(draft, placement));
    let (Some(split), Some(tuning)) = (split, &draft.host.tuning) else { return };
    let may_write = |file: &Attribute| draft.host.process.uid == 0 && !file.read_only;
    if !tuning.files.get(Path::new(NEW_IRQS.files[0])).is_some_and(may_write) {
        return;
    }
    if let Some((_, setting)) = narrowed(&NEW_IRQS, tuning, &split) {
        push(draft, &NEW_IRQS, vec![setting]);
        if !draft.machine.host.writes("irqs") {
            let origin = draft.file("host.tune");
            draft.changes.last_mut().into_iter().for_each(|made| made.origin = origin.clone());
        }
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
    let text = &tuning.files.get(&setting.path)?.text;
    let value = match knob.compare {
        Compare::CpuList => split.without_guest(&text.parse().ok()?)?.to_string(),
        _ => split.without_guest(&CpuSet::from_mask(text)?)?.mask(),
    };
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
        return draft.yes(field, Hard, format!("unbound work stays off {} already", split.guest.numbered()));
    };
    if may_write(draft, field, &path, attribute) {
        let detail = format!("unbound work of the kernel stays off {}: {}", split.guest.numbered(), WORKQUEUES.why);
        draft.yes(field, Hard, detail);
        push(draft, &WORKQUEUES, vec![setting]);
    }
}

fn watchdog(draft: &mut Draft, tuning: &Tuning, split: &Split) {
    let (field, path) = (WATCHDOG.field, Path::new(WATCHDOG.files[0]));
    let Some(attribute) = tuning.files.get(path) else {
        let detail = format!("this host has no {}: its kernel has no such watchdog", path.display());
        draft.no(field, Soft, detail, &format!("leave `{field}` out"));
        return draft.about(field);
    };
    let Some((path, setting)) = narrowed(&WATCHDOG, tuning, split) else {
        return draft.yes(field, Hard, format!("the kernel's watchdog stays off {} already", split.guest.numbered()));
    };
    if may_write(draft, field, &path, attribute) {
        draft.yes(field, Hard, format!("the kernel's watchdog stays off {}: {}", split.guest.numbered(), WATCHDOG.why));
        push(draft, &WATCHDOG, vec![setting]);
    }
}

fn kernel_threads(draft: &mut Draft, split: Split) {
    let field = KERNEL_THREADS;
    if draft.host.process.uid != 0 {
        let detail = "only root may move threads of the kernel";
        draft.no(field, Hard, detail, &format!("start as root, or leave `{field}` out"));
        return draft.about(field);
    }
    draft.yes(field, Hard, format!("threads of the kernel that can move stay off {}", split.guest.numbered()));
    draft.change(KernelThreads { away_from: split.guest, to: split.host }, draft.file(field));
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
    let detail = format!("{} interrupts may reach {}: {}", settings.len(), split.guest.numbered(), IRQS.why);
    draft.yes(field, Hard, detail);
    irqbalance(draft, tuning);
    if !settings.is_empty() {
        push(draft, &IRQS, settings);
    }
}

/// irqbalance moves interrupts back at its next look, within ten seconds, and those of the guest's devices too.
fn irqbalance(draft: &mut Draft, tuning: &Tuning) {
    let (field, key) = (IRQS.field, "host.irqs.irqbalance");
    match &tuning.irqbalance_unit {
        Some(unit) => {
            draft.yes(key, Soft, format!("{unit}, which would move interrupts back, is stopped for the run"));
            draft.change(StopIrqbalance { unit: unit.clone() }, draft.file(field));
        }
        None if tuning.irqbalance => {
            let detail =
                "irqbalance runs outside of any unit of systemd's and may move interrupts back to the vCPUs' CPUs";
            draft.no(key, Soft, detail, "stop it for the run, for example as a hook of `before`");
            draft.about(field);
        }
        None => {}
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
