//! Choosing CPUs for vCPUs if the machine file names none: from each group of cores the best that it has, and of these the
//! one that costs least.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::cores::{Core, Cores};
use super::cost::{Cost, Part, Scale};
use super::groups::{Group, groups};
use super::why::{Candidate, Rejected, Why};
use super::wish::Wish;
use crate::units::CpuSet;

/// CPUs for vCPUs.
pub(super) struct Choice {
    /// In the order of the vCPUs' numbers.
    pub cpus: Vec<u32>,
    /// Why these.
    pub why: Why,
}

/// Whether the host can give each vCPU a CPU and keep one. What a cpuset holds is there to be used, so a process that may
/// not run on all CPUs may use all that it has.
pub(super) fn enough(cores: &Cores, wish: &Wish, limited: bool) -> bool {
    let threads = cores.usable().len();
    wish.count > 0 && wish.count < threads + usize::from(limited)
}

/// The best CPUs; `None` if the host has too few, or the cores that it is to keep would not be left.
pub(super) fn choose(cores: &Cores, wish: &Wish, limited: bool) -> Option<Choice> {
    if !enough(cores, wish, limited) {
        return None;
    }
    let scale = Scale::new(cores, wish);
    let mut best: Option<(Ranked, Vec<Part>)> = None;
    let mut second: Option<(Ranked, Vec<Part>)> = None;
    for group in groups(cores, wish) {
        for parts in picks(cores, wish, &group) {
            if !leaves_enough(cores, wish, &parts) {
                continue;
            }
            let ranked = Ranked::of(cores, scale.cost(&parts), &parts);
            let is_known = |known: &Option<(Ranked, Vec<Part>)>| known.as_ref().is_some_and(|(_, have)| *have == parts);
            if is_known(&best) || is_known(&second) {
                continue;
            }
            let better = |than: &Option<(Ranked, Vec<Part>)>| than.as_ref().is_none_or(|(than, _)| ranked < *than);
            if better(&best) {
                second = best.replace((ranked, parts));
            } else if better(&second) {
                second = Some((ranked, parts));
            }
        }
    }
    let (ranked, parts) = best?;
    let chosen = Candidate::of(cores, &parts, ranked.cost);
    let not = second.map(|(other, parts)| Rejected {
        because: other.cost.worse_than(&ranked.cost, wish.prefer),
        candidate: Candidate::of(cores, &parts, other.cost),
    });
    Some(Choice { cpus: cores.ordered(&chosen.cpus), why: Why { chosen, not } })
}

/// What CPUs that the user named cost.
pub(super) fn cost(cores: &Cores, wish: &Wish, cpus: &CpuSet) -> Cost {
    let mut by_core: BTreeMap<usize, usize> = BTreeMap::new();
    for core in cpus.iter().filter_map(|cpu| cores.index(cpu)) {
        *by_core.entry(core).or_default() += 1;
    }
    let parts: Vec<Part> = by_core.into_iter().map(|(core, threads)| Part { core, threads }).collect();
    Scale::new(cores, wish).cost(&parts)
}

/// A choice's cost, and what decides between equal ones: the faster cores, then the last ones, since the kernel prefers low
/// numbers for its own work.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Ranked {
    cost: Cost,
    speed: Reverse<u64>,
    first: Reverse<usize>,
}

impl Ranked {
    fn of(cores: &Cores, cost: Cost, parts: &[Part]) -> Self {
        let speed = parts.iter().map(|part| u64::from(cores.list()[part.core].speed)).sum();
        let first = parts.iter().map(|part| part.core).min().unwrap_or(0);
        Self { cost, speed: Reverse(speed), first: Reverse(first) }
    }
}

/// Whether the cores that the host is to keep are left, of the kind that the vCPUs get.
fn leaves_enough(cores: &Cores, wish: &Wish, parts: &[Part]) -> bool {
    if wish.leave == 0 {
        return true;
    }
    let of_kind = |core: &&Core| wish.rank(core) == 0;
    let all = cores.list().iter().filter(of_kind).count();
    let picked = parts.iter().map(|part| &cores.list()[part.core]).filter(of_kind).count();
    all - picked >= wish.leave
}

/// The best of a group: without the cores of other machines and of CPU 0, without one of the two, and with both. What none
/// of its cores is about makes no difference.
fn picks(cores: &Cores, wish: &Wish, group: &Group) -> Vec<Vec<Part>> {
    let has = |what: fn(&Core) -> bool| group.cores.iter().any(|index| what(&cores.list()[*index]));
    let choices = |there: bool| if there { &[true, false][..] } else { &[false] };
    let mut picks: Vec<Vec<Part>> = Vec::new();
    for spare_taken in choices(has(|core| core.taken)) {
        for spare_zero in choices(has(|core| core.zero)) {
            let fits = |core: &Core| !(core.taken && *spare_taken || core.zero && *spare_zero);
            let members: Vec<usize> = group.cores.iter().copied().filter(|index| fits(&cores.list()[*index])).collect();
            picks.extend(pick(cores, wish, &members, group.by_node));
        }
    }
    picks
}

