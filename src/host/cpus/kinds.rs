//! Which kind of core each CPU is a thread of, where the kernel does not say it of all.

use std::collections::BTreeMap;

use super::types::{CoreKind, Cpus};
use crate::units::{CpuSet, Size};

/// From one core to the next slower one: how many of ten parts it has at most if they are of two kinds. Favoured cores of
/// one kind differ by a few in a hundred from one to the next, kinds by a fifth and more.
const STEP: (u64, u64) = (10, 12);
/// No processor has more kinds of cores.
const MOST_KINDS: usize = 3;

impl Cpus {
    /// Settles the kinds: what the kernel told of some is completed; if it told nothing, how fast the cores can be decides,
    /// and after that how they are made. Kinds that are settled already stay as they are.
    pub fn settle_kinds(&mut self) {
        if self.list.iter().all(|cpu| cpu.kind == CoreKind::Uniform) && !self.by_capacity() {
            self.by_cores();
        }
        let fast = |kind| kind == CoreKind::Performance;
        if self.list.iter().all(|cpu| fast(cpu.kind)) || !self.list.iter().any(|cpu| fast(cpu.kind)) {
            // One kind, whatever it is called.
            return self.list.iter_mut().for_each(|cpu| cpu.kind = CoreKind::Uniform);
        }
        let l3: CpuSet = self.caches.iter().filter(|cache| cache.level == 3).flat_map(|c| c.cpus.iter()).collect();
        let have_l3 = self.list.iter().any(|cpu| fast(cpu.kind) && l3.contains(cpu.id));
        for cpu in self.list.iter_mut().filter(|cpu| !fast(cpu.kind)) {
            // What is not among the performance cores is none, also where the kernel does not know its kind.
            let apart = cpu.kind == CoreKind::LowPower || have_l3 && !l3.contains(cpu.id);
            cpu.kind = if apart { CoreKind::LowPower } else { CoreKind::Efficiency };
        }
    }

    /// Tells kinds apart by clear steps from one core's speed to the next one's.
    fn by_capacity(&mut self) -> bool {
        let speeds: Option<Vec<u64>> = self.list.iter().map(|cpu| cpu.capacity.map(u64::from)).collect();
        let Some(mut speeds) = speeds else { return false };
        speeds.sort_unstable_by(|a, b| b.cmp(a));
        let steps = speeds.windows(2).filter(|pair| pair[0] * STEP.0 >= pair[1] * STEP.1);
        let borders: Vec<u64> = steps.map(|pair| pair[0]).collect();
        if borders.is_empty() || borders.len() >= MOST_KINDS {
            return false;
        }
        let is_fast = |capacity: Option<u32>| capacity.is_some_and(|capacity| u64::from(capacity) >= borders[0]);
        // A die with more cache runs slower for the sake of the cache, and is no weaker for that.
        let mut largest: [Option<Size>; 2] = [None; 2];
        for cache in self.caches.iter().filter(|cache| cache.level == 3) {
            for cpu in cache.cpus.iter().filter_map(|cpu| self.get(cpu)) {
                let slot = &mut largest[usize::from(is_fast(cpu.capacity))];
                *slot = (*slot).max(cache.size);
            }
        }
        if largest[0] > largest[1] {
            return false;
        }
        for cpu in &mut self.list {
            cpu.kind = if is_fast(cpu.capacity) { CoreKind::Performance } else { CoreKind::Efficiency };
        }
        true
    }

