//! What a QEMU binary can do: asked over QMP, never derived from its version.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a plan may depend on, as the binary itself answered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct QemuFacts {
    /// The binary, resolved to a real path.
    pub binary: PathBuf,
    /// Version for people to read: `7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)`.
    pub version: String,
    /// Machine types and aliases.
    pub machines: BTreeSet<String>,
    /// The most vCPUs that each of them takes.
    #[serde(default)]
    pub most_vcpus: BTreeMap<String, u32>,
    /// Properties of the newest q35 machine: `smm`, `hpet`.
    #[serde(default)]
    pub q35_properties: BTreeSet<String>,
    /// Device drivers that `-device` takes, with the properties of those that plans use (others have an empty set).
    pub devices: BTreeMap<String, BTreeSet<String>>,
    /// User-creatable object types that `-object` takes.
    pub objects: BTreeSet<String>,
    /// Properties of those object types that plans use.
    #[serde(default)]
    pub object_properties: BTreeMap<String, BTreeSet<String>>,
    /// `-netdev` types: `user`, `tap`, `bridge`, `passt`.
    pub netdevs: BTreeSet<String>,
    /// `-audiodev` drivers.
    pub audiodevs: BTreeSet<String>,
    /// `-display` types: `none`, `gtk`, `sdl`.
    pub displays: BTreeSet<String>,
    /// `-chardev` backends: `socket`, `spicevmc`, `qemu-vdagent`.
    #[serde(default)]
    pub chardevs: BTreeSet<String>,
    /// `-blockdev` drivers: `qcow2`, `host_device`, `io_uring`.
    pub blockdevs: BTreeSet<String>,
    /// `aio` modes of `-blockdev driver=file`.
    pub aio: BTreeSet<String>,
    /// Whether `-spice` and `-vnc` exist.
    pub spice: bool,
    /// See `spice`.
    pub vnc: bool,
    /// CPU models.
    pub cpu_models: BTreeSet<String>,
    /// Properties of the `max` CPU: which `hv-*` and feature names `-cpu` takes.
    pub cpu_properties: BTreeSet<String>,
    /// Command-line options with their parameters, as `query-command-line-options` says.
    pub options: BTreeMap<String, BTreeSet<String>>,
    /// Whether KVM is compiled in, and whether a machine started with `-accel kvm` really ran on it.
    pub kvm_present: bool,
    /// Why a guest did not run with `-accel kvm`, in QEMU's words if it had any; `None` if the guest ran, KVM
    /// is not compiled in, or it was not tried. A host without `/dev/kvm` is an error here too.
    pub kvm_error: Option<String>,
}
