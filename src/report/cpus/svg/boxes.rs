//! Groups, cores and CPUs as boxes.

use super::super::map::{Core, Device, Group, GroupKind, Map, Module, Thread, Use};
use super::super::outline::{Cores, Item, Ranges, title};
use super::super::words;
use super::colours;
use crate::report::svg::block::{Anchor, Block, Look, Shape, below, chip, flow, grid, measure, text_lines};

/// Around what is in a box of a group.
const PAD: u32 = 8;
/// Around the CPUs of a core, and between them.
const CORE_PAD: u32 = 4;
/// So many threads of a core side by side.
const THREADS: usize = 4;
/// Two groups stand side by side if each has at least so much room.
const ROOM: u32 = 380;
/// A CPU's number, and below it what runs there.
const NUMBER: u32 = 12;
const LABEL: u32 = 10;
/// More lines than this are left out of a CPU's box; the words below have them.
const MOST_LINES: usize = 4;

/// Makes the boxes of a map.
pub struct Boxes<'a> {
    map: &'a Map,
    /// Width and height of a CPU's box, the same for all.
    size: (u32, u32),
}

impl<'a> Boxes<'a> {
    /// Those of this map, of which these CPUs are drawn.
    pub fn of(map: &'a Map, drawn: &[&Thread]) -> Self {
        let lines = drawn.iter().map(|thread| labels(thread).len()).max().unwrap_or(0);
        let labels = drawn.iter().flat_map(|thread| labels(thread)).map(|text| measure(&text, LABEL, false));
        let numbers = drawn.iter().map(|thread| measure(&thread.cpu.to_string(), NUMBER, true));
        let widest = labels.chain(numbers).max().unwrap_or(0);
        Self { map, size: (widest.max(22) + 6, 19 + 12 * u32::try_from(lines).unwrap_or(0)) }
    }

    /// These items, in so much room.
    pub fn items(&self, items: &[Item], width: u32) -> Block {
        let groups = items.iter().filter(|item| matches!(item, Item::Group(..))).count();
        let half = width.saturating_sub(PAD) / 2;
        let room = if groups > 1 && half >= ROOM { half } else { width };
        let mut blocks = Vec::new();
        let mut pending = Vec::new();
        for item in items {
            let block = match item {
                Item::Group(group, inner) => {
                    pending.push(self.group(group, inner, room));
                    continue;
                }
                Item::Cores(cores) => self.cores(cores, width),
                Item::Ranges(ranges) => ranges_of(ranges, width),
            };
            blocks.push(grid(std::mem::take(&mut pending), width));
            blocks.push(block);
        }
        blocks.push(grid(pending, width));
        below(blocks)
    }

    fn group(&self, group: &Group, items: &[Item], width: u32) -> Block {
        let (fill, line) = colours::of_group(group.kind);
        let room = width.saturating_sub(2 * PAD);
        let mut name = title(group);
        if matches!(group.kind, GroupKind::Package | GroupKind::Die) {
            name[..1].make_ascii_uppercase();
        }
        let mut parts = vec![text_lines(&name, 13, true, colours::INK, room)];
        parts.push(flow(group.devices.iter().map(|one| device(one, self.map)).collect(), room));
        parts.push(self.items(items, room));
        let content = below(parts);
        let look = Look { radius: 6, ..Look::of(fill, line) };
        let mut block = Block::rect(content.width + 2 * PAD, content.height + 2 * PAD, look, None);
        block.put(PAD, PAD, content);
        block
    }

    fn cores(&self, cores: &Cores, width: u32) -> Block {
        let modules = cores.modules.iter().map(|module| self.module(module, width));
        let heading = cores.heading.iter().map(|text| text_lines(text, 11, false, colours::PALE_INK, width));
        below(heading.chain([grid(modules.collect(), width)]).collect())
    }

    fn module(&self, module: &Module, width: u32) -> Block {
        let room = width.saturating_sub(2 * CORE_PAD);
        let mut cores: Vec<Block> = module.cores.iter().map(|core| self.core(core)).collect();
        if cores.len() == 1 {
            return cores.remove(0);
        }
        let name = module.l2.map_or_else(|| "L2".to_owned(), |size| format!("L2 {}", size.about()));
        let content = below(vec![text_lines(&name, 11, false, colours::PALE_INK, room), grid(cores, room)]);
        let look = Look { dashed: true, ..Look::of(colours::PAPER, colours::LINE) };
        let mut block = Block::rect(content.width + 2 * CORE_PAD, content.height + 2 * CORE_PAD, look, None);
        block.put(CORE_PAD, CORE_PAD, content);
        block
    }

