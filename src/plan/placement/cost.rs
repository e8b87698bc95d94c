//! What tells a good choice of CPUs from a bad one, term by term in the order of their weight.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::cores::Cores;
use super::wish::Wish;
use crate::host::CoreKind;
use crate::machine::Prefer;
use crate::units::{Size, counted};

/// The threads of one core that a choice has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// The core's number.
    pub core: usize,
    /// How many of its threads.
    pub threads: usize,
}

/// What a choice costs. The smaller is the better one, and a term counts only if all before it are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cost {
    /// Low-power cores, which no guest is meant to have.
    pub low_power: u32,
    /// Cores of another kind than the guest is to have.
    pub other_kind: u32,
    /// Whether the guest needs more memory than the NUMA nodes of these CPUs have, or one of them has none.
    pub too_little_memory: bool,
    /// NUMA nodes.
    pub nodes: u32,
    /// How far the farthest node is from the devices that the guest has; 0 if no device says where it is.
    pub from_devices: u32,
    /// CPUs on cores that a vCPU of another machine runs on.
    pub of_others: u32,
    /// Last-level caches.
    pub caches: u32,
    /// Dies.
    pub dies: u32,
    /// CPUs that are not isolated, if the host has isolated ones.
    pub not_isolated: u32,
    /// Whether a cache is smaller by a third or more than the best one; with `prefer: Clock`, whether cores are slower.
    pub weaker: bool,
    /// How close to CPU 0.
    pub zero: Zero,
    /// How far the nodes are from each other, and from the memory that the guest will have.
    pub distance: u32,
    /// Threads of these cores that the guest does not have, and that are worth little to anybody else.
    pub lost: u32,
    /// CPUs that are left over below these caches: what fits tightly leaves larger groups whole.
    pub left_over: u32,
}

/// How close to CPU 0, where most of the kernel's own work and interrupts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Zero {
    /// Under another last-level cache.
    Elsewhere,
    /// Under the same last-level cache.
    SameCache,
    /// On its core.
    Core,
}

/// What choices are measured by, the same for all of them.
pub(super) struct Scale<'a> {
    cores: &'a Cores,
    wish: &'a Wish<'a>,
    /// Whether the host has isolated cores.
    has_isolated: bool,
    /// The least and the most, in bytes, of the caches that have cores of the wanted kind.
    caches: (u64, u64),
    /// The speeds of the slowest and the fastest of their domains, 0 if one is not known.
    speeds: (u32, u32),
}

impl<'a> Scale<'a> {
    /// Looks at all cores once.
    pub fn new(cores: &'a Cores, wish: &'a Wish<'a>) -> Self {
        let eligible = cores.list().iter().filter(|core| wish.rank(core) == 0).map(|core| core.domain);
        let domains: BTreeSet<usize> = eligible.collect();
        let domains = || domains.iter().filter_map(|domain| cores.domains().get(*domain));
        let sizes = || domains().filter_map(|domain| domain.size).map(Size::as_bytes);
        let speeds = || domains().map(|domain| domain.speed);
        Self {
            cores,
            wish,
            has_isolated: cores.list().iter().any(|core| core.isolated),
            caches: (sizes().min().unwrap_or(0), sizes().max().unwrap_or(0)),
            speeds: (speeds().min().unwrap_or(0), speeds().max().unwrap_or(0)),
        }
    }

    /// What these parts of cores cost.
    pub fn cost(&self, parts: &[Part]) -> Cost {
        let Self { cores, wish, .. } = *self;
        let list = cores.list();
        let of = |part: &Part| &list[part.core];
        let domains: BTreeSet<usize> = parts.iter().map(|part| of(part).domain).collect();
        let dies: BTreeSet<(u32, u32)> = parts.iter().map(|part| of(part).die).collect();
        let nodes: BTreeSet<Option<u32>> = parts.iter().map(|part| of(part).node).collect();
        let known: Vec<u32> = nodes.iter().copied().flatten().collect();
        let threads = |counts: &dyn Fn(&Part) -> bool| {
            number(parts.iter().filter(|part| counts(part)).map(|part| part.threads).sum())
        };
        let picked = threads(&|_| true);
        let below: usize = domains.iter().filter_map(|domain| cores.domains().get(*domain)).map(|d| d.threads).sum();
        Cost {
            low_power: number(parts.iter().filter(|part| of(part).kind == CoreKind::LowPower).count()),
            other_kind: number(parts.iter().filter(|part| wish.rank(of(part)) > 0).count()),
            too_little_memory: too_little_memory(wish, &known),
            nodes: number(nodes.len()),
            from_devices: known.iter().map(|node| from_devices(wish, *node)).max().unwrap_or(0),
            of_others: threads(&|part| of(part).taken),
            caches: number(domains.len()),
            dies: number(dies.len()),
            not_isolated: if self.has_isolated { threads(&|part| !of(part).isolated) } else { 0 },
            weaker: self.is_weaker(&domains),
            zero: match cores.zero_domain() {
                _ if parts.iter().any(|part| of(part).zero) => Zero::Core,
                Some(zero) if domains.contains(&zero) => Zero::SameCache,
                _ => Zero::Elsewhere,
            },
            distance: distance(wish, &known),
            lost: number(parts.iter().map(|part| of(part).online - part.threads).sum()),
            left_over: number(below).saturating_sub(picked),
        }
    }

