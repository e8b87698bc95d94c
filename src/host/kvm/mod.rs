//! KVM: whether it can run a machine here, and what it offers to guests.

mod features;
pub mod hyperv;
mod support;

pub use support::{Kvm, KvmVerdict};
