//! Hyper-V's interfaces that KVM offers to guests, by the names of QEMU's CPU properties. QEMU looks for the same bits and
//! refuses to start if one is missing (`kvm_hyperv_properties` in QEMU's `target/i386/kvm/kvm.c`; the bits' names are
//! in `hyperv-proto.h` beside it).

use std::collections::BTreeSet;
use std::os::fd::AsRawFd as _;

use kvm_bindings::{CpuId, KVM_CAP_SYS_HYPERV_CPUID, KVM_MAX_CPUID_ENTRIES, kvm_cpuid2};

/// A register of a leaf of the Hypervisor Top-Level Functional Specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    /// 0x40000003, EAX: which synthetic registers there are.
    Privileges,
    /// 0x40000003, EDX: further features.
    Features,
    /// 0x40000004, EAX: what a guest is advised to use.
    Advice,
    /// 0x4000000A, EAX: for hypervisors in the guest.
    Nested,
}

/// The words and bits that must all be set for a property.
type Needs = (&'static str, &'static [(Word, u32)]);

const PROPERTIES: [Needs; 18] = [
    ("hv-avic", &[(Word::Advice, 1 << 9)]),
    ("hv-emsr-bitmap", &[(Word::Nested, 1 << 19)]),
    ("hv-evmcs", &[(Word::Advice, 1 << 14)]),
    ("hv-frequencies", &[(Word::Privileges, 1 << 11), (Word::Features, 1 << 8)]),
    ("hv-ipi", &[(Word::Advice, 1 << 10 | 1 << 11)]),
    ("hv-reenlightenment", &[(Word::Privileges, 1 << 13)]),
    ("hv-relaxed", &[(Word::Advice, 1 << 5)]),
    ("hv-runtime", &[(Word::Privileges, 1 << 0)]),
    ("hv-stimer", &[(Word::Privileges, 1 << 3)]),
    ("hv-stimer-direct", &[(Word::Features, 1 << 19)]),
    ("hv-synic", &[(Word::Privileges, 1 << 2)]),
    ("hv-time", &[(Word::Privileges, 1 << 1 | 1 << 9)]),
    ("hv-tlbflush", &[(Word::Advice, 1 << 2 | 1 << 11)]),
    ("hv-tlbflush-direct", &[(Word::Nested, 1 << 17)]),
    ("hv-tlbflush-ext", &[(Word::Features, 1 << 14)]),
    ("hv-vapic", &[(Word::Privileges, 1 << 4), (Word::Advice, 1 << 3)]),
    ("hv-vpindex", &[(Word::Privileges, 1 << 6)]),
    ("hv-xmm-input", &[(Word::Features, 1 << 4)]),
];

nix::ioctl_readwrite!(
    /// `KVM_GET_SUPPORTED_HV_CPUID`.
    get_supported_hv_cpuid,
    kvm_bindings::KVMIO,
    0xc1,
    kvm_cpuid2
);

/// Whether KVM says of this property if it offers it.
pub fn has_bits(property: &str) -> bool {
    PROPERTIES.iter().any(|(name, _)| *name == property)
}

/// The properties that KVM offers; `None` if it cannot be asked without a virtual machine (before Linux 5.11).
pub(super) fn ask(kvm: &kvm_ioctls::Kvm) -> Option<BTreeSet<String>> {
    if kvm.check_extension_raw(KVM_CAP_SYS_HYPERV_CPUID.into()) <= 0 {
        return None;
    }
    let mut answer = CpuId::new(KVM_MAX_CPUID_ENTRIES).ok()?;
    // SAFETY: the descriptor is that of /dev/kvm; the structure has room for as many entries as its `nent` says, and the
    // kernel writes no more (Documentation/virt/kvm/api.rst, 4.118). No crate offers this question.
    unsafe { get_supported_hv_cpuid(kvm.as_raw_fd(), answer.as_mut_fam_struct_ptr()) }.ok()?;
    let leaf = |function| answer.as_slice().iter().find(|entry| entry.function == function);
    Some(offered(|word| match word {
        Word::Privileges => leaf(0x4000_0003).map_or(0, |entry| entry.eax),
        Word::Features => leaf(0x4000_0003).map_or(0, |entry| entry.edx),
        Word::Advice => leaf(0x4000_0004).map_or(0, |entry| entry.eax),
        Word::Nested => leaf(0x4000_000a).map_or(0, |entry| entry.eax),
    }))
}

fn offered(value: impl Fn(Word) -> u32) -> BTreeSet<String> {
    let all = |needs: &[(Word, u32)]| needs.iter().all(|(word, bits)| value(*word) & bits == *bits);
    PROPERTIES.iter().filter(|(_, needs)| all(needs)).map(|(name, _)| (*name).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_needs_all_of_its_bits() {
        assert!(offered(|_| 0).is_empty());
        assert_eq!(offered(|_| u32::MAX).len(), PROPERTIES.len());
        let half = offered(|word| if word == Word::Privileges { 1 << 1 | 1 << 4 } else { 0 });
        assert!(half.is_empty(), "{half:?}");
        let time = offered(|word| if word == Word::Privileges { 1 << 1 | 1 << 9 } else { 0 });
        assert_eq!(time.into_iter().collect::<Vec<_>>(), ["hv-time"]);
    }

    #[test]
    fn what_no_bit_stands_for_is_not_kvms_to_refuse() {
        assert!(has_bits("hv-xmm-input") && has_bits("hv-evmcs"));
        assert!(!has_bits("hv-spinlocks") && !has_bits("hv-no-nonarch-coresharing") && !has_bits("hv-vendor-id"));
    }
}
