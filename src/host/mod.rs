//! Facts about the host, read under an injectable root. One reader a subject; a fact that can't be read is *unknown*
//! (`None`), never *no*.

mod cpus;
mod firmware;
mod images;
mod kvm;
mod memory;
mod process;

pub use cpus::{Cache, CacheKind, CoreKind, Cpu, Cpus};
pub use firmware::{Descriptor, Feature};
pub use images::{FileFact, FileKind};
pub use kvm::Kvm;
pub use memory::{HugePages, Memory, Node};
pub use process::Process;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What is known about the host: all that a plan may depend on. Plain data, so that a host captured with
/// `vfio-run host --json` can be planned for elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// Kernel release, as `uname -r`.
    pub kernel: String,
    /// Kernel command line, word by word.
    pub cmdline: Vec<String>,
    /// CPU topology.
    pub cpus: Cpus,
    /// Memory and huge pages by NUMA node.
    pub memory: Memory,
    /// What KVM can do here.
    pub kvm: Kvm,
    /// Firmware descriptors in order of priority, overrides applied.
    pub firmware: Vec<Descriptor>,
    /// The session, unit, cgroup and user that this program runs in.
    pub process: Process,
    /// Where programs were found in PATH: QEMU and its helpers.
    pub programs: BTreeMap<String, PathBuf>,
    /// The files that the machine names, as they are: images, kernels, variable stores.
    pub files: BTreeMap<PathBuf, FileFact>,
    /// The accounts that the machine names: user and group id by name.
    #[serde(default)]
    pub accounts: BTreeMap<String, (u32, u32)>,
}

/// The file system root that facts are read under: `/`, or a captured tree in tests.
#[derive(Debug, Clone)]
pub struct Root(PathBuf);

impl Root {
    /// Reads under this folder.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// The path below the root; a leading `/` of `path` is the root's.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A file's text without white space at its ends, or `None` where it can't be read.
    pub fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        let bytes = std::fs::read(self.path(path)).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// A file's text parsed, or `None` where it can't be read or is of another form.
    pub fn parse<T: std::str::FromStr>(&self, path: impl AsRef<Path>) -> Option<T> {
        self.text(path)?.parse().ok()
    }
}
