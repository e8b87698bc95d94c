//! What is not ideal, or not possible, about a placement.

use std::collections::BTreeMap;

use super::super::Severity::{Hard, Soft};
use super::super::draft::Draft;
use super::cores::Cores;
use super::found::Found;
use super::neighbours;
use super::placed::Placement;
use crate::machine::{Pin, VcpuCpus};
use crate::units::{CpuSet, counted};

/// Says what was found about a placement.
pub(super) fn check(draft: &mut Draft, found: &Found) {
    let Found { cores, wish, placement, .. } = *found;
    let count = wish.count;
    asked(draft, cores, count);
    if !found.keeps {
        let leave = draft.machine.cpu.leave.unwrap_or(0);
        let detail = format!(
            "with {} the host would not keep {} of the vCPUs' kind",
            counted(count, "vCPU", "vCPUs"),
            counted(leave as usize, "core", "cores")
        );
        draft.no("cpu.leave", Hard, detail, "lower `cpu.leave` or `cpu.vcpus`, or leave `cpu.vcpus` out");
        draft.about("cpu.leave");
    }
    if placement.pinned {
        let cpus = placement.vcpu_set();
        draft.yes(
            "cpu.pinned",
            Soft,
            match count {
                1 => format!("the vCPU on {}", cpus.numbered()),
                _ => format!("{count} vCPUs on {}, one each", cpus.numbered()),
            },
        );
        neighbours::check(draft, found, &cpus);
        overlap(draft, placement, &cpus);
        order(draft, found);
    } else if let Some(Pin::Each(each)) = &draft.machine.cpu.pin {
        some(draft, placement, each);
    } else {
        draft.no(
            "cpu.pinned",
            Soft,
            match (cores.usable().len(), count) {
                (usable, 1) => format!(
                    "of CPUs that are usable the host has {usable}, too few to give the vCPU its own and the host one"
                ),
                (usable, _) => format!(
                    "the host has {usable} usable CPUs, too few to give each of {count} vCPUs its own and the host one; no \
                     vCPU is pinned"
                ),
            },
            "lower `cpu: (vcpus: …)`, or let the program run on more CPUs",
        );
        draft.about("cpu.vcpus");
    }
}

/// A list of the user's that gives some vCPUs CPUs of their own and others not.
fn some(draft: &mut Draft, placement: &Placement, each: &[VcpuCpus]) {
    let vcpus = &placement.vcpus;
    let single: Vec<&CpuSet> = vcpus.iter().filter(|cpus| cpus.len() == 1).collect();
    let of_single: CpuSet = single.iter().flat_map(|cpus| cpus.iter()).collect();
    let groups = [(single.len(), of_single), (vcpus.len(), placement.vcpu_set())];
    if let Some((count, cpus)) = groups.iter().find(|(count, cpus)| cpus.len() < *count) {
        let detail = format!(
            "{} have only {} among them, and wait for each other",
            counted(*count, "vCPU", "vCPUs"),
            cpus.numbered()
        );
        draft.no("cpu.pin.shared", Soft, detail, "name another CPU for each, or more for all of them");
        draft.about("cpu.pin");
    }
    let mut users: BTreeMap<u32, usize> = BTreeMap::new();
    vcpus.iter().flat_map(CpuSet::iter).for_each(|cpu| *users.entry(cpu).or_default() += 1);
    let alone = single.iter().flat_map(|cpus| cpus.iter()).filter(|cpu| users.get(cpu) == Some(&1)).count();
    let detail = format!(
        "vCPUs that have a CPU for themselves: {alone} of {}; as not all have, none is kept for the guest alone, and the guest \
         is told nothing of siblings and caches",
        vcpus.len()
    );
    draft.yes("cpu.pinned", Soft, detail);
    let named: CpuSet = each.iter().filter_map(VcpuCpus::named).flat_map(CpuSet::iter).collect();
    overlap(draft, placement, &named);
}

/// CPUs that the user gave in an order that no topology has.
fn order(draft: &mut Draft, found: &Found) {
    let Some(better) = &found.ordered else { return };
    let list: Vec<String> = better.iter().map(|cpu| format!("{:?}", cpu.to_string())).collect();
    let detail = "in this order the vCPUs are not shown the siblings and caches of their CPUs: those that share one must follow \
                  each other";
    draft.no(
        "cpu.pin.order",
        Soft,
        detail,
        &format!("write `cpu.pin: [{}]`, or the CPUs as one text", list.join(", ")),
    );
    draft.about("cpu.pin");
}