    /// Whether one of these domains is weaker than the host's best in what is preferred.
    fn is_weaker(&self, domains: &BTreeSet<usize>) -> bool {
        let these = || domains.iter().filter_map(|domain| self.cores.domains().get(*domain));
        let sizes = || these().filter_map(|domain| domain.size).map(|size| u128::from(size.as_bytes()));
        let (least, most) = (u128::from(self.caches.0), u128::from(self.caches.1));
        match self.wish.prefer {
            Prefer::Cache => sizes().any(|size| size * 3 <= most * 2),
            // Those of one die differ by a few in a hundred, and dies by more if at all.
            Prefer::Clock if self.speeds.0 > 0 && self.speeds.0 < self.speeds.1 => {
                these().any(|domain| u64::from(domain.speed) * 100 < u64::from(self.speeds.1) * 97)
            }
            // The die with more cache is the one with the lower clock.
            Prefer::Clock => sizes().any(|size| size * 2 >= least * 3),
        }
    }
}

impl Cost {
    /// In which respect this one is worse than a better one, as the end of a sentence that begins with its CPUs.
    pub fn worse_than(&self, better: &Self, prefer: Prefer) -> String {
        let (a, b) = (self, better);
        if a.low_power != b.low_power {
            "have low-power cores".to_owned()
        } else if a.other_kind != b.other_kind {
            format!("have {} of another kind", counted(a.other_kind as usize, "core", "cores"))
        } else if a.too_little_memory != b.too_little_memory {
            "are in NUMA nodes that have too little memory".to_owned()
        } else if a.nodes != b.nodes {
            format!("are in {} NUMA nodes", a.nodes)
        } else if a.from_devices != b.from_devices {
            "are farther from the guest's devices".to_owned()
        } else if a.of_others != b.of_others {
            "have cores of another machine".to_owned()
        } else if a.caches != b.caches {
            format!("are under {} last-level caches", a.caches)
        } else if a.dies != b.dies {
            format!("are on {} dies", a.dies)
        } else if a.not_isolated != b.not_isolated {
            "are not all isolated".to_owned()
        } else if a.weaker != b.weaker {
            match prefer {
                Prefer::Cache => "have less cache".to_owned(),
                Prefer::Clock => "have a lower clock".to_owned(),
            }
        } else if a.zero != b.zero {
            match a.zero {
                Zero::Core => "have CPU 0's core".to_owned(),
                _ => "share the last-level cache with CPU 0".to_owned(),
            }
        } else if a.distance != b.distance {
            "are farther apart, or farther from memory".to_owned()
        } else if a.lost != b.lost {
            "leave threads of their cores behind".to_owned()
        } else if a.left_over != b.left_over {
            "would break up a larger group".to_owned()
        } else {
            "are as good, but not the fastest or the last".to_owned()
        }
    }
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Whether the guest needs more memory than these nodes have of their own, or one has none. With one node there is no choice.
fn too_little_memory(wish: &Wish, nodes: &[u32]) -> bool {
    if wish.memory.nodes.len() < 2 || nodes.is_empty() {
        return false;
    }
    if wish.memory.nodes.iter().any(|node| nodes.contains(&node.id) && !wish.memory.gives(node)) {
        return true;
    }
    let total = wish.memory.of_nodes(&nodes.iter().copied().collect(), |node| node.total);
    total.is_some_and(|total| total < wish.size)
}

/// How far a node is from the nearest device; 0 if no device says where it is.
fn from_devices(wish: &Wish, node: u32) -> u32 {
    wish.devices.iter().map(|device| wish.memory.distance(node, *device)).min().unwrap_or(0)
}

/// How far the nodes are from each other, and each from its memory.
fn distance(wish: &Wish, nodes: &[u32]) -> u32 {
    if wish.memory.nodes.len() < 2 {
        return 0;
    }
    let between =
        nodes.iter().enumerate().flat_map(|(n, a)| nodes[n + 1..].iter().map(|b| wish.memory.distance(*a, *b)));
    let home = nodes.iter().filter_map(|node| Some(wish.memory.distance(*node, wish.memory.home(*node)?)));
    between.chain(home).fold(0, u32::saturating_add)
}
