//! Which host CPUs the vCPUs and QEMU's other threads run on.

use std::collections::{BTreeMap, BTreeSet};

use super::cores::{self, Better};

use crate::import::account::ALL;
use crate::import::context::Context;
use crate::import::xml::{Node, child, children};
use crate::machine::Pin;
use crate::units::CpuSet;

const CHOSEN: &str = "vfio-run chooses a CPU for each vCPU; name them in `pin` to choose yourself";

/// Reads `cputune`.
pub fn read(cx: &mut Context, root: Node) {
    let on = switched_on(root);
    let tune = child(root, "cputune");
    let mut pins: BTreeMap<u32, CpuSet> = BTreeMap::new();
    let mut nodes = Vec::new();
    for node in tune.iter().flat_map(|tune| children(*tune, "vcpupin")) {
        let vcpu = node.attribute("vcpu").and_then(|vcpu| vcpu.parse().ok());
        let set = node.attribute("cpuset").and_then(set);
        let (Some(vcpu), Some(set)) = (vcpu, set) else { continue };
        if on.as_ref().is_some_and(|on| !on.contains(&vcpu)) {
            cx.left(node, &["vcpu", "cpuset"], "this vCPU is switched off");
            continue;
        }
        pins.insert(vcpu, set);
        nodes.push(node);
    }
    let cores = cx.own_host.map(cores::all).unwrap_or_default();
    if !nodes.is_empty() {
        let better = cores::better(&cores, &union(pins.values()), threads(root));
        vcpus(cx, &nodes, &pins, better);
    }
    of_all(cx, root, !nodes.is_empty());
    let Some(tune) = tune else { return };
    // What vCPUs were on counts too if other CPUs are chosen for them.
    let written = union(pins.values());
    let taken = cx.machine.cpu.pin.as_ref().map_or_else(|| written.clone(), Pin::cpus);
    // CPUs that vCPUs had to share are none that somebody chose; those that are left of their cores are.
    let freed = |cpus: CpuSet| match written == taken || cpus.intersection(&written).is_empty() {
        true => cpus,
        false => cores::whole(&cores, &cpus),
    };
    if let Some(node) = child(tune, "emulatorpin") {
        let cpus = node.attribute("cpuset").and_then(set).map(freed);
        cx.machine.cpu.emulator = others(cx, &[node], cpus, &taken, "QEMU's own threads", "emulatorpin");
    }
    let io: Vec<Node> = children(tune, "iothreadpin").collect();
    if !io.is_empty() && !has_disk(root) {
        let words = "there is no I/O thread without a disk of QEMU's";
        io.iter().for_each(|node| cx.left(*node, &["iothread", "cpuset"], words));
    } else if !io.is_empty() {
        cx.done_attribute(&io, "iothread", "each disk has an I/O thread of its own; all have the same CPUs");
        let all = io.iter().filter_map(|node| set(node.attribute("cpuset")?)).reduce(|all, more| all.union(&more));
        let all = all.map(freed);
        let cpus = others(cx, &io, all, &taken, "the I/O threads", "iothreadpin");
        cx.machine.cpu.iothreads = cpus.filter(|cpus| cx.machine.cpu.emulator.as_ref() != Some(cpus));
    }
    rest(cx, tune);
}

fn union<'s>(sets: impl Iterator<Item = &'s CpuSet>) -> CpuSet {
    sets.fold(CpuSet::new(), |all, set| all.union(set))
}

/// How many threads each of the guest's cores has.
fn threads(root: Node) -> usize {
    let topology = child(root, "cpu").and_then(|cpu| child(cpu, "topology"));
    topology.and_then(|topology| topology.attribute("threads")?.parse().ok()).unwrap_or(1)
}

/// Whether the guest has a disk that QEMU serves.
fn has_disk(root: Node) -> bool {
    let devices = child(root, "devices");
    devices.is_some_and(|devices| children(devices, "disk").any(|disk| disk.attribute("device") != Some("cdrom")))
}

/// The vCPUs that are switched on, if the domain tells of each.
fn switched_on(root: Node) -> Option<BTreeSet<u32>> {
    let vcpus = child(root, "vcpus")?;
    let on = children(vcpus, "vcpu").filter(|vcpu| vcpu.attribute("enabled") != Some("no"));
    Some(on.filter_map(|vcpu| vcpu.attribute("id")?.parse().ok()).collect())
}

/// Reads a set of CPUs as libvirt writes it: with `^4` for one that is not meant.
fn set(text: &str) -> Option<CpuSet> {
    let (mut cpus, mut without) = (CpuSet::new(), CpuSet::new());
    for part in text.split(',').map(str::trim) {
        match part.strip_prefix('^') {
            Some(part) => without = without.union(&part.parse().ok()?),
            None => cpus = cpus.union(&part.parse().ok()?),
        }
    }
    let cpus = cpus.difference(&without);
    (!cpus.is_empty()).then_some(cpus)
}