/// The best of these cores, whole as long as that makes the number; `None` if they are too few. Those of the wanted kind
/// come first, and of these the ones that no other machine has; of others only what is missing.
fn pick(cores: &Cores, wish: &Wish, members: &[usize], by_node: bool) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = wish.count;
    for (rank, taken) in [0, 1, 2].into_iter().flat_map(|rank| [(rank, false), (rank, true)]) {
        let fits = |core: &Core| wish.rank(core) == rank && core.taken == taken;
        let pool: Vec<usize> = members.iter().copied().filter(|index| fits(&cores.list()[*index])).collect();
        let now = rest.min(threads(cores, &pool));
        if now == 0 {
            continue;
        }
        rest -= now;
        if by_node {
            let nodes = buckets(&pool, |index| cores.list()[index].node);
            let shares = shares(
                now,
                &nodes.iter().map(|node| threads(cores, node)).collect::<Vec<_>>(),
                width(cores, &pool),
                true,
            );
            for (node, share) in nodes.iter().zip(shares) {
                parts.extend(from_caches(cores, node, share));
            }
        } else {
            parts.extend(from_caches(cores, &pool, now));
        }
    }
    parts.sort_by_key(|part: &Part| part.core);
    (rest == 0).then_some(parts)
}

/// So many threads of these cores, from as few last-level caches as hold them.
fn from_caches(cores: &Cores, pool: &[usize], count: usize) -> Vec<Part> {
    let mut caches = buckets(pool, |index| cores.list()[index].domain);
    let has = |cache: &[usize], what: fn(&Core) -> bool| cache.iter().filter(|i| what(&cores.list()[**i])).count();
    caches.reverse();
    // CPU 0's is last among equals, and so gives the least.
    caches.sort_by_cached_key(|cache| {
        (Reverse(threads(cores, cache)), has(cache, |core| core.zero), Reverse(has(cache, |core| core.isolated)))
    });
    let mut held = 0;
    let fewest = caches.iter().position(|cache| {
        held += threads(cores, cache);
        held >= count
    });
    caches.truncate(fewest.map_or(0, |last| last + 1));
    let capacities: Vec<usize> = caches.iter().map(|cache| threads(cores, cache)).collect();
    let shares = shares(count, &capacities, width(cores, pool), false);
    caches.into_iter().zip(shares).flat_map(|(cache, share)| take(cores, cache, share)).collect()
}

/// So many threads of these cores, which share a last-level cache: the fastest first, then the last ones; cores that share a
/// level 2 cache together.
fn take(cores: &Cores, mut members: Vec<usize>, count: usize) -> Vec<Part> {
    let mut speeds: BTreeMap<usize, u32> = BTreeMap::new();
    for index in &members {
        let core = &cores.list()[*index];
        let speed = speeds.entry(core.module).or_default();
        *speed = core.speed.max(*speed);
    }
    members.sort_by_key(|index| {
        let core = &cores.list()[*index];
        let shunned = (core.taken, core.zero, !core.whole(), !core.isolated);
        (shunned, Reverse(speeds[&core.module]), Reverse(core.module), Reverse(core.speed), Reverse(*index))
    });
    let mut rest = count;
    let mut parts = Vec::new();
    for core in members {
        let threads = rest.min(cores.list()[core].threads.len());
        if threads == 0 {
            break;
        }
        rest -= threads;
        parts.push(Part { core, threads });
    }
    parts
}

/// How many of `count` threads come from each of these, of which each has so many. The same number from each if that works
/// out with whole cores of `width` threads. Else, if `evenly`, as near to it as can be; or the first ones whole, so that the
/// border lies where the host's is.
fn shares(count: usize, capacities: &[usize], width: usize, evenly: bool) -> Vec<usize> {
    let (parts, width) = (capacities.len().max(1), width.max(1));
    let equal = count / parts;
    if count.is_multiple_of(parts * width) && capacities.iter().all(|capacity| *capacity >= equal) {
        return vec![equal; capacities.len()];
    }
    let mut rest = count;
    let mut shares = vec![0; capacities.len()];
    if evenly {
        let units = count / width;
        for (n, (share, capacity)) in shares.iter_mut().zip(capacities).enumerate() {
            *share = rest.min(*capacity).min((units / parts + usize::from(n < units % parts)) * width);
            rest -= *share;
        }
    }
    for (share, capacity) in shares.iter_mut().zip(capacities) {
        let more = rest.min(capacity - *share);
        *share += more;
        rest -= more;
    }
    shares
}

/// The cores by what they have in common, in the order of that.
fn buckets<K: Ord>(pool: &[usize], of: impl Fn(usize) -> K) -> Vec<Vec<usize>> {
    let mut buckets: BTreeMap<K, Vec<usize>> = BTreeMap::new();
    for index in pool {
        buckets.entry(of(*index)).or_default().push(*index);
    }
    buckets.into_values().collect()
}

fn threads(cores: &Cores, pool: &[usize]) -> usize {
    pool.iter().map(|index| cores.list()[*index].threads.len()).sum()
}

/// How many threads the widest of these cores has.
fn width(cores: &Cores, pool: &[usize]) -> usize {
    pool.iter().map(|index| cores.list()[*index].threads.len()).max().unwrap_or(1)
}
