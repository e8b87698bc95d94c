//! The guest's memory: its size, the backend that holds it, and the huge pages that it needs.

mod guest_nodes;
mod huge_pages;
mod piece;
#[cfg(test)]
mod tests;

use serde_json::{Value, json};

use super::super::draft::{Draft, by_default, by_fact};
use super::super::{GuestMemory, MemoryPart, Placement, Severity};
use super::devices::shares;
use crate::change::{Compare, HugePages, Setting, Writes};
use crate::host::{Memory, Node};
use crate::machine::{Numa, Pages};
use crate::qemu::Role;
use crate::qemu::command::QemuOption;
use crate::units::{CpuSet, Origin, Size};
use huge_pages::{Judged, by_node, judge, key, parts};
use piece::Piece;

pub(super) use guest_nodes::any as guest_has_nodes;

/// Id of the object that holds the guest's memory.
pub(super) const BACKEND: &str = "ram0";

/// The huge pages of [`Pages::Auto`].
const AUTO: Size = Size::bytes(2 * Size::MIB);

/// `-m`, the backend, and the host's huge pages.
pub(super) fn write(draft: &mut Draft, placement: &Placement) {
    let bytes = draft.machine.memory.size.as_bytes();
    let written = if bytes.is_multiple_of(Size::MIB) { format!("{}M", bytes / Size::MIB) } else { format!("{bytes}B") };
    draft.push(QemuOption::text("-m", written, draft.file("memory.size")));
    lock(draft);
    let mut pieces = guest_nodes::write(draft, placement);
    let mut why = draft.file("memory.numa");
    if pieces.is_empty() {
        let (nodes, of_nodes) = nodes(draft, placement);
        why = of_nodes;
        pieces.push(Piece { id: BACKEND.to_owned(), size: draft.machine.memory.size, nodes });
    }
    match draft.machine.memory.pages {
        Pages::Normal => normal(draft, &pieces, &why),
        Pages::Huge(page) => huge(draft, page, &pieces),
        Pages::Auto => huge_or_normal(draft, &pieces, &why),
    }
}

