//! What of a map is drawn one by one, and what as ranges: both pictures show the same.

use super::map::{Core, Group, GroupKind, Map, Module, Shown, Thread};
use crate::host::CoreKind;
use crate::units::{CpuSet, Size, counted};

/// With more CPUs, those that no vCPU runs on are told as ranges.
const MOST_DRAWN: usize = 64;
/// More CPUs of QEMU's other threads than these do not have cores drawn on a host of that size.
const MOST_OF_QEMU: usize = 16;

/// What is drawn of a group, from top to bottom.
pub(super) enum Item<'a> {
    /// A group in a box of its own.
    Group(&'a Group, Vec<Item<'a>>),
    /// Cores one by one.
    Cores(Cores<'a>),
    /// Several groups, or cores, that nothing runs on.
    Ranges(Ranges),
}

/// Cores that are alike, by the level 2 caches that they share.
pub(super) struct Cores<'a> {
    /// What they are, if that is not so of all the host's.
    pub heading: Option<String>,
    /// The cores.
    pub modules: Vec<&'a Module>,
}

/// CPUs that are not drawn one by one.
pub(super) struct Ranges {
    /// What they are, such as `14 L3 caches of 16 MiB, each with 8 cores of 2 threads`.
    pub heading: String,
    /// Which kind of core they are of, if of one.
    pub kind: CoreKind,
    /// The CPUs of each.
    pub sets: Vec<CpuSet>,
}

/// What is drawn of a map.
pub(super) fn outline(map: &Map) -> Vec<Item<'_>> {
    let alone = |kind| map.host.count(kind) < 2;
    let maker = Maker {
        large: map.host.cpus.len() > MOST_DRAWN,
        few: map.machines.iter().map(few).collect(),
        plain: [GroupKind::Package, GroupKind::Node].into_iter().filter(|kind| alone(*kind)).collect(),
    };
    maker.items(&map.host)
}

/// The CPUs that are drawn one by one.
pub(super) fn drawn<'a>(items: &[Item<'a>]) -> Vec<&'a Thread> {
    let mut threads = Vec::new();
    for item in items {
        match item {
            Item::Group(_, inner) => threads.extend(drawn(inner)),
            Item::Cores(cores) => {
                threads.extend(cores.modules.iter().flat_map(|module| &module.cores).flat_map(|core| &core.threads));
            }
            Item::Ranges(_) => {}
        }
    }
    threads
}

/// The name of a group, such as `L3 96 MiB`.
pub(super) fn title(group: &Group) -> String {
    let number = group.number.map_or_else(String::new, |number| format!(" {number}"));
    match (group.kind, group.size) {
        (GroupKind::Host, _) => "host".to_owned(),
        (GroupKind::Package, _) => format!("package{number}"),
        (GroupKind::Die, _) => format!("die{number}"),
        (GroupKind::Node, Some(size)) if size.as_bytes() == 0 => format!("NUMA node{number}, no memory"),
        (GroupKind::Node, Some(size)) => format!("NUMA node{number}, {}", size.about()),
        (GroupKind::Node, None) => format!("NUMA node{number}"),
        (GroupKind::L3, Some(size)) => format!("L3 {}", size.about()),
        (GroupKind::L3, None) => "L3".to_owned(),
    }
}

/// What a core of this kind is called.
pub(super) fn kind_name(kind: CoreKind) -> &'static str {
    match kind {
        CoreKind::Uniform => "core",
        CoreKind::Performance => "performance core",
        CoreKind::Efficiency => "efficiency core",
        CoreKind::LowPower => "low-power core",
    }
}

struct Maker {
    large: bool,
    /// Of each machine, whether QEMU's other threads, and whether its I/O threads have few CPUs.
    few: Vec<[bool; 2]>,
    /// Kinds of groups of which there is one, which has all: no box is drawn for it.
    plain: Vec<GroupKind>,
}

fn few(machine: &Shown) -> [bool; 2] {
    let few = |cpus: &CpuSet| cpus.len() <= MOST_OF_QEMU;
    [machine.emulator.as_ref().is_some_and(few), few(&machine.io_cpus())]
}

