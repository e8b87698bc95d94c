//! Virtual CPUs: how many, of which model, and where their threads run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::CpuSet;

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Accelerator {
    /// KVM where it works, else emulation with a warning.
    #[default]
    Auto,
    /// KVM or nothing.
    Kvm,
    /// Emulation (TCG): slow, needs no privileges.
    Tcg,
}

/// Virtual CPUs and the placement of QEMU's threads.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cpu {
    /// How many vCPUs. Default: one for each CPU in `pin`, else 2.
    #[serde(default)]
    pub vcpus: Option<u32>,
    /// The host CPUs that vCPU threads run on, one thread to a CPU. Default: left to the program.
    #[serde(default)]
    pub pin: Option<CpuSet>,
    /// The host CPUs of QEMU's main and worker threads. Default: the host's own CPUs closest to the vCPUs.
    #[serde(default)]
    pub emulator: Option<CpuSet>,
    /// The host CPUs of the I/O threads. Default: as `emulator`.
    #[serde(default)]
    pub iothreads: Option<CpuSet>,
    /// QEMU CPU model. Default: `host` with KVM, `max` without.
    #[serde(default)]
    pub model: Option<String>,
    /// CPU features switched on and off, QEMU's names: `["+topoext", "-svm"]`.
    #[serde(default)]
    pub features: Vec<String>,
    /// Whether the guest may run machines of its own (CPU feature `svm` or `vmx`). Default: no for Windows, which
    /// otherwise runs itself in one for memory integrity, and slower; needed for WSL 2 and Hyper-V. Others: as KVM allows.
    #[serde(default)]
    pub nested: Option<bool>,
    /// The topology that the guest sees. Default: derived from the placement.
    #[serde(default)]
    pub topology: Option<Topology>,
    /// Hide KVM's signature from the guest, as some GPU drivers want. Default: yes for Windows, no for others.
    #[serde(default)]
    pub hide_kvm: Option<bool>,
}

/// The CPU topology that the guest sees (QEMU: `-smp`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// Sockets. Default 1.
    #[serde(default = "one")]
    pub sockets: u32,
    /// Dies in a socket. Default 1.
    #[serde(default = "one")]
    pub dies: u32,
    /// Cores in a die.
    pub cores: u32,
    /// Threads of a core. Default 1.
    #[serde(default = "one")]
    pub threads: u32,
}

fn one() -> u32 {
    1
}

impl Topology {
    /// How many vCPUs it holds, or none where the product is beyond 32 bits.
    pub fn vcpus(self) -> Option<u32> {
        self.sockets.checked_mul(self.dies)?.checked_mul(self.cores)?.checked_mul(self.threads)
    }
}
