//! What the vCPUs share with the rest of the host and with each other, wherever something better could be had.

use super::super::Severity::Soft;
use super::super::draft::Draft;
use super::choose;
use super::cores::Core;
use super::cost::{Cost, Zero};
use super::found::Found;
use crate::machine::Numa;
use crate::units::{CpuSet, counted};

/// What could be better, term by term.
struct Neighbours<'a, 'd> {
    draft: &'a mut Draft<'d>,
    found: &'a Found<'a>,
    /// What the vCPUs' CPUs cost.
    have: Cost,
    /// What others would cost, if the user named the CPUs.
    instead: Option<(Cost, String)>,
    /// The field that the CPUs follow from.
    field: &'static str,
}

/// Says what the vCPUs share.
pub(super) fn check(draft: &mut Draft, found: &Found, vcpus: &CpuSet) {
    let by_user = draft.machine.cpu.pin.is_some();
    let have = choose::cost(found.cores, found.wish, vcpus);
    // Who has the guest know the host's nodes wants several.
    let of_nodes = draft.machine.memory.numa == Some(Numa::Guest);
    let own = found.own.filter(|own| by_user && !(of_nodes && own.why.chosen.cost.nodes < have.nodes));
    let instead = own.map(|own| {
        let cpus: CpuSet = own.cpus.iter().copied().collect();
        (own.why.chosen.cost, format!("write `cpu.pin: \"{cpus}\"`"))
    });
    let field = if by_user { "cpu.pin" } else { "cpu.vcpus" };
    let mut neighbours = Neighbours { draft, found, have, instead, field };
    neighbours.siblings(vcpus);
    neighbours.caches();
    neighbours.nodes();
    neighbours.kinds();
    neighbours.zero();
    neighbours.devices();
    neighbours.machines(vcpus);
    neighbours.isolated(vcpus);
}

impl Neighbours<'_, '_> {
    /// Says no, if the user's CPUs could be better in this respect (the remedy then names the better ones), or if fewer vCPUs
    /// would be, as `fewer` says.
    fn no(&mut self, key: &str, detail: String, term: impl Fn(&Cost) -> u32, fewer: Option<String>) {
        let remedy = match &self.instead {
            Some((cost, write)) => (term(cost) < term(&self.have)).then(|| write.clone()),
            // There are too few other CPUs.
            None if self.field == "cpu.pin" => None,
            None => fewer,
        };
        if let Some(remedy) = remedy {
            self.draft.no(key, Soft, detail, &remedy);
            self.draft.about(self.field);
        }
    }

    /// The number of vCPUs that the cores of one kind hold at best, in one of the groups that `of` tells apart.
    fn most<K: Ord>(&self, of: impl Fn(&Core) -> K) -> usize {
        let mut groups = std::collections::BTreeMap::<K, usize>::new();
        for core in self.found.cores.list().iter().filter(|core| self.found.wish.rank(core) == 0) {
            *groups.entry(of(core)).or_default() += core.threads.len();
        }
        groups.into_values().max().unwrap_or(0)
    }

    fn siblings(&mut self, vcpus: &CpuSet) {
        let (host, cores) = (&self.draft.host.cpus, self.found.cores);
        let split: CpuSet = vcpus
            .iter()
            .filter_map(|cpu| host.get(cpu))
            .flat_map(|cpu| cpu.siblings.iter())
            .filter(|cpu| host.online.contains(*cpu) && !vcpus.contains(*cpu))
            .collect();
        if split.is_empty() {
            return;
        }
        let detail =
            format!("the host keeps {}, SMT siblings of the guest's CPUs: they slow each other", split.numbered());
        let width = vcpus.iter().filter_map(|cpu| cores.core(cpu)).map(|core| core.threads.len()).max().unwrap_or(1);
        let odd = vcpus.len() % width.max(1);
        let even = match width {
            2 => "make the number of `cpu.vcpus` even".to_owned(),
            _ => format!("make `cpu.vcpus` a multiple of {width}"),
        };
        if self.instead.as_ref().is_none_or(|(cost, _)| cost.lost >= self.have.lost) && self.field == "cpu.pin" {
            // No better ones of the same number: whole cores are a matter of the number.
            self.draft.no("cpu.siblings", Soft, detail, "give the guest all threads of each core");
            return self.draft.about(self.field);
        }
        self.no("cpu.siblings", detail, |cost| cost.lost, (odd > 0).then_some(even));
    }

    fn caches(&mut self) {
        let caches = self.have.caches;
        if caches < 2 {
            return;
        }
        let detail = format!("the vCPUs are spread over {caches} last-level caches: data that they share moves slowly");
        // Below a cache of one core nothing is shared.
        let widest = self.found.cores.list().iter().map(|core| core.threads.len()).max().unwrap_or(1);
        let most = Some(self.most(|core| core.domain)).filter(|most| *most > widest);
        let fewer = most.map(|most| format!("one cache has {}: {}", counted(most, "CPU", "CPUs"), at_most(most)));
        self.no("cpu.l3", detail, |cost| cost.caches, fewer);
    }

