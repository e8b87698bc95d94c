//! What a QEMU binary answered, kept in a file, so that a start does not ask again.
//!
//! The file is believed only while everything that the answers depend on is as it was: the binary, its modules, and
//! for KVM the kernel's boot and the device. Anything else about the file that is odd means that QEMU is asked anew.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::facts::QemuFacts;
use super::probe::{self, KvmTrial, ProbeError, probe_kvm};
use crate::trusted::answers::{Answers, FileIdentity};

/// To be raised whenever what is asked or how it is kept changes.
const FORMAT: u32 = 5;

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    format: u32,
    binary: Identity,
    /// What the answer about KVM was given for; `None` if KVM was not tried.
    kvm: Option<KvmIdentity>,
    facts: QemuFacts,
}

/// What tells one build of a QEMU from another. Packaged modules come and go without the binary: their folders count.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Identity {
    path: PathBuf,
    file: FileIdentity,
    modules: Vec<(PathBuf, FileIdentity)>,
}

/// What the answer about KVM depends on: this boot (and so the kernel), the device's node, which is made anew when its
/// module is loaded, and whether we may open it. Its owner, mode and time of change are not taken: udev and logind set
/// them again and again, for all devices when a session begins, and nothing follows from them but the last of the three.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct KvmIdentity {
    boot: String,
    /// Device number and inode of `/dev/kvm`.
    device: Option<(u64, u64)>,
    opens: bool,
}

/// How long an answer is believed that KVM does not run. What it speaks of may pass without a trace: another hypervisor
/// that has the CPU's virtualization, a machine that was too busy.
const REFUSAL_LASTS: Duration = Duration::from_secs(600);

impl QemuFacts {
    /// What this binary can do: from the cache in this folder if that is still valid, else asked of the binary.
    ///
    /// If KVM is not to be tried, the answer says nothing of it; a cached answer about KVM stays for the next caller.
    /// A cache that can't be written is a warning, not an error; `None`: nothing is kept.
    pub fn of(binary: &Path, cache_dir: Option<&Path>, trial: KvmTrial) -> Result<Self, ProbeError> {
        let path = probe::resolve(binary)?;
        let io = |source| ProbeError::Io { binary: path.clone(), source };
        // Taken before QEMU is asked: should it be replaced meanwhile, the answers are kept under the old identity.
        let identity = Identity::of(&path).map_err(io)?;
        let kvm = (trial == KvmTrial::Run).then(KvmIdentity::now);
        let answers = cache_dir.map(|folder| Answers::of(folder, "qemu", &path));
        let facts = match answers.as_ref().and_then(|answers| read(answers, &path)) {
            Some(kept) if kept.binary == identity && trial == KvmTrial::Skip => {
                return Ok(Self { kvm_error: None, ..kept.facts });
            }
            Some(kept)
                if kept.binary == identity
                    && kept.kvm == kvm
                    && !answers.as_ref().is_some_and(|answers| outlived(&kept, answers)) =>
            {
                return Ok(kept.facts);
            }
            Some(kept) if kept.binary == identity => {
                tracing::debug!(binary = %path.display(), "asking QEMU anew whether KVM runs");
                let kvm_error = if kept.facts.kvm_present { probe_kvm(&path) } else { None };
                Self { kvm_error, ..kept.facts }
            }
            _ => {
                tracing::debug!(binary = %path.display(), "asking QEMU what it can do");
                probe::probe(&path, probe::DEADLINE, trial)?
            }
        };
        let kept = Kept { format: FORMAT, binary: identity, kvm, facts };
        if let Some(answers) = answers
            && let Err(error) = answers.keep(&kept)
        {
            tracing::warn!(file = %answers, %error, "cannot cache what QEMU can do; vfio-run asks QEMU at each start");
        }
        Ok(kept.facts)
    }
}

impl Identity {
    fn of(binary: &Path) -> io::Result<Self> {
        let mut modules = Vec::new();
        for folder in module_folders(binary) {
            if let Ok(meta) = fs::metadata(&folder) {
                modules.push((folder, FileIdentity::of(&meta)));
            }
        }
        Ok(Self { path: binary.to_owned(), file: FileIdentity::of(&fs::metadata(binary)?), modules })
    }
}

impl KvmIdentity {
    fn now() -> Self {
        let device = fs::metadata("/dev/kvm").ok();
        Self {
            boot: fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default(),
            device: device.map(|meta| (meta.rdev(), meta.ino())),
            // Tried, since a unit's `DevicePolicy=` speaks up only then.
            opens: OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok(),
        }
    }
}

/// Whether the answer is a refusal that is to be asked anew. One that the clock puts into the future is.
fn outlived(kept: &Kept, answers: &Answers) -> bool {
    kept.facts.kvm_error.is_some() && answers.age().is_none_or(|age| age > REFUSAL_LASTS)
}

/// Where distributions put QEMU's modules, from the binary's own place (`/usr/bin`).
fn module_folders(binary: &Path) -> Vec<PathBuf> {
    let Some(prefix) = binary.parent().and_then(Path::parent) else { return Vec::new() };
    let places = ["lib/x86_64-linux-gnu/qemu", "lib64/qemu", "lib/qemu"];
    places.iter().map(|place| prefix.join(place)).collect()
}

/// What was kept for this binary. The name of the program that is run never comes from it.
fn read(answers: &Answers, binary: &Path) -> Option<Kept> {
    // Another format has another shape, or else its number tells.
    let mut kept: Kept = answers.read()?;
    kept.facts.binary = binary.to_owned();
    (kept.format == FORMAT).then_some(kept)
}
