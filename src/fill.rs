//! Fills a file in memory with zeroed pages, as this program's hidden verb: clearing pages takes many threads and seconds, and
//! the launcher stays one thread that hears signals.
//!
//! The file is the verb's standard input, and what it has to say goes to its standard output, a line each.

use std::fmt;
use std::io::Write as _;
use std::os::fd::BorrowedFd;
use std::ptr;
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

use crate::units::CpuSet;

/// The name of the hidden verb.
pub const VERB: &str = "fill-memory";

/// More threads clear pages no faster: the memory's bandwidth is used up.
const MAX_THREADS: usize = 8;
/// How much a thread fills at a time, unless a page is larger.
const CHUNK: u64 = 64 << 20;
/// The smallest page of x86.
const PAGE: usize = 4096;
/// The kernel has at most so many NUMA nodes (`MAX_NUMNODES`).
const MAX_NODES: usize = 1024;

/// A part of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its length, in whole pages.
    pub bytes: u64,
    /// The NUMA nodes that its pages must come from; empty: any.
    pub nodes: CpuSet,
}

/// What the verb says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// So many bytes are filled by now.
    Filled(u64),
    /// The kernel gave no page for this part (its index), for this reason (an `errno`).
    Failed {
        /// Index of the part.
        part: usize,
        /// The reason.
        errno: i32,
    },
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.bytes, self.nodes)
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (bytes, nodes) = text.split_once('@').ok_or("no length and nodes")?;
        let nodes = if nodes.is_empty() { CpuSet::new() } else { nodes.parse().map_err(|_| "no list of nodes")? };
        Ok(Self { bytes: bytes.parse().map_err(|_| "no length")?, nodes })
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filled(bytes) => write!(f, "filled {bytes}"),
            Self::Failed { part, errno } => write!(f, "failed {part} {errno}"),
        }
    }
}

impl FromStr for Said {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words[..] {
            ["filled", bytes] => Ok(Self::Filled(bytes.parse().map_err(drop)?)),
            ["failed", part, errno] => {
                Ok(Self::Failed { part: part.parse().map_err(drop)?, errno: errno.parse().map_err(drop)? })
            }
            _ => Err(()),
        }
    }
}

/// What the verb does: fills its standard input and says how far it is. Returns whether all is filled.
pub fn fill_stdin(parts: &[Part]) -> bool {
    use std::os::fd::AsFd as _;
    let out = Mutex::new(std::io::stdout());
    // If nobody listens any more, nobody wants the memory either.
    let say = |said: Said| out.lock().is_ok_and(|mut out| writeln!(out, "{said}").and_then(|()| out.flush()).is_ok());
    let filled = fill(std::io::stdin().as_fd(), parts, &|bytes| say(Said::Filled(bytes)));
    filled.map_err(|(part, errno)| say(Said::Failed { part, errno: errno.raw_os_error() })).is_ok()
}

/// Fills the file from its beginning, part by part, and calls `filled` with the bytes so far, which stops it by `false`.
/// An error names the part that got no page.
pub fn fill(file: BorrowedFd<'_>, parts: &[Part], filled: &(dyn Fn(u64) -> bool + Sync)) -> Result<(), (usize, Errno)> {
    let whole = parts.iter().map(|part| part.bytes).sum();
    // The size of its huge pages, if it has such.
    let page = rustix::fs::fstat(file).map_or(0, |stat| u64::try_from(stat.st_blksize).unwrap_or(0));
    let chunk = CHUNK.max(page);
    // A file of huge pages has all of them reserved by this, or the kernel refuses it.
    let mapping = Mapping::new(file, whole).map_err(|error| (0, error))?;
    let mut chunks = Vec::new();
    let mut start = 0;
    for (index, part) in parts.iter().enumerate() {
        let end = start + part.bytes;
        if !part.nodes.is_empty() {
            mapping.bind(start, part.bytes, &part.nodes).map_err(|error| (index, error))?;
        }
        while start < end {
            let length = chunk.min(end - start);
            chunks.push((index, start, length));
            start += length;
        }
    }
    let (next, done, stopped) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let failed = Mutex::new(None);
    let work = || {
        while let Some((part, start, length)) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
            if stopped.load(Ordering::Relaxed) {
                return;
            }
            match mapping.populate(*start, *length) {
                Ok(()) if filled(done.fetch_add(*length, Ordering::Relaxed) + length) => {}
                Ok(()) => return stopped.store(true, Ordering::Relaxed),
                Err(error) => {
                    stopped.store(true, Ordering::Relaxed);
                    let mut failed = failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    failed.get_or_insert((*part, error));
                    return;
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS).min(chunks.len());
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Without the others this one does all of it.
            drop(std::thread::Builder::new().spawn_scoped(scope, work));
        }
        work();
    });
    match failed.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
        Some(failed) => Err(failed),
        // Nobody listens.
        None if stopped.into_inner() => Err((0, Errno::PIPE)),
        None => Ok(()),
    }
}