    fn nodes(&mut self) {
        let nodes = self.have.nodes;
        if nodes < 2 {
            return;
        }
        let detail = format!("the vCPUs are spread over {nodes} NUMA nodes");
        let fewer = match self.most(|core| core.node) {
            most if most >= self.found.wish.count => {
                "no node has so much memory of its own: lower `memory.size`".to_owned()
            }
            most => format!("one node has {}: {}", counted(most, "CPU", "CPUs"), at_most(most)),
        };
        self.no("cpu.nodes", detail, |cost| cost.nodes, Some(fewer));
    }

    fn kinds(&mut self) {
        let others = self.have.other_kind as usize;
        let list = self.found.cores.list();
        if others == 0 || !list.iter().any(Core::efficient) {
            return;
        }
        let cores = self.found.placement.vcpu_set();
        let kinds: std::collections::BTreeSet<bool> =
            cores.iter().filter_map(|cpu| self.found.cores.core(cpu)).map(Core::efficient).collect();
        if kinds.len() < 2 {
            return;
        }
        let detail =
            "the vCPUs are on performance and on efficiency cores, which the guest can't tell apart".to_owned();
        let most = Some(self.most(|_| ())).filter(|most| *most > 0);
        let fewer =
            most.map(|most| format!("the cores of one kind have {}: {}", counted(most, "CPU", "CPUs"), at_most(most)));
        self.no("cpu.kinds", detail, |cost| cost.other_kind, fewer);
    }

    fn zero(&mut self) {
        if self.have.zero != Zero::Core {
            return;
        }
        let usual = "a vCPU runs on CPU 0's core, where most of the kernel's own work and interrupts are";
        let zero = self.found.cores.list().iter().find(|core| core.zero).map_or(1, |core| core.threads.len());
        // So many are on the other cores of the kind; if there are enough of them, CPU 0's has been taken for its cache.
        let (count, others) = (self.found.wish.count, self.most(|_| ()).saturating_sub(zero));
        let rest = if others < count { others } else { count.saturating_sub(zero) };
        let mut fewer = format!("`cpu.vcpus: {rest}` leaves that core to the host");
        let not = self.found.own.and_then(|own| own.why.not.as_ref());
        let detail = match not.map(|not| not.candidate.cost.weaker && !self.have.weaker && self.have.left_over == 0) {
            Some(true) => {
                fewer.push_str(", `cpu.prefer: Clock` takes the other cache");
                format!("{usual}: the guest has all of the largest L3 cache")
            }
            _ => usual.to_owned(),
        };
        self.no("cpu.zero", detail, |cost| u32::from(cost.zero == Zero::Core), Some(fewer).filter(|_| rest > 0));
    }

    fn devices(&mut self) {
        let (devices, memory) = (&self.found.wish.devices, self.found.wish.memory);
        if devices.is_empty() || memory.nodes.len() < 2 {
            return;
        }
        let cpus = self.found.placement.vcpu_set();
        let nodes: CpuSet = cpus.iter().filter_map(|cpu| self.found.cores.core(cpu)?.node).collect();
        let at: CpuSet = devices.iter().copied().collect();
        if nodes.is_subset(&at) {
            return self.draft.yes(
                "cpu.device_node",
                Soft,
                format!("the vCPUs and the guest's devices are on NUMA node {at}"),
            );
        }
        let detail = format!(
            "the vCPUs are on NUMA node {nodes}, the guest's devices on node {at}: what the two exchange takes a longer way"
        );
        let fewer = "lower `cpu.vcpus` or `memory.size`, so that the devices' node holds the guest".to_owned();
        self.no("cpu.device_node", detail, |cost| cost.from_devices, Some(fewer));
    }

    fn machines(&mut self, vcpus: &CpuSet) {
        let host = self.draft.host;
        let shared = host.machines.iter().map(|(name, cpus)| (name, cpus.intersection(vcpus)));
        let shared: Vec<String> = shared
            .filter(|(_, cpus)| !cpus.is_empty())
            .map(|(name, cpus)| format!("{} with the machine `{name}`", cpus.numbered()))
            .collect();
        if !shared.is_empty() {
            let detail = format!("the vCPUs share {}, which runs: both wait for each other", shared.join(", "));
            let fewer = "lower `cpu.vcpus`, or end the other machine".to_owned();
            self.no("cpu.machines", detail, |cost| cost.of_others, Some(fewer));
        }
    }

    /// Isolated CPUs that could hold the guest, and were not chosen since they are worse otherwise.
    fn isolated(&mut self, vcpus: &CpuSet) {
        let isolated = self.found.cores.isolated();
        if self.field == "cpu.pin" || vcpus.is_subset(&isolated) || isolated.len() < vcpus.len() {
            return;
        }
        let cost = choose::cost(self.found.cores, self.found.wish, &isolated);
        let why = cost.worse_than(&self.have, self.found.wish.prefer);
        let detail = format!("the vCPUs are on {} and not on the isolated {isolated}, which {why}", vcpus.numbered());
        let remedy =
            "`cpu.pin` with isolated CPUs takes them all the same; isolate CPUs of one NUMA node and one cache";
        self.draft.no("cpu.isolated", Soft, detail, remedy);
        self.draft.about("cpu.vcpus");
    }
}

/// How a guest of so many vCPUs is written.
fn at_most(vcpus: usize) -> String {
    format!("write `cpu: (vcpus: {vcpus})`, or fewer")
}
