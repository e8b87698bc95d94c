//! What is said beside both pictures.

use super::map::{Device, Map, Shown, Thread, Use};
use crate::units::{CpuSet, counted, printable_up_to};

/// Longer names are cut: a captured host may say anything.
const LONGEST: usize = 80;
/// Enough for the numbers of all CPUs of two choices on most hosts.
const LONGEST_WHY: usize = 16 << 10;
/// As `v100-103`.
const LONGEST_LABEL: usize = 8;

/// What a CPU's column or box says of a machine: `v3` is its vCPU 3, `Q` QEMU's main thread, workers and helpers, `I` its
/// I/O threads.
pub(super) fn label(one: &Use) -> String {
    let vcpus = one.vcpus.as_ref().map(|vcpus| format!("v{vcpus}")).unwrap_or_default();
    // Whoever has so many of them on one CPU is told where in words.
    let vcpus = if vcpus.len() > LONGEST_LABEL { "v…".to_owned() } else { vcpus };
    format!("{vcpus}{}{}", if one.emulator { "Q" } else { "" }, if one.iothreads { "I" } else { "" })
}

/// What the labels of these CPUs mean.
pub(super) fn legend(drawn: &[&Thread]) -> Vec<&'static str> {
    let uses = || drawn.iter().flat_map(|thread| &thread.uses);
    let is_known = |one: &Use, known: bool| one.vcpus.as_ref().is_some_and(|vcpus| vcpus.is_empty() != known);
    let all = [
        (uses().any(|one| is_known(one, true)), "v0: vCPU 0"),
        (uses().any(|one| is_known(one, false)), "v: a vCPU"),
        (uses().any(|one| one.emulator), "Q: QEMU's main thread, workers and helpers"),
        (uses().any(|one| one.iothreads), "I: I/O threads"),
        (drawn.iter().any(|thread| thread.is_shared()), "more vCPUs than one on a CPU wait for each other"),
    ];
    all.into_iter().filter(|(is_there, _)| *is_there).map(|(_, text)| text).collect()
}

/// The processor, and how much there is.
pub(super) fn headline(map: &Map) -> (String, String) {
    let cores = map.host.cores();
    let threads = cores.iter().map(|core| core.threads.len()).sum();
    let mut words = vec![counted(cores.len(), "core", "cores"), counted(threads, "thread", "threads")];
    words.extend(map.host.size.map(|size| format!("{} of memory", size.about())));
    (printable_up_to(map.model.as_deref().unwrap_or("unknown processor").trim(), LONGEST), words.join(", "))
}

/// Where the machine's threads are, and why there.
pub(super) fn sentence(machine: &Shown) -> String {
    let cpus: CpuSet = machine.vcpus.iter().flat_map(CpuSet::iter).collect();
    let number = counted(machine.vcpus.len(), "vCPU", "vCPUs");
    let state = if machine.runs { "runs" } else { "planned" };
    let mut text = format!("{} ({state}): {number} ", name(machine));
    match (&machine.why, machine.pinned) {
        (Some(why), true) => text.push_str(&format!("on {}", printable_up_to(why, LONGEST_WHY))),
        (_, true) => text.push_str(&format!("on {}", cpus.numbered())),
        (_, false) if machine.vcpus.len() == 1 => text.push_str(&format!("on any of {}", cpus.numbered())),
        (_, false) => text.push_str(&format!("on {}, not each on one of its own", cpus.numbered())),
    }
    if let Some(emulator) = &machine.emulator {
        text.push_str(&format!("; QEMU and helpers on {}", emulator.numbered()));
    }
    let io = machine.io_cpus();
    if !io.is_empty() && machine.emulator.as_ref() != Some(&io) {
        text.push_str(&format!("; I/O threads on {}", io.numbered()));
    }
    text
}

/// What else there is to say of the host.
pub(super) fn notes(map: &Map) -> Vec<String> {
    let mut notes = Vec::new();
    if !map.isolated.is_empty() {
        notes.push(format!("isolated from the scheduler: {}", map.isolated.numbered()));
    }
    if !map.forbidden.is_empty() {
        notes.push(format!("outside of the cgroup of this process: {}", map.forbidden.numbered()));
    }
    let nodes = map.memory_only.iter().map(|node| match node.size {
        Some(size) => format!("node {} with {}", node.node, size.about()),
        None => format!("node {}", node.node),
    });
    let nodes: Vec<String> = nodes.collect();
    if !nodes.is_empty() {
        notes.push(format!("memory without CPUs: {}", nodes.join(", ")));
    }
    notes
}

/// A device, and who has it.
pub(super) fn device(device: &Device) -> String {
    // Nearly all are in domain 0, and written without it.
    let address = device.address.strip_prefix("0000:").unwrap_or(&device.address);
    let name = printable_up_to(&format!("{address} {}", device.name), LONGEST);
    let has = device.machine.as_ref().map(|machine| format!(", of {}", printable_up_to(machine, LONGEST)));
    name + &has.unwrap_or_default()
}

/// The machine's name.
pub(super) fn name(machine: &Shown) -> String {
    printable_up_to(&machine.name, LONGEST)
}
