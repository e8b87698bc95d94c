//! The guest's memory: its size, the backend that holds it, and the huge pages that it needs.

use serde_json::{Value, json};

use super::super::draft::{Draft, by_default, by_fact};
use super::super::{Placement, Severity};
use super::devices::shares;
use crate::change::HugePages;
use crate::host::Node;
use crate::machine::Pages;
use crate::qemu::Role;
use crate::qemu::command::QemuOption;
use crate::units::Origin;
use crate::units::{CpuSet, Size};

/// Id of the object that holds the guest's memory.
pub(super) const BACKEND: &str = "ram0";

/// More threads clear pages no faster: the memory's bandwidth is used up.
const PREALLOC_THREADS: usize = 8;

/// `-m`, the backend, and the host's huge pages.
pub(super) fn write(draft: &mut Draft, placement: &Placement) {
    let memory = &draft.machine.memory;
    let bytes = memory.size.as_bytes();
    let written = if bytes.is_multiple_of(Size::MIB) { format!("{}M", bytes / Size::MIB) } else { format!("{bytes}B") };
    draft.push(QemuOption::text("-m", written, draft.file("memory.size")));

    let (nodes, why) = nodes(draft, placement);
    let shared = memory.shared.unwrap_or(memory.pages != Pages::Normal || shares::need_shared_memory(draft));
    let mut props: Vec<(&'static str, Value)> = vec![("size", bytes.into())];
    let mut role = Role::Plain;
    let (kind, mut origin) = match memory.pages {
        // Anonymous memory, which the kernel makes transparent huge pages of.
        Pages::Normal if !shared => ("memory-backend-ram", by_default("anonymous memory, with transparent huge pages")),
        Pages::Normal => {
            let why = "virtiofsd must be able to map it";
            ("memory-backend-memfd", draft.file_or(memory.shared.is_some(), "memory.shared", why))
        }
        Pages::Huge(size) => {
            props.push(("hugetlb", true.into()));
            props.push(("hugetlbsize", size.as_bytes().into()));
            // A page that is missing shows now, not when the guest first touches it.
            props.push(("prealloc", true.into()));
            props.push(("prealloc-threads", placement.vcpus.len().clamp(1, PREALLOC_THREADS).into()));
            role = Role::Touches(["prealloc", "prealloc-threads"].map(str::to_owned).to_vec());
            ("memory-backend-memfd", draft.file("memory.pages"))
        }
    };
    if kind == "memory-backend-memfd" {
        props.push(("share", shared.into()));
    }
    if !nodes.is_empty() {
        let list: Vec<u32> = nodes.iter().collect();
        props.push(("host-nodes", json!(list)));
        props.push(("policy", "bind".into()));
        if kind == "memory-backend-ram" {
            origin = why.clone();
        }
    }
    draft.object_of_role(kind, BACKEND, props, origin, role);
    match memory.pages {
        Pages::Normal => fits(draft, memory.size, &nodes),
        Pages::Huge(page) => {
            // What no host could hold is said once, not node by node.
            if draft.host.memory.total.is_some_and(|total| memory.size > total) {
                fits(draft, memory.size, &CpuSet::new());
            }
            huge_pages(draft, memory.size, page, &nodes);
        }
    }
}

/// The NUMA nodes that the memory comes from; none if the host has but one and the user names none.
fn nodes(draft: &mut Draft, placement: &Placement) -> (CpuSet, Origin) {
    let known: CpuSet = draft.host.memory.nodes.iter().map(|node| node.id).collect();
    if let Some(asked) = &draft.machine.memory.nodes {
        let missing = asked.difference(&known);
        if !missing.is_empty() && !known.is_empty() {
            let detail = format!("`memory.nodes` names {missing}; this host has the NUMA nodes {known}");
            draft.no("memory.nodes", Severity::Hard, detail, "correct it, or leave it out");
            draft.about("memory.nodes");
        }
        return (asked.clone(), draft.file("memory.nodes"));
    }
    if known.len() < 2 || !placement.pinned {
        return (CpuSet::new(), by_default("the host has one NUMA node"));
    }
    let cpus = placement.vcpu_set();
    let near = draft.host.memory.nodes.iter().filter(|node| !node.cpus.intersection(&cpus).is_empty());
    let near: CpuSet = near.map(|node| node.id).collect();
    let seen = format!("the vCPUs are on NUMA node {near} of {known}");
    (near, by_fact(seen))
}

/// Whether so much memory is there, in the given nodes or in all.
fn fits(draft: &mut Draft, size: Size, nodes: &CpuSet) {
    let memory = &draft.host.memory;
    let of_nodes = |amount: fn(&Node) -> Option<Size>| {
        let amounts = memory.nodes.iter().filter(|node| nodes.contains(node.id)).map(amount);
        amounts.map(|size| size.map(Size::as_bytes)).sum::<Option<u64>>().map(Size::bytes)
    };
    let (total, available) = match nodes.is_empty() {
        true => (memory.total, memory.available),
        false => (of_nodes(|node| node.total), of_nodes(|node| node.free)),
    };
    let place = if nodes.is_empty() { "this host".to_owned() } else { format!("NUMA node {nodes}") };
    match (total, available) {
        (Some(total), _) if size > total => {
            let detail = format!("the guest needs {size}, but {place} has {} MiB in all", total.as_mib());
            draft.no("memory.fits", Severity::Hard, detail, "lower `memory: (size: …)`");
            draft.about("memory.size");
        }
        (_, Some(available)) if size > available => {
            let short = size.as_bytes() - available.as_bytes();
            let detail = format!(
                "{place} has {} MiB available, {} MiB too few for the guest",
                available.as_mib(),
                short.div_ceil(Size::MIB)
            );
            draft.no("memory.fits", Severity::Soft, detail, "end other programs, or lower `memory: (size: …)`");
            draft.about("memory.size");
        }
        (_, Some(available)) => {
            let detail = format!("{size} of {} MiB available", available.as_mib());
            draft.yes("memory.fits", Severity::Hard, detail);
        }
        _ => {
            draft.unknown("memory.fits", Severity::Hard, format!("vfio-run could not read how much memory {place} has"))
        }
    }
}

/// The huge pages that must be free on each node, and whether the node can hold them.
fn huge_pages(draft: &mut Draft, size: Size, page: Size, nodes: &CpuSet) {
    let (bytes, page_bytes) = (size.as_bytes(), page.as_bytes());
    if page_bytes == 0 || !bytes.is_multiple_of(page_bytes) {
        let detail = format!("the guest's {size} are not a whole number of {page} pages");
        draft.no("memory.pages", Severity::Hard, detail, &format!("make `memory.size` a multiple of {page}"));
        draft.about("memory.size");
        return;
    }
    let host = &draft.host.memory.nodes;
    let on: Vec<u32> = match nodes.is_empty() {
        true => host.first().map(|node| node.id).into_iter().collect(),
        false => nodes.iter().collect(),
    };
    let on = if on.is_empty() { vec![0] } else { on };
    let total = bytes / page_bytes;
    let share = total / on.len() as u64;
    for (index, node) in on.iter().enumerate() {
        // Pages that don't divide evenly come from the first nodes.
        let pages = share + u64::from((index as u64) < total % on.len() as u64);
        let facts = draft.host.memory.nodes.iter().find(|facts| facts.id == *node).cloned();
        check_node(draft, *node, facts.as_ref(), page, pages);
        draft.change(HugePages { node: *node, size: page, pages }, draft.file("memory.pages"));
    }
}

fn check_node(draft: &mut Draft, node: u32, facts: Option<&Node>, page: Size, pages: u64) {
    let key = format!("memory.hugepages.node{node}");
    let Some(facts) = facts.filter(|facts| !facts.huge_pages.is_empty()) else {
        return draft.unknown(
            &key,
            Severity::Hard,
            format!("vfio-run could not read what huge pages NUMA node {node} has"),
        );
    };
    let Some(pool) = facts.huge_pages.iter().find(|pool| pool.size == page) else {
        let sizes: Vec<String> = facts.huge_pages.iter().map(|pool| pool.size.to_string()).collect();
        let detail = format!("this kernel has no huge pages of {page}; it has {}", sizes.join(" and "));
        let remedy = format!("write `pages: Huge(\"{}\")`", sizes.first().map_or("2 MiB", String::as_str));
        draft.no("memory.pages", Severity::Hard, detail, &remedy);
        return draft.about("memory.pages");
    };
    let wanted = pages * page.as_bytes();
    let missing = pages.saturating_sub(pool.free) * page.as_bytes();
    let at_boot = format!(
        "reserve them at boot (kernel command line: `hugepagesz={} hugepages={pages}`), lower `memory.size`, or write `pages: Normal`",
        page.to_string().replace(" ", "").replace("iB", ""),
    );
    match (facts.total, facts.free) {
        _ if missing > 0 && draft.host.process.uid != 0 => {
            let detail = format!(
                "the guest needs {pages} free pages of {page}, but {} are free, and only root can reserve more",
                pool.free
            );
            draft.no(&key, Severity::Hard, detail, &at_boot);
            draft.about("memory.pages");
        }
        (Some(total), _) if wanted > total.as_bytes() => {
            let detail =
                format!("{pages} pages of {page} are more than the {} MiB of NUMA node {node}", total.as_mib());
            draft.no(&key, Severity::Hard, detail, "lower `memory.size`, or name more nodes in `memory.nodes`");
            draft.about("memory.size");
        }
        (_, Some(free)) if missing > free.as_bytes() => {
            let detail = format!(
                "{pages} pages of {page} on NUMA node {node}: {} are free, and the node has {} MiB of free memory, {} MiB too little unless the kernel drops caches",
                pool.free,
                free.as_mib(),
                (missing - free.as_bytes()).div_ceil(Size::MIB)
            );
            draft.no(&key, Severity::Soft, detail, &at_boot);
            draft.about("memory.pages");
        }
        _ => {
            let detail =
                format!("{pages} pages of {page} on NUMA node {node}, {} of them there already", pool.free.min(pages));
            draft.yes(&key, Severity::Hard, detail);
        }
    }
}