fn vcpus(cx: &mut Context, nodes: &[Node], pins: &BTreeMap<u32, CpuSet>, better: Option<Better>) {
    let vcpus = cx.machine.cpu.vcpus.map_or(pins.len(), |vcpus| vcpus as usize);
    let all = union(pins.values());
    let single = pins.values().all(|set| set.len() == 1);
    let both = ["vcpu", "cpuset"];
    let mut mend = |words: &str| nodes.iter().for_each(|node| cx.improved(*node, &both, words));
    if let Some(Better { cpus, why }) = better.filter(|_| all.len() == vcpus && pins.len() == vcpus && single) {
        mend(&format!("{why}; the vCPUs have {cpus} now"));
        cx.comment("cpu.pin", format!("It was {all}: {why}."));
        cx.machine.cpu.pin = Some(Pin::Cpus(cpus));
    } else if all.len() == vcpus && pins.len() == vcpus {
        cx.machine.cpu.pin = Some(Pin::Cpus(all.clone()));
        if single {
            nodes.iter().for_each(|node| cx.take(*node, &both));
        } else {
            let words = "each vCPU has one of these CPUs for itself now: a vCPU that moves loses its caches";
            nodes.iter().for_each(|node| cx.improved(*node, &both, words));
        }
        if all.contains(0) {
            cx.comment("cpu.pin", "CPU 0 is among them: the host's interrupts and timers disturb that vCPU. Better CPUs: `vfio-run check`.");
        }
    } else if pins.len() < vcpus {
        mend(&format!("only some vCPUs were pinned, and the others disturbed them. {CHOSEN}"));
    } else if single {
        mend(&format!("two vCPUs on one CPU wait for one another. {CHOSEN}"));
    } else {
        mend(&format!("a vCPU that moves among CPUs loses its caches. {CHOSEN}"));
    }
}

/// The set that all vCPUs run on.
fn of_all(cx: &mut Context, root: Node, pinned: bool) {
    let Some(vcpu) = child(root, "vcpu") else { return };
    let Some(cpus) = vcpu.attribute("cpuset").and_then(set) else { return };
    let vcpus = cx.machine.cpu.vcpus.unwrap_or_default() as usize;
    if pinned {
        cx.done(vcpu, &["cpuset"], "the vCPUs have CPUs of their own");
    } else if cpus.len() == vcpus {
        cx.machine.cpu.pin = Some(Pin::Cpus(cpus));
        cx.taken(vcpu, &["cpuset"], "each vCPU has one of these CPUs for itself");
    } else {
        cx.improved(vcpu, &["cpuset"], format!("all vCPUs shared these CPUs. {CHOSEN}"));
    }
}

/// CPUs for other threads: those that no vCPU has.
fn others(
    cx: &mut Context,
    nodes: &[Node],
    cpus: Option<CpuSet>,
    taken: &CpuSet,
    whose: &str,
    what: &str,
) -> Option<CpuSet> {
    let cpus = cpus?;
    let free = cpus.difference(taken);
    if free == cpus {
        nodes.iter().for_each(|node| cx.take(*node, &["cpuset"]));
        return Some(free);
    }
    let words = match free.is_empty() {
        true => format!("{what} was on the vCPUs' own CPUs, where {whose} delay the guest; vfio-run chooses others"),
        false => format!("{what} overlapped the vCPUs' CPUs, where {whose} delay the guest; those are left out"),
    };
    nodes.iter().for_each(|node| cx.improved(*node, &["cpuset"], &words));
    Some(free).filter(|free| !free.is_empty())
}

fn rest(cx: &mut Context, tune: Node) {
    for name in ["vcpusched", "iothreadsched", "emulatorsched"] {
        for node in children(tune, name) {
            cx.improved(
                node,
                &[ALL],
                "other programs are kept off the vCPUs' CPUs, so a real-time class gains nothing; a vCPU that spins in it starves the \
                 kernel's own work",
            );
        }
    }
    for name in [
        "shares",
        "period",
        "quota",
        "global_period",
        "global_quota",
        "emulator_period",
        "emulator_quota",
        "iothread_period",
        "iothread_quota",
    ] {
        for node in children(tune, name) {
            cx.left(node, &[ALL], "the vCPUs have CPUs of their own, so there is nothing to share out");
        }
    }
    for name in ["cachetune", "memorytune"] {
        for node in children(tune, name) {
            cx.left(
                node,
                &[ALL],
                "shares of caches (resctrl) are not set; write them as a hook of `ready` if they matter",
            );
        }
    }
}

impl Context<'_> {
    fn done_attribute(&mut self, nodes: &[Node], name: &str, words: &str) {
        nodes.iter().for_each(|node| self.done(*node, &[name], words));
    }
}