/// Memory of normal pages.
fn normal(draft: &mut Draft, pieces: &[Piece], why: &Origin) {
    let written = draft.machine.memory.shared;
    fits(draft, pieces);
    let needed = shares::need_shared_memory(draft);
    if written != Some(false) && !draft.machine.pci.is_empty() && early(draft, written == Some(true) || needed) {
        let why = "devices in `pci` reach all of it, so it is cleared before anything is taken from the host";
        let origin = draft.file_or(written.is_some(), "memory.shared", why);
        not_merged(draft);
        for Piece { id, size, nodes } in pieces {
            let parts = vec![MemoryPart { size: *size, nodes: nodes.clone() }];
            filled(draft, id, GuestMemory { pages: None, or_normal: false, parts }, origin.clone());
        }
        return;
    }
    // Anonymous memory, which the kernel makes transparent huge pages of, unless a helper must be able to map it.
    let shared = written.unwrap_or(needed);
    let kind = if shared { "memory-backend-memfd" } else { "memory-backend-ram" };
    let origin = match shared {
        true => draft.file_or(written.is_some(), "memory.shared", "virtiofsd must be able to map it"),
        false => by_default("anonymous memory, with transparent huge pages"),
    };
    if shared {
        not_merged(draft);
    }
    for Piece { id, size, nodes } in pieces {
        let mut props: Vec<(&'static str, Value)> = vec![("size", size.as_bytes().into())];
        let mut origin = origin.clone();
        if shared {
            props.push(("share", true.into()));
        }
        if !nodes.is_empty() {
            let list: Vec<u32> = nodes.iter().collect();
            let policy = if list.len() > 1 { "interleave" } else { "bind" };
            props.push(("host-nodes", json!(list)));
            props.push(("policy", policy.into()));
            if !shared {
                origin = why.clone();
            }
        }
        draft.object(kind, id, props, origin);
    }
}

/// Memory of huge pages, or none.
fn huge(draft: &mut Draft, page: Size, pieces: &[Piece]) {
    let size = draft.machine.memory.size;
    // What no host could hold is said once, not node by node.
    if draft.host.memory.total.is_some_and(|total| size > total) {
        fits_in(draft, size, &CpuSet::new());
    }
    let origin = draft.file("memory.pages");
    let Some(shares) = by_node(&draft.host.memory, pieces, page) else {
        let detail = format!("the guest's {size} are not a whole number of {page} pages");
        draft.no("memory.pages", Severity::Hard, detail, &format!("make `memory.size` a multiple of {page}"));
        return draft.about("memory.size");
    };
    for (node, pages) in shares.iter().flatten() {
        match judge(draft, *node, page, *pages) {
            Judged::There(detail) => draft.yes(&key(*node), Severity::Hard, detail),
            Judged::Unknown(detail) => draft.unknown(&key(*node), Severity::Hard, detail),
            Judged::Doubtful { detail, remedy } => {
                draft.no(&key(*node), Severity::Soft, detail, &remedy);
                draft.about("memory.pages");
            }
            Judged::Impossible { key, detail, remedy, field } => {
                draft.no(&key, Severity::Hard, detail, &remedy);
                draft.about(field);
            }
        }
        draft.change(HugePages { node: *node, size: page, pages: *pages }, origin.clone());
    }
    not_merged(draft);
    for (piece, shares) in pieces.iter().zip(&shares) {
        let parts = parts(&draft.host.memory, page, shares);
        filled(draft, &piece.id, GuestMemory { pages: Some(page), or_normal: false, parts }, origin.clone());
    }
}

/// Memory of huge pages if they can be had, else of normal ones. What can be told now decides the plan; what shows when the
/// kernel is asked for pages decides the run.
fn huge_or_normal(draft: &mut Draft, pieces: &[Piece], why: &Origin) {
    const KEY: &str = "memory.pages";
    let size = draft.machine.memory.size;
    let shares = by_node(&draft.host.memory, pieces, AUTO).unwrap_or_default();
    let mut doubts = Vec::new();
    for (node, pages) in shares.iter().flatten() {
        match judge(draft, *node, AUTO, *pages) {
            Judged::There(_) => {}
            Judged::Unknown(detail) | Judged::Doubtful { detail, .. } => doubts.push(detail),
            Judged::Impossible { detail, .. } => {
                draft.no(KEY, Severity::Soft, format!("the guest has normal pages: {detail}"), REMEDY);
                draft.about(KEY);
                return normal(draft, pieces, why);
            }
        }
    }
    if shares.is_empty() {
        let detail = format!("the guest has normal pages: its {size} are not a whole number of {AUTO} pages");
        draft.no(KEY, Severity::Soft, detail, "make `memory.size` a multiple of 2 MiB");
        draft.about(KEY);
        return normal(draft, pieces, why);
    }
    match doubts.first() {
        None => draft.yes(KEY, Severity::Soft, format!("{size} in pages of {AUTO}")),
        Some(doubt) => draft.unknown(KEY, Severity::Soft, format!("the guest may have to have normal pages: {doubt}")),
    }
    fits(draft, pieces);
    let origin = draft.file(KEY);
    for (node, pages) in shares.iter().flatten() {
        draft.optional_change(HugePages { node: *node, size: AUTO, pages: *pages }, origin.clone());
    }
    not_merged(draft);
    for (piece, shares) in pieces.iter().zip(&shares) {
        let parts = parts(&draft.host.memory, AUTO, shares);
        filled(draft, &piece.id, GuestMemory { pages: Some(AUTO), or_normal: true, parts }, origin.clone());
    }
}

/// How the host gets huge pages that it has not.
const REMEDY: &str = "start as root, or reserve them at boot (`hugepages=` on the kernel command line)";

/// A backend of memory that the launcher fills and QEMU inherits.
fn filled(draft: &mut Draft, id: &str, memory: GuestMemory, origin: Origin) {
    let bytes = memory.bytes();
    // A huge page shows as one only if QEMU maps it at an address of its size; those of hugetlbfs it maps so by itself.
    let align = memory.pages.is_none().then_some(("align", Value::from(AUTO.as_bytes())));
    let path = draft.guest_memory(memory);
    // Shared, since a page of private memory would be copied as soon as the guest writes to it.
    let props = [("size", bytes.into()), ("mem-path", path.into()), ("share", true.into()), ("prealloc", false.into())];
    draft.object("memory-backend-file", id, props.into_iter().chain(align), origin);
}

/// Whether the launcher can make the memory of a file and the guest still has the huge pages that the kernel would make of
/// anonymous memory: guests that lack them are slower for as long as they run, which no shorter start is worth. Memory that
/// must be a file anyway loses nothing. Source: `Documentation/admin-guide/mm/transhuge.rst`, "Hugepages in tmpfs/shmem".
fn early(draft: &mut Draft, is_file_anyway: bool) -> bool {
    match draft.host.memory.huge_shared.as_deref() {
        Some("always" | "within_size" | "advise" | "force") => return true,
        Some("never") if draft.host.process.uid == 0 => {}
        _ => return is_file_anyway,
    }
    let setting = Setting { compare: Compare::Choice, ..Setting::new(Memory::HUGE_SHARED, "advise") };
    let what = "let programs ask for transparent huge pages in shared memory".to_owned();
    let why = "the guest's memory is shared, so that it can be cleared before anything is taken from the host";
    draft.optional_change(Writes { what, files: vec![setting] }, by_default(why));
    true
}

/// `memory.lock`.
fn lock(draft: &mut Draft) {
    const FIELD: &str = "memory.lock";
    if !draft.machine.memory.lock {
        return;
    }
    let need = draft.machine.memory.size;
    let process = &draft.host.process;
    if let Some(limit) = process.memlock.filter(|limit| process.uid != 0 && *limit < need.as_bytes()) {
        let detail = format!(
            "the guest's memory is locked ({need}), but this process may lock only {} MiB (RLIMIT_MEMLOCK)",
            limit >> 20
        );
        draft.no(FIELD, Severity::Hard, detail, "raise `memlock` in /etc/security/limits.conf, or start as root");
        draft.about(FIELD);
    }
    let option = QemuOption::keys("-overcommit", None, draft.file(FIELD)).with("mem-lock", "on");
    draft.push(option.with_role(Role::Touches(Vec::new())));
}

/// Only anonymous memory is merged (`Documentation/admin-guide/mm/ksm.rst`).
fn not_merged(draft: &mut Draft) {
    const FIELD: &str = "memory.merge";
    if draft.machine.memory.merge == Some(true) {
        let detail = "the guest's memory is shared or of huge pages, and the kernel merges only pages of other memory";
        draft.no(FIELD, Severity::Soft, detail, "remove `merge: true`");
        draft.about(FIELD);
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
    let (memory, size) = (&draft.host.memory, draft.machine.memory.size);
    let cpus = placement.vcpu_set();
    let near: CpuSet = cpus.iter().filter_map(|cpu| draft.host.cpus.get(cpu)?.node).collect();
    let mut nodes: CpuSet = near.iter().filter_map(|node| memory.home(node)).collect();
    if nodes.is_empty() {
        return (nodes, by_default("no NUMA node is known that the vCPUs are on"));
    }
    // What they lack comes from the nearest that give some.
    let mut others: Vec<&Node> =
        memory.nodes.iter().filter(|node| memory.gives(node) && !nodes.contains(node.id)).collect();
    others.sort_by_key(|node| (near.iter().map(|near| memory.distance(near, node.id)).min(), node.id));
    for other in others {
        if memory.of_nodes(&nodes, |node| node.total).is_none_or(|total| total >= size) {
            break;
        }
        nodes.insert(other.id);
    }
    let mut seen = format!("the vCPUs are on NUMA node {near} of {known}");
    if nodes != near {
        seen.push_str(&format!("; the memory is that of node {nodes}, the nearest that has enough"));
    }
    if nodes.len() > 1 {
        let detail = format!("the guest's memory is spread over NUMA nodes {nodes}, and it cannot tell what is near");
        let is_asked = draft.machine.memory.numa == Some(Numa::Guest);
        let tell = match nodes == near && !is_asked {
            true => "; `memory: (numa: Guest)` has the guest know the nodes",
            false => "",
        };
        let remedy = format!("lower `memory.size` or `cpu.vcpus`, so that one node holds the guest{tell}");
        draft.no("memory.nodes", Severity::Soft, detail, &remedy);
        draft.about("memory.size");
    }
    (nodes, by_fact(seen))
}

/// Whether the memory is there: all of it, and what each piece takes of its nodes.
fn fits(draft: &mut Draft, pieces: &[Piece]) {
    let memory = &draft.host.memory;
    let has_too_little = |piece: &&Piece| {
        let has = memory.of_nodes(&piece.nodes, |node| node.free.or(node.total));
        !piece.nodes.is_empty() && has.is_some_and(|has| piece.size > has)
    };
    match pieces.iter().find(has_too_little) {
        Some(Piece { size, nodes, .. }) => fits_in(draft, *size, nodes),
        None => {
            let nodes = pieces.iter().flat_map(|piece| piece.nodes.iter()).collect();
            fits_in(draft, draft.machine.memory.size, &nodes);
        }
    }
}

/// Whether so much memory is there, in the given nodes or in all.
fn fits_in(draft: &mut Draft, size: Size, nodes: &CpuSet) {
    let memory = &draft.host.memory;
    let (total, available) = match nodes.is_empty() {
        true => (memory.total, memory.available),
        false => (memory.of_nodes(nodes, |node| node.total), memory.of_nodes(nodes, |node| node.free)),
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
