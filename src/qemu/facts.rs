//! What a QEMU binary can do: asked over QMP, never derived from its version.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a plan may depend on, as the binary itself answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QemuFacts {
    /// The binary, resolved to a real path.
    pub binary: PathBuf,
    /// Version for people to read: `7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)`.
    pub version: String,
    /// Machine types and aliases.
    pub machines: BTreeSet<String>,
    /// Device drivers that `-device` takes, with the properties of those that plans use (others have an empty set).
    pub devices: BTreeMap<String, BTreeSet<String>>,
    /// User-creatable object types that `-object` takes.
    pub objects: BTreeSet<String>,
    /// `-netdev` types: `user`, `tap`, `bridge`, `passt`.
    pub netdevs: BTreeSet<String>,
    /// `-audiodev` drivers.
    pub audiodevs: BTreeSet<String>,
    /// `-display` types: `none`, `gtk`, `sdl`.
    pub displays: BTreeSet<String>,
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
    /// Why `-accel kvm` failed to start, QEMU's words; `None` where it started or was not tried.
    pub kvm_error: Option<String>,
}
