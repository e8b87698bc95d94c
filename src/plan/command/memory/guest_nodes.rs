//! The guest's own NUMA nodes: one for each node of the host that vCPUs are on, with its vCPUs, the memory that is near them,
//! and the host's distances. Source: QEMU's `qemu-options.hx`, `-numa`.

use super::super::super::Placement;
use super::super::super::Severity::Hard;
use super::super::super::draft::{Draft, by_fact};
use super::piece::Piece;
use crate::machine::{Numa, Pages};
use crate::qemu::command::QemuOption;
use crate::units::{CpuSet, Origin, Size, counted};

const FIELD: &str = "memory.numa";
/// QEMU's for a node that cannot be reached is the next.
const FARTHEST: u32 = 254;

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct GuestNode {
    /// The host's node.
    pub node: u32,
    /// Its first and its last vCPU.
    pub vcpus: (usize, usize),
    /// How much memory it has.
    pub size: Size,
}

/// Whether the guest has nodes of its own, so that the board has no memory of its own.
pub(in super::super) fn any(draft: &Draft, placement: &Placement) -> bool {
    matches!(decide(draft, placement), Some(Ok(_)))
}

/// Writes them, if the machine asks for them, and says what each has; an empty list if they cannot be had, or nobody asks.
pub(super) fn write(draft: &mut Draft, placement: &Placement) -> Vec<Piece> {
    let nodes = match decide(draft, placement) {
        None => return Vec::new(),
        Some(Ok(nodes)) => nodes,
        Some(Err((detail, remedy))) => {
            draft.no(FIELD, Hard, detail, &remedy);
            draft.about(FIELD);
            return Vec::new();
        }
    };
    let origin = draft.file(FIELD);
    let mut words = Vec::new();
    for (id, GuestNode { node, vcpus: (first, last), size }) in nodes.iter().enumerate() {
        let cpus = if first == last { first.to_string() } else { format!("{first}-{last}") };
        let many = if first == last { "" } else { "s" };
        words.push(format!("vCPU{many} {cpus} and {size} of node {node}"));
        let option = QemuOption::keys("-numa", Some("node"), origin.clone()).with("nodeid", id.to_string());
        draft.push(option.with("cpus", cpus).with("memdev", backend(id)));
    }
    distances(draft, &nodes);
    draft.yes(FIELD, Hard, format!("the guest has NUMA nodes: {}", words.join("; ")));
    let piece = |(id, node): (usize, &GuestNode)| Piece {
        id: backend(id),
        size: node.size,
        nodes: CpuSet::from_iter([node.node]),
    };
    nodes.iter().enumerate().map(piece).collect()
}

/// The id of a node's memory.
fn backend(id: usize) -> String {
    format!("ram{id}")
}

/// The distances, if the host knows them.
fn distances(draft: &mut Draft, nodes: &[GuestNode]) {
    let memory = &draft.host.memory;
    let known = |id: u32| memory.nodes.iter().any(|node| node.id == id && !node.distances.is_empty());
    if !nodes.iter().all(|node| known(node.node)) {
        return;
    }
    let origin: Origin = by_fact("how far the host's nodes are from each other");
    let mut options = Vec::new();
    for (src, a) in nodes.iter().enumerate() {
        for (dst, b) in nodes.iter().enumerate().filter(|(dst, _)| *dst != src) {
            let far = memory.distance(a.node, b.node).clamp(11, FARTHEST);
            let option = QemuOption::keys("-numa", Some("dist"), origin.clone()).with("src", src.to_string());
            options.push(option.with("dst", dst.to_string()).with("val", far.to_string()));
        }
    }
    options.into_iter().for_each(|option| draft.push(option));
}

/// The nodes, or why there can be none and what to do; `None` if nobody asks.
fn decide(draft: &Draft, placement: &Placement) -> Option<Result<Vec<GuestNode>, (String, String)>> {
    let machine = draft.machine;
    (machine.memory.numa == Some(Numa::Guest)).then(|| {
        let leave = format!("leave `{FIELD}` out");
        let no = |detail: String, remedy: &str| Err((detail, format!("{remedy}, or {leave}")));
        if !placement.pinned {
            let detail =
                "a guest's NUMA node has the vCPUs of a node of the host, and here not each vCPU has a CPU of its own";
            return no(detail.to_owned(), "use fewer vCPUs, or name one CPU for each in `cpu.pin`");
        }
        let cpus = placement.vcpus.iter().map(|cpus| draft.host.cpus.get(cpus.iter().next()?)?.node);
        let Some(of_vcpus) = cpus.collect::<Option<Vec<u32>>>() else {
            return no("the NUMA node of a vCPU's CPU is not known".to_owned(), "name other CPUs in `cpu.pin`");
        };
        let mut nodes: Vec<GuestNode> = Vec::new();
        for (vcpu, node) in of_vcpus.iter().enumerate() {
            match nodes.last_mut() {
                Some(last) if last.node == *node => last.vcpus.1 = vcpu,
                _ => nodes.push(GuestNode { node: *node, vcpus: (vcpu, vcpu), size: Size::bytes(0) }),
            }
        }
        let different: CpuSet = nodes.iter().map(|node| node.node).collect();
        if different.len() < nodes.len() {
            let detail =
                format!("in the order of `cpu.pin` the vCPUs of the NUMA nodes {different} do not follow each other");
            return no(detail, "name the CPUs node by node, or as one text");
        }
        if nodes.len() < 2 {
            let detail = format!("all vCPUs are on NUMA node {different}, so there is nothing to tell the guest");
            return match draft.host.memory.nodes.len() {
                0 | 1 => Err((detail, leave)),
                _ => no(detail, "name CPUs of several nodes in `cpu.pin`"),
            };
        }
        let memory = &draft.host.memory;
        let gives = |id: u32| memory.nodes.iter().any(|node| node.id == id && memory.gives(node));
        if let Some(none) = nodes.iter().find(|node| !gives(node.node)) {
            let detail = format!("vCPUs are on NUMA node {}, which gives this guest no memory", none.node);
            return no(detail, "name CPUs of other nodes in `cpu.pin`");
        }
        let size = machine.memory.size;
        if !share(&mut nodes, size, machine.memory.pages) {
            let detail = format!("{size} are too few for {}", counted(nodes.len(), "node", "nodes"));
            return no(detail, "raise `memory.size`");
        }
        Ok(nodes)
    })
}

/// Gives each node memory for its vCPUs, in whole pages; whether each gets some.
fn share(nodes: &mut [GuestNode], size: Size, pages: Pages) -> bool {
    let unit = match pages {
        Pages::Huge(page) => page.as_bytes().max(1),
        _ if size.as_bytes().is_multiple_of(2 * Size::MIB) => 2 * Size::MIB,
        _ => Size::MIB,
    };
    let count = |node: &GuestNode| (node.vcpus.1 - node.vcpus.0 + 1) as u64;
    let (all, vcpus) = (size.as_bytes() / unit, nodes.iter().map(count).sum::<u64>());
    let mut rest = all;
    for node in nodes.iter_mut() {
        let units = (u128::from(all) * u128::from(count(node)) / u128::from(vcpus)) as u64;
        rest -= units;
        node.size = Size::bytes(units * unit);
    }
    // What is left over is less than one unit a node.
    let left = usize::try_from(rest).unwrap_or(usize::MAX);
    nodes.iter_mut().take(left).for_each(|node| node.size = Size::bytes(node.size.as_bytes() + unit));
    nodes.iter().all(|node| node.size.as_bytes() > 0)
}
