//! Which of the host's huge pages the guest's memory takes, and whether they can be had.

use super::super::super::MemoryPart;
use super::super::super::boot_line;
use super::super::super::draft::Draft;
use super::piece::Piece;
use crate::host::Memory;
use crate::units::{CpuSet, Size};

/// How many huge pages each node gives each piece; `None` if they do not make up the whole.
pub(super) fn by_node(host: &Memory, pieces: &[Piece], page: Size) -> Option<Vec<Vec<(u32, u64)>>> {
    pieces.iter().map(|piece| of_piece(host, piece, page)).collect()
}

fn of_piece(host: &Memory, Piece { size, nodes, .. }: &Piece, page: Size) -> Option<Vec<(u32, u64)>> {
    let (bytes, page_bytes) = (size.as_bytes(), page.as_bytes());
    if page_bytes == 0 || !bytes.is_multiple_of(page_bytes) {
        return None;
    }
    let on: Vec<u32> = match nodes.is_empty() {
        true => host.nodes.first().map(|node| node.id).into_iter().collect(),
        false => nodes.iter().collect(),
    };
    let on = if on.is_empty() { vec![0] } else { on };
    let total = bytes / page_bytes;
    let share = total / on.len() as u64;
    // Pages that don't divide evenly come from the first nodes.
    let of_node = |(index, node)| (node, share + u64::from((index as u64) < total % on.len() as u64));
    Some(on.iter().copied().enumerate().map(of_node).collect())
}

/// The memory's parts, each from its node.
pub(super) fn parts(host: &Memory, page: Size, shares: &[(u32, u64)]) -> Vec<MemoryPart> {
    let nodes = |node| if host.nodes.len() > 1 { CpuSet::from_iter([node]) } else { CpuSet::new() };
    let part =
        |(node, pages): &(u32, u64)| MemoryPart { size: Size::bytes(pages * page.as_bytes()), nodes: nodes(*node) };
    shares.iter().filter(|(_, pages)| *pages > 0).map(part).collect()
}

/// What can be said of a node's huge pages before the kernel is asked for them.
pub(super) enum Judged {
    /// It has them, or memory for them.
    There(String),
    /// Nobody knows.
    Unknown(String),
    /// It has little memory that is free.
    Doubtful { detail: String, remedy: String },
    /// It cannot have them.
    Impossible { key: String, detail: String, remedy: String, field: &'static str },
}

/// The key of what is said of a node's pages.
pub(super) fn key(node: u32) -> String {
    format!("memory.hugepages.node{node}")
}

/// Says it of a node.
pub(super) fn judge(draft: &Draft, node: u32, page: Size, pages: u64) -> Judged {
    let key = key(node);
    let facts = draft.host.memory.nodes.iter().find(|facts| facts.id == node);
    let Some(facts) = facts.filter(|facts| !facts.huge_pages.is_empty()) else {
        return Judged::Unknown(format!("vfio-run could not read what huge pages NUMA node {node} has"));
    };
    let Some(pool) = facts.huge_pages.iter().find(|pool| pool.size == page) else {
        let sizes: Vec<String> = facts.huge_pages.iter().map(|pool| pool.size.to_string()).collect();
        let detail = format!("this kernel has no huge pages of {page}; it has {}", sizes.join(" and "));
        let remedy = format!("write `pages: Huge(\"{}\")`", sizes.first().map_or("2 MiB", String::as_str));
        return Judged::Impossible { key: "memory.pages".to_owned(), detail, remedy, field: "memory.pages" };
    };
    let wanted = pages * page.as_bytes();
    let missing = pages.saturating_sub(pool.free) * page.as_bytes();
    let at_boot = format!(
        "reserve them at boot ({}), lower `memory.size`, or write `pages: Normal`",
        boot_line::add(
            draft.host,
            &[
                format!("hugepagesz={}", page.to_string().replace(" ", "").replace("iB", "")),
                format!("hugepages={pages}"),
            ]
        ),
    );
    match (facts.total, facts.free) {
        _ if missing > 0 && draft.host.process.uid != 0 => {
            let detail = format!(
                "the guest needs {pages} free pages of {page}, but {} are free, and only root can reserve more",
                pool.free
            );
            Judged::Impossible { key, detail, remedy: at_boot, field: "memory.pages" }
        }
        (Some(total), _) if wanted > total.as_bytes() => {
            let detail =
                format!("{pages} pages of {page} are more than the {} MiB of NUMA node {node}", total.as_mib());
            let remedy = "lower `memory.size`, or name more nodes in `memory.nodes`".to_owned();
            Judged::Impossible { key, detail, remedy, field: "memory.size" }
        }
        (_, Some(free)) if missing > free.as_bytes() => {
            let detail = format!(
                "{pages} pages of {page} on NUMA node {node}: {} are free, and the node has {} MiB of free memory, {} MiB too little unless the kernel drops caches",
                pool.free,
                free.as_mib(),
                (missing - free.as_bytes()).div_ceil(Size::MIB)
            );
            Judged::Doubtful { detail, remedy: at_boot }
        }
        _ => Judged::There(format!(
            "{pages} pages of {page} on NUMA node {node}, {} of them there already",
            pool.free.min(pages)
        )),
    }
}