    fn core(&self, core: &Core) -> Block {
        let (width, height) = self.size;
        let count = core.threads.len();
        let (columns, rows) = (count.min(THREADS) as u32, count.div_ceil(THREADS) as u32);
        let side = |number: u32, length: u32| number * (length + CORE_PAD) + CORE_PAD;
        let look = Look::of(colours::of_kind(core.kind), colours::LINE);
        let mut block = Block::rect(side(columns, width), side(rows, height), look, None);
        for (thread, at) in core.threads.iter().zip(0..) {
            let (column, row) = (at % THREADS as u32, at / THREADS as u32);
            block.put(side(column, width), side(row, height), self.thread(thread));
        }
        block
    }

    fn thread(&self, thread: &Thread) -> Block {
        let (width, height) = self.size;
        let shared = thread.is_shared();
        let vcpu = thread.uses.iter().find(|one| one.vcpus.is_some());
        let (fill, ink) = match (vcpu, thread.uses.first()) {
            (Some(one), _) => (colours::of_vcpus(one.index), colours::LIGHT_INK),
            (None, Some(one)) => (colours::of_others(one.index), colours::INK),
            (None, None) if thread.forbidden => (colours::FORBIDDEN, colours::PALE_INK),
            (None, None) => (colours::IDLE, colours::INK),
        };
        let line = if shared { colours::CONFLICT } else { colours::LINE };
        let look = Look { line_width: if shared { 3 } else { 1 }, radius: 3, ..Look::of(fill, line) };
        let mut block = Block::rect(width, height, look, Some(self.tip(thread)));
        block.shapes.push(Shape::Text {
            x: width / 2,
            y: if thread.uses.is_empty() { height / 2 + 5 } else { 14 },
            size: NUMBER,
            anchor: Anchor::Middle,
            bold: true,
            underlined: thread.isolated,
            fill: ink,
            text: thread.cpu.to_string(),
        });
        for (text, number) in labels(thread).iter().zip(1..) {
            block.write((width / 2, 14 + 12 * number), LABEL, Anchor::Middle, ink, text);
        }
        block
    }

    /// What a browser shows when the pointer is on a CPU.
    fn tip(&self, thread: &Thread) -> String {
        let mut text = format!("CPU {}", thread.cpu);
        for one in &thread.uses {
            let name = self.map.machines.get(one.index).map(words::name).unwrap_or_default();
            let what = lines_of(one).join(", ");
            text.push_str(&format!("; {name}: {what}"));
        }
        text
    }
}

/// What stands in a CPU's box, line by line.
fn labels(thread: &Thread) -> Vec<String> {
    thread.uses.iter().flat_map(lines_of).take(MOST_LINES).collect()
}

fn lines_of(one: &Use) -> Vec<String> {
    let vcpus = one.vcpus.as_ref().map(|vcpus| match vcpus.len() {
        0 => "vCPU".to_owned(),
        1 => format!("vCPU {vcpus}"),
        number => format!("{number} vCPUs"),
    });
    let others = match (one.emulator, one.iothreads) {
        // Few have I/O threads elsewhere; the legend says it.
        (true, _) => Some("QEMU"),
        (false, true) => Some("I/O"),
        (false, false) => None,
    };
    vcpus.into_iter().chain(others.map(str::to_owned)).collect()
}

/// A device, in the colour of the machine that has it.
pub fn device(device: &Device, map: &Map) -> Block {
    let owner = device.machine.as_ref().and_then(|name| map.machines.iter().position(|one| one.name == *name));
    let (fill, line) =
        owner.map_or((colours::IDLE, colours::LINE), |at| (colours::of_others(at), colours::of_vcpus(at)));
    chip(&words::device(device), 11, Look::of(fill, line), ROOM - 4 * PAD)
}

/// CPUs as lists, each in a box.
fn ranges_of(ranges: &Ranges, width: u32) -> Block {
    let look = Look::of(colours::of_kind(ranges.kind), colours::LINE);
    let sets = ranges.sets.iter().map(|set| chip(&set.to_string(), 12, look, width));
    let heading = text_lines(&ranges.heading, 11, false, colours::PALE_INK, width);
    below(vec![heading, grid(sets.collect(), width)])
}
