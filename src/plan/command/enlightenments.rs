//! Hyper-V's interfaces for Windows guests: the whole recommended set (QEMU: `docs/system/i386/hyperv.rst`), since half
//! sets cost more than they bring; minus what the host's kernel does not offer, which QEMU refuses to start with.

use super::super::draft::{Draft, by_default, by_fact};
use super::decided::Decided;
use crate::host::kvm::hyperv;
use crate::qemu::command::QemuOption;

/// When an interface is of use.
enum When {
    /// Always.
    Always,
    /// From this Linux on, which added it to KVM; only looked at if KVM itself could not be asked.
    Linux(u32, u32),
    /// On Intel CPUs with nested virtualization, whose control structure it is.
    NestedIntel,
    /// If the interrupt controller is virtualized in hardware (AVIC, APICv).
    HardwareApic,
    /// If the guest's time stamp counter can be scaled.
    TscScaling,
    /// If each guest core is one host core.
    TrueCores,
}

/// The set. Not in it: `hv-passthrough` (overrides all others), `hv-enforce-cpuid`, `hv-syndbg` and `hv-reset` (for
/// debugging), `hv-crash` (keeps Windows from writing its dump), and `hv-spinlocks`, whose default is right if vCPUs have
/// CPUs of their own.
const SET: [(&str, When); 20] = [
    ("hv-relaxed", When::Always),
    ("hv-vapic", When::Always),
    ("hv-vpindex", When::Always),
    ("hv-runtime", When::Always),
    ("hv-time", When::Always),
    ("hv-synic", When::Always),
    ("hv-stimer", When::Always),
    ("hv-stimer-direct", When::Always),
    ("hv-frequencies", When::Always),
    ("hv-tlbflush", When::Always),
    ("hv-ipi", When::Always),
    ("hv-xmm-input", When::Linux(5, 14)),
    ("hv-emsr-bitmap", When::Linux(5, 17)),
    ("hv-tlbflush-ext", When::Linux(6, 2)),
    ("hv-tlbflush-direct", When::Linux(6, 2)),
    ("hv-evmcs", When::NestedIntel),
    ("hv-avic", When::HardwareApic),
    ("hv-reenlightenment", When::TscScaling),
    ("hv-no-nonarch-coresharing", When::TrueCores),
    // Attempts before a guest's lock tells KVM that it waits; KVM acts on it only if vCPUs share CPUs.
    ("hv-spinlocks", When::Always),
];

/// Adds the set to `-cpu`.
pub(super) fn write(draft: &Draft, decided: &Decided, cpu: &mut QemuOption) {
    let kvm = &draft.host.kvm.parameters;
    let on = |name: &str| kvm.get(name).is_some_and(|value| matches!(value.as_str(), "Y" | "1"));
    let flag = |name: &str| draft.host.cpus.flags.iter().any(|flag| flag == name);
    let offered = draft.host.kvm.hyperv.as_ref();
    let nested = draft.machine.cpu.nested == Some(true);
    for (name, when) in &SET {
        // Bits that QEMU looks for before it starts. Those without any are not KVM's to refuse.
        if hyperv::has_bits(name) && offered.is_some_and(|offered| !offered.contains(*name)) {
            continue;
        }
        let origin = match when {
            When::Linux(..) if offered.is_some() => by_fact("KVM offers it"),
            When::Always => by_default("Windows: Hyper-V's interfaces"),
            When::Linux(major, minor) if release(&draft.host.kernel) >= Some((*major, *minor)) => {
                by_fact(format!("Linux {} offers it", draft.host.kernel))
            }
            When::NestedIntel if nested && on("kvm_intel.nested") => by_fact("KVM allows nested virtualization"),
            When::HardwareApic if on("kvm_amd.avic") => by_fact("kvm_amd.avic is on"),
            When::HardwareApic if on("kvm_intel.enable_apicv") => by_fact("kvm_intel.enable_apicv is on"),
            When::TscScaling if flag("tsc_scale") || flag("tsc_scaling") => {
                by_fact("the CPU scales the time stamp counter")
            }
            When::TrueCores if decided.told.faithful => by_fact("each guest core is one host core"),
            _ => continue,
        };
        match *name {
            "hv-spinlocks" if decided.placement.pinned => {}
            "hv-spinlocks" => draft.set_cpu(cpu, name, "0x1fff", by_fact("vCPUs share CPUs")),
            _ => draft.set_cpu(cpu, name, "on", origin),
        }
    }
}

/// Major and minor number of a kernel's release, `6.1.0-56-amd64`.
fn release(kernel: &str) -> Option<(u32, u32)> {
    let mut numbers = kernel.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_read_and_nonsense_is_older_than_all() {
        assert_eq!(release("6.1.0-56-amd64"), Some((6, 1)));
        assert_eq!(release("6.12-rc1"), Some((6, 12)));
        assert!(release("unknown") < Some((5, 14)));
    }
}
