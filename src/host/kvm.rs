//! Whether KVM is there and can run a machine. A `/dev/kvm` that opens is not enough: in some sandboxes it answers but
//! runs no ordinary kernel.

use serde::{Deserialize, Serialize};

/// What is known of KVM.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Kvm {
    /// Whether `/dev/kvm` exists.
    pub exists: bool,
    /// Why it could not be opened, if it could not.
    pub open_error: Option<String>,
    /// Group that owns `/dev/kvm`, numeric: QEMU's user needs it.
    pub group: Option<u32>,
    /// `KVM_GET_API_VERSION`: 12 on every kernel since 2.6.22.
    pub api_version: Option<i32>,
    /// Whether /proc/cpuinfo shows `svm` or `vmx`, which KVM is built upon.
    pub virtualization: Option<bool>,
    /// Features that the CPU has and KVM does not offer to guests, /proc/cpuinfo's names.
    pub missing_features: Vec<String>,
    /// Parameters of the modules `kvm`, `kvm_amd` and `kvm_intel` that a plan depends on: `kvm_amd.avic`.
    pub parameters: std::collections::BTreeMap<String, String>,
}
