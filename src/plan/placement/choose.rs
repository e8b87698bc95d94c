//! Choosing CPUs for vCPUs if the machine file names none.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::cores::{Core, Cores};

/// What a choice keeps to; the strictest is tried first.
struct Rule {
    /// Only cores that the scheduler leaves alone.
    isolated: bool,
    /// Not the core of CPU 0.
    spare_zero: bool,
    /// All in one L3 domain.
    one_domain: bool,
}

const RULES: [Rule; 8] = {
    let mut rules = [const { Rule { isolated: true, spare_zero: true, one_domain: true } }; 8];
    let mut i = 0;
    while i < 8 {
        // A second L3 costs more than sharing CPU 0 with the kernel, so it is given up last.
        rules[i] = Rule { isolated: i < 4, one_domain: i % 4 < 2, spare_zero: i % 2 == 0 };
        i += 1;
    }
    rules
};

/// The CPUs for so many vCPUs in the order of their numbers, siblings adjacent; `None` if the host has too few to give
/// each its own and keep one.
pub(super) fn choose(cores: &Cores, count: usize) -> Option<Vec<u32>> {
    let threads: usize = cores.list().iter().map(|core| core.threads.len()).sum();
    if count == 0 || count >= threads {
        return None;
    }
    let smt = cores.list().iter().any(|core| core.threads.len() > 1);
    // Whole cores if the number allows, so that no host thread shares a core with the guest.
    let threads = if smt && count.is_multiple_of(2) { 2 } else { 1 };
    let need = count / threads;
    for rule in &RULES {
        let fits = |core: &&Core| {
            core.threads.len() >= threads
                && (threads == 1 || core.whole)
                && !core.efficient
                && (core.isolated || !rule.isolated)
                && !(core.zero && rule.spare_zero)
        };
        let candidates: Vec<&Core> = cores.list().iter().filter(fits).collect();
        let picked = match rule.one_domain {
            true => from_one_domain(cores, &candidates, need),
            false => from_many(cores, &candidates, need),
        };
        if let Some(picked) = picked {
            let cpus = picked.iter().flat_map(|core| core.threads.iter().take(threads).copied()).collect();
            return Some(cores.ordered(&cpus));
        }
    }
    Some(packed(cores, count))
}

type Domains<'a> = BTreeMap<usize, Vec<&'a Core>>;

fn by_domain<'a>(cores: &[&'a Core]) -> Domains<'a> {
    let mut domains = Domains::new();
    for core in cores {
        domains.entry(core.domain).or_default().push(core);
    }
    domains
}

/// The best domain that holds them all: the largest cache (games gain by it), not CPU 0's, the tightest fit.
fn from_one_domain<'a>(cores: &Cores, candidates: &[&'a Core], need: usize) -> Option<Vec<&'a Core>> {
    let zero = cores.core(0).map(|core| core.domain);
    by_domain(candidates)
        .into_iter()
        .filter(|(_, members)| members.len() >= need)
        .min_by_key(|(domain, members)| {
            (Reverse(cores.cache_size(*domain)), Some(*domain) == zero, members.len(), Reverse(*domain))
        })
        .map(|(_, members)| last(&members, need))
}

/// The fewest domains that hold them all, of one NUMA node if one can, the same number from each if that works out.
fn from_many<'a>(cores: &Cores, candidates: &[&'a Core], need: usize) -> Option<Vec<&'a Core>> {
    let mut nodes: BTreeMap<u32, Vec<&Core>> = BTreeMap::new();
    for core in candidates {
        nodes.entry(core.node).or_default().push(core);
    }
    let zero = cores.core(0).map(|core| core.node);
    let one_node = nodes
        .into_iter()
        .filter(|(_, members)| members.len() >= need)
        .min_by_key(|(node, members)| (Some(*node) == zero, members.len(), Reverse(*node)));
    let pool = match &one_node {
        Some((_, members)) => members.as_slice(),
        None if candidates.len() >= need => candidates,
        None => return None,
    };
    let mut domains: Vec<Vec<&Core>> = by_domain(pool).into_values().collect();
    domains.sort_by_key(|members| Reverse(members.len()));
    let mut held = 0;
    let fewest = domains.iter().position(|members| {
        held += members.len();
        held >= need
    })? + 1;
    domains.truncate(fewest);
    let share = need / fewest;
    if need.is_multiple_of(fewest) && domains.iter().all(|members| members.len() >= share) {
        return Some(domains.iter().flat_map(|members| last(members, share)).collect());
    }
    let mut rest = need;
    let picked = domains.iter().flat_map(|members| {
        let now = rest.min(members.len());
        rest -= now;
        last(members, now)
    });
    Some(picked.collect())
}

/// The last so many: the kernel prefers low numbers for its own work.
fn last<'a>(cores: &[&'a Core], count: usize) -> Vec<&'a Core> {
    cores[cores.len() - count..].to_vec()
}

/// If no rule can be kept: thread by thread, the better cores first.
fn packed(cores: &Cores, count: usize) -> Vec<u32> {
    let mut order: Vec<&Core> = cores.list().iter().collect();
    order.sort_by_key(|core| (!core.isolated, core.efficient, core.zero, core.node, core.domain));
    let cpus = order.iter().flat_map(|core| core.threads.iter().copied()).take(count).collect();
    cores.ordered(&cpus)
}
