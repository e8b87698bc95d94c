//! Reserve huge pages on a NUMA node.
//!
//! Source: `Documentation/admin-guide/mm/hugetlbpage.rst`. A node's `nr_hugepages` reads as all pages of the pool, those
//! in surplus among them, while a write to it sets the persistent ones alone; so what is compared here is always
//! `nr_hugepages` less `surplus_hugepages`. A write succeeds however few pages the kernel found, so the truth is what
//! reads back.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use crate::change::host::write::{read, write};
use crate::change::{Before, ChangeError, Progress, Undone};
use crate::host::Root;
use crate::units::Size;

/// How often a short pool is tried again after caches were dropped and memory was compacted, and the first pause
/// between two tries; it doubles. About three seconds in all: what compaction did not find by then stays in use.
const TRIES: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// How much is reserved at a time, in bytes; between two steps the reservation can be stopped.
const STEP: u64 = Size::GIB;

/// How many pages the pool has, and how many of them are free.
pub(in crate::change) fn capture(root: &Root, node: u32, size: Size) -> Result<Before, ChangeError> {
    let pool = pool(node, size);
    Ok(Before::Pool { persistent: persistent(root, &pool)?, free: number(root, &pool.join("free_hugepages"))? })
}

/// Grows the pool until so many pages are free; where they cannot all be had, it is left as it was.
pub(in crate::change) fn apply(
    root: &Root,
    node: u32,
    size: Size,
    pages: u64,
    before: &Before,
    progress: Progress<'_>,
) -> Result<(), ChangeError> {
    let pool = pool(node, size);
    let (old, target) = range(pages, before)?;
    if target == old {
        return Ok(());
    }
    let mut pause = FIRST_PAUSE;
    let mut got = old;
    let mut shortages = 0;
    // In steps, since the kernel comes back from a write only when it has searched for every page.
    let step = (STEP / size.as_bytes()).max(1);
    while shortages < TRIES {
        if shortages > 0 {
            make_room(root)?;
            sleep(pause);
            pause *= 2;
        }
        let next = got.saturating_add(step).clamp(old, target);
        write(root, &pool.join("nr_hugepages"), &next.to_string())?;
        got = persistent(root, &pool)?;
        if progress(got.saturating_sub(old), target - old).is_break() {
            return Err(ChangeError::Stopped);
        }
        if got >= target {
            return Ok(());
        }
        if got < next {
            shortages += 1;
        }
    }
    write(root, &pool.join("nr_hugepages"), &old.to_string())?;
    let missing = target - got;
    let kib = size.as_bytes() / Size::KIB;
    let parameter = if kib >= Size::MIB { format!("{}G", kib >> 20) } else { format!("{}M", kib >> 10) };
    Err(ChangeError::ShortOfHugePages {
        node,
        size,
        wanted: pages,
        got: pages.saturating_sub(missing),
        missing_mib: missing.saturating_mul(size.as_mib()),
        boot: format!("hugepagesz={parameter} hugepages={node}:{target}"),
    })
}

/// Shrinks the pool to what it was.
pub(in crate::change) fn undo(
    root: &Root,
    node: u32,
    size: Size,
    pages: u64,
    before: &Before,
) -> Result<Undone, ChangeError> {
    let pool = pool(node, size);
    let (old, target) = range(pages, before)?;
    let found = persistent(root, &pool)?;
    if found == old {
        return Ok(Undone::AlreadyBack);
    }
    // Anything between is ours too: the kernel was killed half-way through growing the pool, or found no more pages.
    if !(old..=target).contains(&found) {
        return Ok(Undone::NotOurs { found: format!("{found} pages") });
    }
    write(root, &pool.join("nr_hugepages"), &old.to_string())?;
    let found = persistent(root, &pool)?;
    if found != old {
        let path = pool.join("nr_hugepages");
        return Err(ChangeError::NotTaken { path, wanted: old.to_string(), found: found.to_string() });
    }
    Ok(Undone::Restored)
}

/// Persistent pages before the change, and after it.
fn range(pages: u64, before: &Before) -> Result<(u64, u64), ChangeError> {
    match *before {
        Before::Pool { persistent, free } => Ok((persistent, persistent.saturating_add(pages.saturating_sub(free)))),
        _ => Err(ChangeError::WrongRecord { before: before.clone() }),
    }
}

/// Frees page cache and moves what is left together, so that the kernel finds huge pages.
fn make_room(root: &Root) -> Result<(), ChangeError> {
    nix::unistd::sync();
    write(root, Path::new("/proc/sys/vm/drop_caches"), "3")?;
    write(root, Path::new("/proc/sys/vm/compact_memory"), "1")
}

fn pool(node: u32, size: Size) -> PathBuf {
    let kib = size.as_bytes() / Size::KIB;
    PathBuf::from(format!("/sys/devices/system/node/node{node}/hugepages/hugepages-{kib}kB"))
}

fn persistent(root: &Root, pool: &Path) -> Result<u64, ChangeError> {
    let all = number(root, &pool.join("nr_hugepages"))?;
    Ok(all.saturating_sub(number(root, &pool.join("surplus_hugepages"))?))
}

fn number(root: &Root, path: &Path) -> Result<u64, ChangeError> {
    let text = read(root, path)?;
    text.parse().map_err(|_| ChangeError::NotTaken { path: path.to_owned(), wanted: "a number".into(), found: text })
}
