//! The groups of cores that a guest's CPUs may be chosen from: each cache, die, NUMA node and package, the nearest nodes, all.

use std::collections::{BTreeMap, BTreeSet};

use super::cores::Cores;
use super::wish::Wish;

/// Cores that a choice is made from.
pub(super) struct Group {
    /// Their numbers, ascending.
    pub cores: Vec<usize>,
    /// Whether each of their NUMA nodes is to give its share.
    pub by_node: bool,
}

/// No host with more nodes than this is looked at from each of them.
const MOST_NODES: usize = 64;

/// All groups with enough threads, each once.
pub(super) fn groups(cores: &Cores, wish: &Wish) -> Vec<Group> {
    let mut caches: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    let mut dies: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    let mut nodes: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    let mut packages: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (index, core) in cores.list().iter().enumerate() {
        caches.entry((core.domain, core.node)).or_default().push(index);
        dies.entry((core.die, core.node)).or_default().push(index);
        nodes.entry(core.node).or_default().push(index);
        packages.entry(core.die.0).or_default().push(index);
    }
    let all: Vec<usize> = (0..cores.list().len()).collect();
    let threads = |group: &[usize]| group.iter().map(|index| cores.list()[*index].threads.len()).sum::<usize>();
    let several = sets_of_nodes(cores, wish, &nodes);
    let one = caches.into_values().chain(dies.into_values()).chain(nodes.into_values());
    let one = one.chain(packages.into_values()).chain([all]).map(|cores| Group { cores, by_node: false });
    let mut seen = BTreeSet::new();
    let several = several.into_iter().map(|cores| Group { cores, by_node: true });
    one.chain(several)
        .filter(|group| threads(&group.cores) >= wish.count && seen.insert((group.cores.clone(), group.by_node)))
        .collect()
}

/// For each node, it with the fewest of those nearest to it that together have enough threads; and if that is not enough
/// memory, with as many as have enough of both.
fn sets_of_nodes(cores: &Cores, wish: &Wish, nodes: &BTreeMap<Option<u32>, Vec<usize>>) -> Vec<Vec<usize>> {
    /// A node with what it has.
    struct Node<'a> {
        id: u32,
        package: u32,
        cores: &'a [usize],
        threads: usize,
        bytes: u64,
        zero: bool,
    }
    let known = nodes.iter().filter_map(|(id, members)| {
        let list = || members.iter().map(|index| &cores.list()[*index]);
        let facts = wish.memory.nodes.iter().find(|node| Some(node.id) == *id);
        // What is not known is no reason to look for more.
        let bytes = facts.map_or(u64::MAX, |facts| match wish.memory.gives(facts) {
            true => facts.total.map_or(u64::MAX, |total| total.as_bytes()),
            false => 0,
        });
        Some(Node {
            id: (*id)?,
            package: list().next()?.die.0,
            cores: members,
            threads: list().map(|core| core.threads.len()).sum(),
            bytes,
            zero: list().any(|core| core.zero),
        })
    });
    let known: Vec<Node> = known.take(MOST_NODES).collect();
    if known.len() < 2 {
        return Vec::new();
    }
    let mut sets = Vec::new();
    for seed in &known {
        let mut near: Vec<&Node> = known.iter().collect();
        near.sort_by_key(|node| {
            let apart = (wish.memory.distance(seed.id, node.id), node.package != seed.package);
            (node.id != seed.id, node.bytes == 0, apart, node.zero, std::cmp::Reverse(node.id))
        });
        let (mut threads, mut bytes, mut enough) = (0usize, 0u64, false);
        for (n, node) in near.iter().enumerate() {
            threads += node.threads;
            bytes = bytes.saturating_add(node.bytes);
            let holds = threads >= wish.count;
            let has_memory = holds && bytes >= wish.size.as_bytes();
            if n > 0 && (holds && !enough || has_memory) {
                let mut set: Vec<usize> = near[..=n].iter().flat_map(|node| node.cores.iter().copied()).collect();
                set.sort_unstable();
                sets.push(set);
            }
            enough |= holds;
            if has_memory {
                break;
            }
        }
    }
    sets
}
