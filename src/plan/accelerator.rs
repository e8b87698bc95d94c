//! KVM or emulation: KVM if it works, and a finding that says why if it does not.

use super::draft::Draft;
use super::{Severity, draft};
use crate::host::{Kvm, KvmVerdict};
use crate::machine::{Accelerator, Machine};
use crate::units::Origin;

/// What executes the guest's instructions, decided.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Decided {
    /// KVM, else TCG.
    pub kvm: bool,
    /// Why.
    pub origin: Origin,
}

/// Why KVM cannot be used, and what to do about it.
struct Unusable {
    reason: String,
    remedy: String,
}

/// Whether it matters to this machine if a trial guest runs on KVM here. On some hosts that hangs, which takes time to
/// find out, so it is not tried if the machine wants none or the host's own answer forbids it.
pub fn tries_kvm(machine: &Machine, kvm: &Kvm) -> bool {
    machine.accelerator != Accelerator::Tcg && !matches!(kvm.verdict(), KvmVerdict::Unusable { .. })
}

/// Decides, and says what was found.
pub(super) fn decide(draft: &mut Draft) -> Decided {
    const FIELD: &str = "accelerator";
    let wanted = draft.machine.accelerator;
    if wanted == Accelerator::Tcg {
        return Decided { kvm: false, origin: draft.file(FIELD) };
    }
    let unusable = unusable(draft);
    match (wanted, unusable) {
        (_, None) => {
            match draft.host.kvm.verdict() {
                KvmVerdict::Works => draft.yes("kvm.works", Severity::Hard, "KVM runs the guest"),
                _ => draft.unknown(
                    "kvm.works",
                    Severity::Hard,
                    "vfio-run knows too little of KVM here to tell; QEMU tells when it starts",
                ),
            }
            clock(draft);
            let origin = match wanted {
                Accelerator::Kvm => draft.file(FIELD),
                _ => draft::by_fact("KVM works here"),
            };
            Decided { kvm: true, origin }
        }
        (Accelerator::Kvm, Some(Unusable { reason, remedy })) => {
            draft.no("kvm.works", Severity::Hard, format!("the machine requires KVM, and {reason}"), &remedy);
            draft.about(FIELD);
            Decided { kvm: true, origin: draft.file(FIELD) }
        }
        (_, Some(Unusable { reason, remedy })) => {
            let detail = format!("the guest is emulated, many times slower than with KVM: {reason}");
            draft.no("kvm.works", Severity::Soft, detail, &remedy);
            Decided { kvm: false, origin: draft::by_fact(reason) }
        }
    }
}

/// Says if the host's clock slows guests down.
fn clock(draft: &mut Draft) {
    let Some(clock) = draft.host.kvm.slow_clock().map(str::to_owned) else { return };
    draft.no(
        "kvm.clock",
        Severity::Soft,
        format!(
            "the host's clock is `{clock}`, since its kernel does not trust the processors' time stamp counter (TSC): a guest reads \
             the time slowly, and KVM corrects its clock ten times a second on each vCPU's CPU"
        ),
        "`dmesg | grep -i tsc` says why; look for a newer firmware of the board, and for `clocksource=`, `notsc` or \
         `tsc=unstable` on the kernel's command line",
    );
}

/// Why KVM cannot be used, if it cannot. The host's own answer comes first, since it knows the remedy; then that of the
/// binary, which tried. What nobody knows is left to QEMU, which says so before the host is touched.
fn unusable(draft: &Draft) -> Option<Unusable> {
    let qemu = draft.qemu;
    if !qemu.kvm_present {
        return Some(Unusable {
            reason: format!("{} is built without KVM", qemu.binary.display()),
            remedy: "install your distribution's x86 QEMU (Debian: package `qemu-system-x86`)".to_owned(),
        });
    }
    if let KvmVerdict::Unusable { reason, remedy } = draft.host.kvm.verdict() {
        return Some(Unusable { reason, remedy });
    }
    qemu.kvm_error.as_ref().map(|error| Unusable {
        reason: format!("a trial guest did not run with KVM: {error}"),
        remedy: "read `dmesg`; inside a virtual machine, ask its host for nested virtualization".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_is_tried_only_where_the_answer_counts() {
        let machine = |accelerator| {
            let text = format!("(guest: Linux, memory: (size: \"1 GiB\"), accelerator: {accelerator})");
            crate::machine::parse(std::path::Path::new("m.ron"), &text).unwrap().machine
        };
        let works = Kvm { exists: true, api_version: Some(12), virtualization: Some(true), ..Kvm::default() };
        let unknown = Kvm { virtualization: None, ..works.clone() };
        let sandbox = Kvm { virtualization: Some(false), ..works.clone() };
        for (accelerator, kvm, expected) in [
            ("Auto", &works, true),
            ("Kvm", &works, true),
            ("Auto", &unknown, true),
            ("Auto", &sandbox, false),
            ("Kvm", &sandbox, false),
            ("Tcg", &works, false),
        ] {
            assert_eq!(tries_kvm(&machine(accelerator), kvm), expected, "{accelerator}: {:?}", kvm.verdict());
        }
    }
}