/// What the user asked for that can't be.
fn asked(draft: &mut Draft, cores: &Cores, count: usize) {
    let (cpu, host) = (&draft.machine.cpu, &draft.host.cpus);
    let pin = cpu.pin.as_ref().map(Pin::cpus);
    for (field, set) in [("pin", &pin), ("emulator", &cpu.emulator), ("iothreads", &cpu.iothreads)] {
        let Some(set) = set else { continue };
        let offline = set.difference(&host.online);
        let forbidden = set.intersection(&host.online).difference(cores.usable());
        let remedy = format!("choose from {}", cores.usable());
        if !offline.is_empty() {
            let detail = format!("`cpu.{field}` names {}, not online on this host", offline.numbered());
            draft.no(&format!("cpu.{field}.online"), Hard, detail, &remedy);
            draft.about(&format!("cpu.{field}"));
        }
        if !forbidden.is_empty() {
            let taken = host_has_given(draft, &forbidden);
            let detail = format!(
                "`cpu.{field}` names {}, which {}",
                forbidden.numbered(),
                if taken {
                    "another cpuset partition has, as that of another machine"
                } else {
                    "this process may not run on"
                }
            );
            let remedy = match taken {
                true => format!("{remedy}, or end what has them"),
                false => format!("{remedy}, or start from a cgroup or container that has them"),
            };
            draft.no(&format!("cpu.{field}.allowed"), Hard, detail, &remedy);
            draft.about(&format!("cpu.{field}"));
        }
    }
    if let Some(pin) = &cpu.pin
        && !pin.is_empty()
        && count > pin.len()
    {
        draft.no(
            "cpu.vcpus",
            Hard,
            format!("{count} vCPUs, and `cpu.pin` {}", pin.counted()),
            "name one CPU for each vCPU, or leave `vcpus` out",
        );
        draft.about("cpu.vcpus");
    }
    if let Some(topology) = cpu.topology
        && topology.vcpus().map(|n| n as usize) != Some(count)
    {
        draft.no(
            "cpu.topology",
            Hard,
            format!(
                "sockets × dies × modules × cores × threads, {} × {} × {} × {} × {}, are not {}",
                topology.sockets,
                topology.dies,
                topology.modules,
                topology.cores,
                topology.threads,
                counted(count, "vCPU", "vCPUs")
            ),
            "make the product equal to the number of vCPUs, or leave `topology` out",
        );
        draft.about("cpu.topology");
    }
}

/// Whether these CPUs are out of reach because a partition has them.
fn host_has_given(draft: &Draft, cpus: &CpuSet) -> bool {
    let effective = draft.host.cpusets.as_ref().map(|cpusets| &cpusets.effective).filter(|cpus| !cpus.is_empty());
    effective.is_some_and(|effective| effective.intersection(cpus).is_empty())
}

/// vCPUs that share a CPU with QEMU's other threads.
fn overlap(draft: &mut Draft, placement: &Placement, vcpus: &CpuSet) {
    let io: CpuSet = placement.iothreads.iter().flat_map(|(_, cpus)| cpus.iter()).collect();
    for (field, threads, cpus) in
        [("emulator", "QEMU's main thread", &placement.emulator), ("iothreads", "I/O threads", &io)]
    {
        let shared = cpus.intersection(vcpus);
        if !shared.is_empty() {
            let detail =
                format!("{threads} and vCPUs share {}: the guest stutters when both are busy", shared.numbered());
            let (written, key) = (format!("cpu.{field}"), format!("cpu.{field}.overlap"));
            let cpu = &draft.machine.cpu;
            // Without any of these, the vCPUs got all CPUs that there are.
            if cpu.pin.is_none() && cpu.emulator.is_none() && cpu.iothreads.is_none() {
                draft.no(&key, Soft, detail, "lower `cpu.vcpus`, so that they have a CPU of their own");
                draft.about("cpu.vcpus");
                continue;
            }
            draft.no(&key, Soft, detail, &format!("take them out of `{written}` or `cpu.pin`"));
            draft.about(if draft.line(&written) { &written } else { "cpu.pin" });
        }
    }
}
