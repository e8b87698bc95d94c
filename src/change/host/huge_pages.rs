//! Reserve huge pages on a NUMA node.
//!
//! Source: `Documentation/admin-guide/mm/hugetlbpage.rst`. A node's `nr_hugepages` reads as all pages of the pool, surplus
//! pages among them, while a write to it sets the persistent ones alone; so what is compared here is always
//! `nr_hugepages` less `surplus_hugepages`. A write succeeds however few pages the kernel found, so only what reads back
//! counts.

use std::fmt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::change::error::{ChangeError, FileError, HugePagesError};
use crate::change::file::{read, write};
use crate::change::record::Undone;
use crate::change::step::{Effect, Nature, Observed, Progress, Step};
use crate::host::Root;
use crate::units::Size;

/// How often a short pool is tried again after caches were dropped and memory was compacted, and the first pause
/// between two tries; it doubles. About three seconds in all: what compaction did not find by then stays in use.
const TRIES: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// How much is reserved at a time, in bytes; between two steps the reservation can be stopped.
const STEP: u64 = Size::GIB;

/// Reserve huge pages on a NUMA node, so that so many are free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugePages {
    /// NUMA node.
    pub node: u32,
    /// Size of one page.
    pub size: Size,
    /// How many must be free.
    pub pages: u64,
}

/// A pool of huge pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Pages that stay in the pool when they are free: `nr_hugepages` less `surplus_hugepages`.
    pub persistent: u64,
    /// Pages that no program uses.
    pub free: u64,
}

/// The pool that was found: `{"pool": {…}}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundPool {
    /// The pool.
    pub pool: Pool,
}

impl Step for HugePages {
    type Before = FoundPool;

    /// Nobody needs the pool once the guest's memory has its pages: those in use become surplus when the pool is lowered again,
    /// and the kernel frees surplus pages with their last user, so not even a killed launcher leaves any behind.
    fn nature(&self) -> Nature {
        Nature { effect: Effect::Prepares, settles_with_memory: true, makes_others_work: true, takes_long: true }
    }

    fn capture(&self, root: &Root) -> Result<FoundPool, ChangeError> {
        let free = number(root, &self.folder().join("free_hugepages"))?;
        Ok(FoundPool { pool: Pool { persistent: self.persistent(root)?, free } })
    }

    /// Grows the pool until so many pages are free; if the kernel does not find them all, the pool gets its old size.
    fn apply(&self, root: &Root, before: &FoundPool, progress: Progress<'_>) -> Result<(), ChangeError> {
        let (old, target) = self.range(before);
        if target == old {
            return Ok(());
        }
        let mut pause = FIRST_PAUSE;
        let mut got = old;
        let mut shortages = 0;
        // In steps, since the kernel comes back from a write only when it has searched for every page.
        let step = (STEP / self.size.as_bytes()).max(1);
        while shortages < TRIES {
            if shortages > 0 {
                compact_memory(root)?;
                sleep(root.limit(pause));
                pause *= 2;
            }
            let next = got.saturating_add(step).clamp(old, target);
            self.resize(root, next)?;
            got = self.persistent(root)?;
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
        self.resize(root, old)?;
        Err(self.short_of(target - got, target).into())
    }

    /// Shrinks the pool to what it was.
    fn undo(&self, root: &Root, before: &FoundPool) -> Result<Undone, ChangeError> {
        let (old, target) = self.range(before);
        let found = self.persistent(root)?;
        if found == old {
            return Ok(Undone::AlreadyBack);
        }
        // Any size between is ours too: the launcher died while the pool grew, or the kernel found no more pages.
        if !(old..=target).contains(&found) {
            return Ok(Undone::NotOurs { found: format!("{found} pages") });
        }
        self.resize(root, old)?;
        let found = self.persistent(root)?;
        if found != old {
            let path = self.folder().join("nr_hugepages");
            return Err(FileError::NotTaken { path, wanted: old.to_string(), found: found.to_string() }.into());
        }
        Ok(Undone::Restored)
    }

    fn lock_files(&self, _: &FoundPool) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Every rehearsal looks at all pools.
    fn observe(&self, _: &Root) -> Vec<Observed> {
        Vec::new()
    }
}

impl fmt::Display for HugePages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "have {} free huge pages of {} on NUMA node {}", self.pages, self.size, self.node)
    }
}

impl HugePages {
    /// Persistent pages before the change, and after it.
    fn range(&self, FoundPool { pool }: &FoundPool) -> (u64, u64) {
        (pool.persistent, pool.persistent.saturating_add(self.pages.saturating_sub(pool.free)))
    }

    fn folder(&self) -> PathBuf {
        let kib = self.size.as_bytes() / Size::KIB;
        PathBuf::from(format!("/sys/devices/system/node/node{}/hugepages/hugepages-{kib}kB", self.node))
    }

    fn persistent(&self, root: &Root) -> Result<u64, FileError> {
        let all = number(root, &self.folder().join("nr_hugepages"))?;
        Ok(all.saturating_sub(number(root, &self.folder().join("surplus_hugepages"))?))
    }

    fn resize(&self, root: &Root, pages: u64) -> Result<(), FileError> {
        write(root, &self.folder().join("nr_hugepages"), &pages.to_string())
    }

    fn short_of(&self, missing: u64, target: u64) -> HugePagesError {
        let kib = self.size.as_bytes() / Size::KIB;
        let parameter = if kib >= Size::MIB { format!("{}G", kib >> 20) } else { format!("{}M", kib >> 10) };
        HugePagesError::Short {
            node: self.node,
            size: self.size,
            wanted: self.pages,
            got: self.pages.saturating_sub(missing),
            missing_mib: missing.saturating_mul(self.size.as_mib()),
            boot: format!("hugepagesz={parameter} hugepages={}:{target}", self.node),
        }
    }
}

/// Frees the page cache and moves what is left together, so that the kernel finds huge pages.
fn compact_memory(root: &Root) -> Result<(), FileError> {
    nix::unistd::sync();
    write(root, Path::new("/proc/sys/vm/drop_caches"), "3")?;
    write(root, Path::new("/proc/sys/vm/compact_memory"), "1")
}

fn number(root: &Root, path: &Path) -> Result<u64, FileError> {
    let text = read(root, path)?;
    text.parse().map_err(|_| FileError::NotTaken { path: path.to_owned(), wanted: "a number".into(), found: text })
}
