//! Why the vCPUs have these CPUs and no others.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::cores::{Core, Cores};
use super::cost::{Cost, Part};
use crate::host::CoreKind;
use crate::units::{CpuSet, Size, counted};

/// Why the vCPUs have these CPUs: what they are, and the next best.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// The CPUs that were chosen.
    pub chosen: Candidate,
    /// The best of those that were not; `None` if there was no other choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not: Option<Rejected>,
}

/// CPUs that a choice was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The CPUs.
    pub cpus: CpuSet,
    /// Where they are: `one L3 cache of 32 MiB, NUMA node 0`.
    pub place: String,
    /// What was compared.
    pub cost: Cost,
}

/// CPUs that were not chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// The CPUs.
    #[serde(flatten)]
    pub candidate: Candidate,
    /// In which respect they are worse than the chosen ones.
    pub because: String,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.chosen.cpus.numbered(), self.chosen.place)?;
        match &self.not {
            Some(not) => write!(f, "; not {} ({}), which {}", not.candidate.cpus, not.candidate.place, not.because),
            None => Ok(()),
        }
    }
}

impl Candidate {
    pub(super) fn of(cores: &Cores, parts: &[Part], cost: Cost) -> Self {
        let threads = parts.iter().flat_map(|part| cores.list()[part.core].threads.iter().take(part.threads));
        Self { cpus: threads.copied().collect(), place: place(cores, parts), cost }
    }
}

/// Where these parts of cores are.
fn place(cores: &Cores, parts: &[Part]) -> String {
    let of = |part: &Part| &cores.list()[part.core];
    let mut words = Vec::new();
    let mixed = cores.list().iter().any(Core::efficient);
    let mut kinds: BTreeMap<CoreKind, usize> = BTreeMap::new();
    for part in parts.iter().filter(|_| mixed) {
        *kinds.entry(of(part).kind).or_default() += 1;
    }
    words.extend(kinds.into_iter().map(|(kind, n)| {
        let word = match kind {
            CoreKind::Uniform | CoreKind::Performance => "performance core",
            CoreKind::Efficiency => "efficiency core",
            CoreKind::LowPower => "low-power core",
        };
        counted(n, word, &format!("{word}s"))
    }));
    let domains: BTreeSet<usize> = parts.iter().map(|part| of(part).domain).collect();
    let mut caches: BTreeMap<Option<Size>, usize> = BTreeMap::new();
    for domain in domains.iter().filter_map(|domain| cores.domains().get(*domain)).filter(|domain| domain.cache) {
        *caches.entry(domain.size).or_default() += 1;
    }
    words.extend(caches.into_iter().map(|(size, n)| {
        let caches = if n == 1 { "one L3 cache".to_owned() } else { format!("{n} L3 caches") };
        size.map_or_else(|| caches.clone(), |size| format!("{caches} of {}", size.about()))
    }));
    let nodes: CpuSet = parts.iter().filter_map(|part| of(part).node).collect();
    let all: BTreeSet<u32> = cores.list().iter().filter_map(|core| core.node).collect();
    if all.len() > 1 && !nodes.is_empty() {
        words.push(format!("NUMA node{} {nodes}", if nodes.len() == 1 { "" } else { "s" }));
    }
    if words.is_empty() {
        return counted(parts.len(), "core", "cores");
    }
    words.join(", ")
}