/// The file, mapped.
struct Mapping {
    address: usize,
    length: usize,
}

impl Mapping {
    fn new(file: BorrowedFd<'_>, length: u64) -> Result<Self, Errno> {
        let length = usize::try_from(length).map_err(|_| Errno::NOMEM)?;
        // SAFETY: a new mapping at an address that the kernel chooses; nothing in this process refers to it but `self`.
        let address =
            unsafe { mmap(ptr::null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, 0) }?;
        let mapping = Self { address: address as usize, length };
        // For ordinary pages, where the kernel allows it (`transparent_hugepage/shmem_enabled`).
        // SAFETY: advice about a mapping of our own changes no contents.
        let _ = unsafe { madvise(address, length, Advice::LinuxHugepage) };
        Ok(mapping)
    }

    /// Where a range begins that is checked to be within.
    fn at(&self, start: u64, length: u64) -> Result<(usize, usize), Errno> {
        let range = usize::try_from(start).ok().zip(usize::try_from(length).ok());
        let (start, length) = range.filter(|(start, length)| start + length <= self.length).ok_or(Errno::INVAL)?;
        Ok((self.address + start, length))
    }

    /// Has the pages of a range come from these nodes alone (mbind(2)).
    fn bind(&self, start: u64, length: u64, nodes: &CpuSet) -> Result<(), Errno> {
        let (address, length) = self.at(start, length)?;
        let mut mask = [0u64; MAX_NODES / 64];
        for node in nodes.iter() {
            *mask.get_mut(node as usize / 64).ok_or(Errno::INVAL)? |= 1 << (node % 64);
        }
        // The kernel takes one bit less than it is told.
        let bits = MAX_NODES + 1;
        // SAFETY: the policy of a mapping of our own; the kernel reads `bits - 1` bits of the mask, which has them.
        let bound =
            unsafe { libc::syscall(libc::SYS_mbind, address, length, libc::MPOL_BIND, mask.as_ptr(), bits, 0u32) };
        if bound == -1 {
            Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
        } else {
            Ok(())
        }
    }

    /// Gives each page of a range memory.
    fn populate(&self, start: u64, length: u64) -> Result<(), Errno> {
        let (address, length) = self.at(start, length)?;
        // SAFETY: the range is within our mapping, and the call changes no contents.
        match unsafe { madvise(address as *mut _, length, Advice::LinuxPopulateWrite) } {
            // Linux before 5.14. There a page that is missing ends this process by SIGBUS.
            Err(Errno::INVAL) => {
                for byte in (address..address + length).step_by(PAGE) {
                    // SAFETY: within our mapping; the file is new, so that this byte is zero.
                    unsafe { ptr::write_volatile(byte as *mut u8, 0) };
                }
                Ok(())
            }
            populated => populated,
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it is ours, and nothing refers to it any more.
        let _ = unsafe { munmap(self.address as *mut _, self.length) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use rustix::fs::{MemfdFlags, fstat, ftruncate, memfd_create};

    use super::*;

    fn part(bytes: u64, nodes: &str) -> Part {
        Part { bytes, nodes: nodes.parse().unwrap_or_default() }
    }

    #[test]
    fn every_page_is_there_afterwards_and_the_last_word_is_the_whole() {
        let file = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
        let whole = CHUNK * 2 + (1 << 20);
        ftruncate(&file, whole).unwrap();
        let most = AtomicU64::new(0);
        let parts = [part(CHUNK + (1 << 20), ""), part(CHUNK, "")];
        fill(file.as_fd(), &parts, &|bytes| most.fetch_max(bytes, Ordering::Relaxed) <= whole).unwrap();
        assert_eq!(most.into_inner(), whole);
        assert!(fstat(&file).unwrap().st_blocks as u64 * 512 >= whole);
    }

    #[test]
    fn a_file_that_is_too_short_or_a_node_that_is_not_there_fails_and_names_the_part() {
        let file = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, 1 << 20).unwrap();
        // Past the end of the file there is nothing to give memory to.
        assert_eq!(fill(file.as_fd(), &[part(1 << 20, ""), part(1 << 20, "")], &|_| true), Err((1, Errno::FAULT)));
        let nowhere = fill(file.as_fd(), &[part(4096, ""), part(4096, "1000")], &|_| true).unwrap_err();
        assert_eq!(nowhere.0, 1, "{nowhere:?}");
        assert_eq!(fill(file.as_fd(), &[part(4096, "")], &|_| false), Err((0, Errno::PIPE)));
    }

    #[test]
    fn what_is_said_and_asked_is_read_back() {
        for said in [Said::Filled(1 << 40), Said::Failed { part: 3, errno: libc::ENOMEM }] {
            assert_eq!(said.to_string().parse(), Ok(said));
        }
        assert_eq!("filled x".parse::<Said>(), Err(()));
        for part in [part(1 << 30, ""), part(1 << 21, "0,2-3")] {
            assert_eq!(part.to_string().parse(), Ok(part));
        }
        assert!("5".parse::<Part>().is_err());
    }
}
