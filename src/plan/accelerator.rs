//! KVM or emulation: KVM where it works, and a clear word where it does not.

use super::draft::Draft;
use super::{Origin, Severity, draft};
use crate::machine::Accelerator;

/// What executes the guest's instructions, decided.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Decided {
    /// KVM, else TCG.
    pub kvm: bool,
    /// Why.
    pub origin: Origin,
}

/// Why KVM can't be used, and what to do about it.
struct Unusable {
    reason: String,
    remedy: String,
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
            draft.yes("kvm.works", Severity::Hard, "KVM runs the guest");
            let origin = match wanted {
                Accelerator::Kvm => draft.file(FIELD),
                _ => draft::by_fact("KVM works here"),
            };
            Decided { kvm: true, origin }
        }
        (Accelerator::Kvm, Some(Unusable { reason, remedy })) => {
            draft.no("kvm.works", Severity::Hard, format!("the machine requires KVM, and {reason}"), &remedy);
            Decided { kvm: true, origin: draft.file(FIELD) }
        }
        (_, Some(Unusable { reason, remedy })) => {
            let detail = format!("the guest is emulated, many times slower than with KVM: {reason}");
            draft.no("kvm.works", Severity::Soft, detail, &remedy);
            Decided { kvm: false, origin: draft::by_fact(reason) }
        }
    }
}

/// Why KVM can't be used, if it can't; what is not known is left to QEMU, which says so before the host is touched.
fn unusable(draft: &Draft) -> Option<Unusable> {
    let (kvm, qemu) = (&draft.host.kvm, draft.qemu);
    let unusable = |reason: String, remedy: &str| Some(Unusable { reason, remedy: remedy.to_owned() });
    if !qemu.kvm_present {
        return unusable(
            format!("{} is built without KVM", qemu.binary.display()),
            "install your distribution's x86 QEMU (Debian: qemu-system-x86)",
        );
    }
    if !kvm.exists {
        return match kvm.virtualization {
            Some(false) => unusable(
                "the CPU does not offer virtualization".to_owned(),
                "switch SVM (AMD) or VT-x (Intel) on in the firmware's setup; inside a virtual machine, ask for nested virtualization",
            ),
            _ => unusable(
                "there is no /dev/kvm".to_owned(),
                "load the module: `modprobe kvm_amd` or `modprobe kvm_intel`",
            ),
        };
    }
    if let Some(error) = &kvm.open_error {
        return unusable(
            format!("/dev/kvm can't be opened: {error}"),
            "add yourself to the group that owns it (`usermod -aG kvm $USER`) and log in again",
        );
    }
    if let Some(version) = kvm.api_version
        && version != 12
    {
        return unusable(format!("/dev/kvm speaks API version {version}, not 12"), "start a kernel newer than 2.6.22");
    }
    if !kvm.missing_features.is_empty() {
        return unusable(
            format!("/dev/kvm opens but can't run this CPU's machines: it lacks {}", kvm.missing_features.join(", ")),
            "this host is probably a sandbox or a virtual machine; run on the real host, or ask for nested virtualization",
        );
    }
    if let Some(error) = &qemu.kvm_error {
        return unusable(
            format!("QEMU could not start a machine with KVM: {error}"),
            "see `dmesg`; inside a virtual machine, ask for nested virtualization",
        );
    }
    None
}
