//! What the colours mean, of those that are there.

use std::collections::BTreeSet;

use super::super::map::{Map, Thread};
use super::super::outline::kind_name;
use super::super::words;
use super::colours;
use crate::host::CoreKind;
use crate::report::svg::block::{Block, Look, written};

/// The side of a swatch.
const SIDE: u32 = 14;

/// One block for each colour, if these CPUs are drawn.
pub fn entries(map: &Map, drawn: &[&Thread]) -> Vec<Block> {
    let mut entries = Vec::new();
    for (index, machine) in map.machines.iter().enumerate() {
        let uses = || drawn.iter().flat_map(|thread| &thread.uses).filter(|one| one.index == index);
        let name = words::name(machine);
        if uses().any(|one| one.vcpus.is_some()) {
            entries.push(entry(Look::of(colours::of_vcpus(index), colours::LINE), &format!("vCPUs of {name}")));
        }
        let others = match (uses().any(|one| one.emulator), uses().any(|one| one.iothreads)) {
            (true, true) => "QEMU, helpers and I/O threads",
            (true, false) => "QEMU and helpers",
            (false, true) => "I/O threads",
            (false, false) => continue,
        };
        let look = Look::of(colours::of_others(index), colours::LINE);
        entries.push(entry(look, &format!("{others} of {name}")));
    }
    if map.is_mixed() {
        let kind = |kind| entry(Look::of(colours::of_kind(kind), colours::LINE), kind_name(kind));
        let kinds: BTreeSet<CoreKind> = map.host.cores().iter().map(|core| core.kind).collect();
        entries.extend(kinds.into_iter().map(kind));
    }
    if drawn.iter().any(|thread| thread.is_shared()) {
        let look = Look { line_width: 3, ..Look::of(colours::IDLE, colours::CONFLICT) };
        entries.push(entry(look, "more vCPUs than one"));
    }
    if drawn.iter().any(|thread| thread.forbidden) {
        entries.push(entry(Look::of(colours::FORBIDDEN, colours::LINE), "outside of the cgroup"));
    }
    entries
}

fn entry(look: Look, text: &str) -> Block {
    let words = written(&[text.to_owned()], 12, false, colours::INK);
    let mut block = Block { width: SIDE + 6 + words.width + 8, height: 18, shapes: Vec::new() };
    block.put(0, 2, Block::rect(SIDE, SIDE, Look { radius: 3, ..look }, None));
    block.put(SIDE + 6, 1, words);
    block
}