impl Maker {
    fn items<'a>(&self, group: &'a Group) -> Vec<Item<'a>> {
        let mut items = Vec::new();
        let mut idle: Vec<(String, &Group)> = Vec::new();
        for one in &group.groups {
            if self.plain.contains(&one.kind) {
                items.extend(self.items(one));
            } else if self.large && one.kind == GroupKind::L3 && one.groups.is_empty() && self.is_idle(one) {
                idle.push((inside(one), one));
            } else {
                items.push(Item::Group(one, self.items(one)));
            }
        }
        while let Some((what, first)) = idle.first().cloned() {
            let (alike, rest): (Vec<_>, Vec<_>) =
                idle.into_iter().partition(|(other, one)| *other == what && one.size == first.size);
            idle = rest;
            let heading = match (alike.len(), first.size) {
                (1, _) => format!("{} with {what}", title(first)),
                (n, Some(size)) => format!("{n} L3 caches of {}, each with {what}", size.about()),
                (n, None) => format!("{n} L3 caches, each with {what}"),
            };
            let sets = alike.iter().map(|(_, one)| cpus(&one.cores())).collect();
            items.push(Item::Ranges(Ranges { heading, kind: kind_of(first), sets }));
        }
        self.cores(group, &mut items);
        items
    }

    /// The cores of the group itself, those that are alike together.
    fn cores<'a>(&self, group: &'a Group, items: &mut Vec<Item<'a>>) {
        for alike in alike(group) {
            let kind =
                alike.first().and_then(|module| module.cores.first()).map_or(CoreKind::Uniform, |core| core.kind);
            let is_idle = |module: &&Module| module.cores.iter().all(|core| !self.is_busy(core));
            let (idle, drawn): (Vec<&Module>, Vec<&Module>) =
                alike.into_iter().partition(|module| self.large && is_idle(module));
            if !drawn.is_empty() {
                let heading = heading(&drawn);
                items.push(Item::Cores(Cores { heading, modules: drawn }));
            }
            if !idle.is_empty() {
                let cores: Vec<&Core> = idle.iter().flat_map(|module| &module.cores).collect();
                items.push(Item::Ranges(Ranges { heading: told(&idle), kind, sets: vec![cpus(&cores)] }));
            }
        }
    }

    fn is_idle(&self, group: &Group) -> bool {
        group.devices.is_empty() && group.cores().iter().all(|core| !self.is_busy(core))
    }

    fn is_busy(&self, core: &Core) -> bool {
        let is_busy = |thread: &Thread| {
            thread.uses.iter().any(|one| {
                let [emulator, io] = self.few.get(one.index).copied().unwrap_or_default();
                one.vcpus.is_some() || one.emulator && emulator || one.iothreads && io
            })
        };
        core.threads.iter().any(is_busy)
    }
}

/// The modules of a group, those with the same kind and number of cores and threads together.
fn alike(group: &Group) -> Vec<Vec<&Module>> {
    let mut found: Vec<(Shape, Vec<&Module>)> = Vec::new();
    for module in &group.modules {
        let shape = Shape::of(module);
        match found.iter_mut().find(|(known, _)| *known == shape) {
            Some((_, modules)) => modules.push(module),
            None => found.push((shape, vec![module])),
        }
    }
    found.into_iter().map(|(_, modules)| modules).collect()
}

#[derive(PartialEq)]
struct Shape {
    kind: CoreKind,
    /// Whether cores share the level 2 cache.
    shared: bool,
    /// The size of that.
    l2: Option<Size>,
    threads: usize,
}

impl Shape {
    fn of(module: &Module) -> Self {
        let shared = module.cores.len() > 1;
        let first = module.cores.first();
        Self {
            kind: first.map_or(CoreKind::Uniform, |core| core.kind),
            shared,
            l2: module.l2.filter(|_| shared),
            threads: first.map_or(0, |core| core.threads.len()),
        }
    }
}

/// What these modules are, if it is worth a line.
fn heading(modules: &[&Module]) -> Option<String> {
    let shape = Shape::of(modules.first()?);
    (shape.kind != CoreKind::Uniform || shape.shared).then(|| told(modules))
}

/// `8 efficiency cores, 4 to an L2 cache of 4 MiB`, `16 cores of 2 threads`.
fn told(modules: &[&Module]) -> String {
    let Some(first) = modules.first() else { return String::new() };
    let shape = Shape::of(first);
    let number = modules.iter().map(|module| module.cores.len()).sum();
    let name = kind_name(shape.kind);
    let mut text = counted(number, name, &format!("{name}s"));
    if shape.threads != 1 {
        text.push_str(&format!(" of {} threads", shape.threads));
    }
    if shape.shared {
        text.push_str(&format!(", {} to an L2 cache", first.cores.len()));
        text.extend(shape.l2.map(|size| format!(" of {}", size.about())));
    }
    text
}

/// What is in a group without groups.
fn inside(group: &Group) -> String {
    alike(group).iter().map(|modules| told(modules)).collect::<Vec<_>>().join(" and ")
}

/// The kind of the group's cores, if they are of one.
fn kind_of(group: &Group) -> CoreKind {
    let cores = group.cores();
    let kind = cores.first().map_or(CoreKind::Uniform, |core| core.kind);
    if cores.iter().all(|core| core.kind == kind) { kind } else { CoreKind::Uniform }
}

fn cpus(cores: &[&Core]) -> CpuSet {
    cores.iter().flat_map(|core| &core.threads).map(|thread| thread.cpu).collect()
}