    /// Tells kinds apart by how cores are made: efficiency cores share a level 2 cache with other cores and have one thread.
    fn by_cores(&mut self) {
        let mut shares: BTreeMap<u32, bool> = BTreeMap::new();
        for cache in self.caches.iter().filter(|cache| cache.level == 2) {
            for cpu in cache.cpus.iter().filter_map(|cpu| self.get(cpu)) {
                shares.insert(cpu.id, !cache.cpus.is_subset(&cpu.siblings));
            }
        }
        let is_slow = |id: u32, siblings: usize| shares.get(&id).copied().unwrap_or(false) && siblings == 1;
        if self.list.iter().all(|cpu| is_slow(cpu.id, cpu.siblings.len()) || shares.get(&cpu.id) == Some(&false)) {
            for cpu in &mut self.list {
                let slow = is_slow(cpu.id, cpu.siblings.len());
                cpu.kind = if slow { CoreKind::Efficiency } else { CoreKind::Performance };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::types::{Cache, CacheKind, Cpu};
    use super::CoreKind::{Efficiency, LowPower, Performance, Uniform};
    use super::*;

    /// Cores of one thread, with these speeds and kinds.
    fn cores(of: &[(Option<u32>, CoreKind)]) -> Cpus {
        let list = (0..).zip(of).map(|(id, (capacity, kind))| Cpu {
            id,
            package: 0,
            die: 0,
            core: id,
            node: Some(0),
            siblings: CpuSet::from_iter([id]),
            kind: *kind,
            capacity: *capacity,
        });
        Cpus { list: list.collect(), ..Cpus::default() }
    }

    fn cache(level: u32, mib: u64, cpus: &str) -> Cache {
        Cache { level, kind: CacheKind::Unified, size: Some(Size::bytes(mib << 20)), cpus: cpus.parse().unwrap() }
    }

    fn kinds(mut cpus: Cpus) -> Vec<CoreKind> {
        cpus.settle_kinds();
        let once = cpus.clone();
        cpus.settle_kinds();
        assert_eq!(once, cpus, "settled kinds stay");
        cpus.list.iter().map(|cpu| cpu.kind).collect()
    }

    #[test]
    fn on_a_hybrid_what_is_no_performance_core_is_an_efficiency_core_of_either_kind() {
        let mut cpus = cores(&[(None, Performance), (None, Efficiency), (None, Uniform), (None, Uniform)]);
        assert_eq!(kinds(cpus.clone()), [Performance, Efficiency, Efficiency, Efficiency]);
        cpus.caches = vec![cache(3, 24, "0-1,3")];
        assert_eq!(kinds(cpus), [Performance, Efficiency, LowPower, Efficiency]);
        assert_eq!(kinds(cores(&[(None, Performance), (None, Performance)])), [Uniform; 2]);
    }

    #[test]
    fn favoured_cores_are_of_one_kind_and_steps_tell_kinds_apart() {
        let ranked: Vec<_> = (0..14).map(|n| (Some(166 + 5 * n), Uniform)).collect();
        assert_eq!(kinds(cores(&ranked)), [Uniform; 14]);
        let of = |speeds: &[u32]| cores(&speeds.iter().map(|speed| (Some(*speed), Uniform)).collect::<Vec<_>>());
        assert_eq!(kinds(of(&[5_200_000, 5_000_000, 3_900_000])), [Performance, Performance, Efficiency]);
        let mut three = of(&[65, 64, 45, 30]);
        three.caches = vec![cache(3, 24, "0-2")];
        assert_eq!(kinds(three), [Performance, Performance, Efficiency, LowPower]);
        // Each other than the next: these are no kinds.
        assert_eq!(kinds(of(&[100, 80, 60, 40])), [Uniform; 4]);
        let mut x3d = of(&[231, 231, 181, 181]);
        x3d.caches = vec![cache(3, 32, "0-1"), cache(3, 96, "2-3")];
        assert_eq!(kinds(x3d), [Uniform; 4]);
    }

    #[test]
    fn cores_of_one_thread_that_share_a_level_2_cache_are_efficiency_cores_beside_others() {
        let mut hybrid = cores(&[(None, Uniform); 6]);
        for id in [0, 1] {
            hybrid.list[id].siblings = "0-1".parse().unwrap();
        }
        hybrid.caches = vec![cache(2, 2, "0-1"), cache(2, 4, "2-5")];
        assert_eq!(kinds(hybrid), [Performance, Performance, Efficiency, Efficiency, Efficiency, Efficiency]);
        let mut pairs = cores(&[(None, Uniform); 4]);
        pairs.caches = vec![cache(2, 2, "0-1"), cache(2, 2, "2-3")];
        assert_eq!(kinds(pairs), [Uniform; 4]);
        let mut private = cores(&[(None, Uniform); 2]);
        private.caches = vec![cache(2, 1, "0"), cache(2, 1, "1")];
        assert_eq!(kinds(private), [Uniform; 2]);
    }
}
