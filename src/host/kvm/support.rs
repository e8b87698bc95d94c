//! Whether KVM is there and can run a machine. A `/dev/kvm` that opens is not enough: in some sandboxes it answers but
//! runs no ordinary kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::sync::mpsc;
use std::time::Duration;

use kvm_bindings::KVM_MAX_CPUID_ENTRIES;
use serde::{Deserialize, Serialize};

use super::features::{BASELINE, Register, missing};
use super::hyperv;
use crate::host::{Cpus, Root};

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
    /// Hyper-V's interfaces that KVM offers, by the names of QEMU's CPU properties. `None`: it could not be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hyperv: Option<BTreeSet<String>>,
    /// Parameters of the modules `kvm`, `kvm_amd` and `kvm_intel` that a plan depends on: `kvm_amd.avic`.
    pub parameters: BTreeMap<String, String>,
    /// The kernel's clock (`current_clocksource`): `tsc` where it trusts the processors' time stamp counter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clocksource: Option<String>,
}

/// Whether KVM can run an ordinary machine here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KvmVerdict {
    /// Nothing speaks against it.
    Works,
    /// It can't, and what would change that.
    Unusable {
        /// One sentence.
        reason: String,
        /// What the user can do.
        remedy: String,
    },
    /// Too little is known to say.
    Unknown,
}

impl std::fmt::Display for KvmVerdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Works => f.write_str("works"),
            Self::Unusable { reason, remedy } => write!(f, "unusable: {reason} ({remedy})"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// The only version of the interface that there has been since Linux 2.6.22 (`Documentation/virt/kvm/api.rst`, 4.1).
const API_VERSION: i32 = 12;
/// KVM of an older kernel passes on a few features less than a new CPU has. More than this many missing means that it
/// is no ordinary KVM.
const MAX_MISSING: usize = 12;
/// The questions that KVM is asked are answered in microseconds.
const DEADLINE: Duration = Duration::from_millis(500);
/// Module parameters that a plan depends on.
const PARAMETERS: [(&str, &[&str]); 3] = [
    ("kvm", &["halt_poll_ns", "ignore_msrs", "nx_huge_pages", "tdp_mmu"]),
    ("kvm_amd", &["avic", "nested", "npt", "sev"]),
    ("kvm_intel", &["enable_apicv", "enable_ipiv", "ept", "nested"]),
];

/// The kernel's `kernel/time/clocksource.c` has it (`current_clocksource_show()`).
const CLOCKSOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
/// Clocks that the kernel takes for want of a better one. Programs ask a device for the time then.
const SLOW_CLOCKS: [&str; 5] = ["hpet", "acpi_pm", "pit", "jiffies", "refined-jiffies"];

impl Kvm {
    /// Reads what is known of KVM. The device itself is asked only under the real root, and never to run anything.
    pub(in crate::host) fn read(root: &Root, cpus: &Cpus) -> Self {
        let flag = |name: &str| cpus.flags.iter().any(|flag| flag == name);
        let data = std::fs::metadata(root.path("/dev/kvm"));
        let mut kvm = Self {
            exists: data.as_ref().map_or_else(|e| e.kind() != ErrorKind::NotFound, |_| true),
            group: data.ok().filter(|data| data.file_type().is_char_device()).map(|data| data.gid()),
            virtualization: (!cpus.flags.is_empty()).then(|| flag("svm") || flag("vmx")),
            parameters: read_parameters(root),
            clocksource: root.text_up_to(CLOCKSOURCE, 64),
            ..Self::default()
        };
        if kvm.exists && root.is_real() {
            match ask() {
                Some(Ok(answer)) => {
                    kvm.api_version = Some(answer.api_version);
                    kvm.hyperv = answer.hyperv;
                    if let Some(words) = answer.words {
                        kvm.missing_features = missing(&cpus.flags, |leaf, subleaf, register| {
                            words.iter().find(|w| (w.0, w.1, w.2) == (leaf, subleaf, register)).map(|w| w.3)
                        });
                    }
                }
                Some(Err(error)) => kvm.open_error = Some(error),
                None => kvm.open_error = Some("KVM did not answer in time".to_owned()),
            }
        }
        kvm
    }

    /// The kernel's clock, if it does not trust the time stamp counter: then KVM cannot let a guest read the time by itself, and
    /// corrects its clock ten times a second by a work on the CPU of each vCPU (`kvmclock_update_fn`, `arch/x86/kvm/x86.c`).
    pub fn slow_clock(&self) -> Option<&str> {
        self.clocksource.as_deref().filter(|clock| SLOW_CLOCKS.contains(clock))
    }

    /// Whether KVM can run an ordinary machine here.
    pub fn verdict(&self) -> KvmVerdict {
        let unusable = |reason: String, remedy: &str| KvmVerdict::Unusable { reason, remedy: remedy.to_owned() };
        if !self.exists {
            return match self.virtualization {
                Some(true) => unusable(
                    "/dev/kvm does not exist, although the CPU has virtualization".to_owned(),
                    "load the module: `modprobe kvm_amd` or `modprobe kvm_intel`; if the kernel refuses, \
                     enable SVM or VT-x in the BIOS",
                ),
                _ => unusable(
                    "/dev/kvm does not exist".to_owned(),
                    "enable SVM (AMD) or VT-x (Intel) in the BIOS; inside a virtual machine, let its host offer nested \
                     virtualization (`nested=1` of kvm_amd or kvm_intel, and `-cpu host`)",
                ),
            };
        }
        if let Some(error) = &self.open_error {
            let remedy = if error.contains("denied") || error.contains("not permitted") {
                "add the user to the group `kvm` (`usermod -aG kvm USER`) and log in again"
            } else {
                "load the module again (`modprobe kvm_amd` or `modprobe kvm_intel`) and read `dmesg`"
            };
            return unusable(format!("cannot use /dev/kvm: {error}"), remedy);
        }
        let Some(version) = self.api_version else { return KvmVerdict::Unknown };
        if version != API_VERSION {
            return unusable(
                format!("/dev/kvm has version {version} of the KVM interface; QEMU needs version {API_VERSION}"),
                "use a kernel with an ordinary KVM",
            );
        }
        if self.virtualization == Some(false) {
            return unusable(
                "/dev/kvm opens, but the CPU flags contain neither svm nor vmx: this sandbox's KVM cannot run an \
                 ordinary guest"
                    .to_owned(),
                "enable SVM (AMD) or VT-x (Intel) in the BIOS; inside a virtual machine, let its host offer nested \
                 virtualization (`nested=1` of kvm_amd or kvm_intel, and `-cpu host`)",
            );
        }
        let lacks_baseline = self.missing_features.iter().any(|name| BASELINE.contains(&name.as_str()));
        if lacks_baseline || self.missing_features.len() > MAX_MISSING {
            let shown = self.missing_features.iter().take(6).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = self.missing_features.len().saturating_sub(6);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            return unusable(
                format!("KVM does not offer features that the CPU has: {shown}{more}"),
                "inside a virtual machine, give it the CPU of its host (`-cpu host`); else use a kernel with an \
                 ordinary KVM",
            );
        }
        if self.virtualization.is_none() { KvmVerdict::Unknown } else { KvmVerdict::Works }
    }
}

/// What `/dev/kvm` answered: leaf, subleaf, register and value of the CPUID that it supports.
struct Answer {
    api_version: i32,
    words: Option<Vec<(u32, u32, Register, u32)>>,
    hyperv: Option<BTreeSet<String>>,
}

/// Asks `/dev/kvm` for its version, the CPUID that it supports (`Documentation/virt/kvm/api.rst`, 4.1 and 4.46) and
/// Hyper-V's CPUID. A thread of its own asks, with a deadline, since a start must not hang on a question; `None` if the
/// deadline passed.
fn ask() -> Option<Result<Answer, String>> {
    let (answer, receive) = mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name("ask-kvm".to_owned())
        .stack_size(128 << 10)
        .spawn(move || {
            let result = kvm_ioctls::Kvm::new().map_err(|e| e.to_string()).map(|kvm| {
                let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).ok();
                let words = cpuid.map(|cpuid| {
                    let entries = cpuid.as_slice().iter();
                    entries
                        .flat_map(|e| {
                            [(Register::Ebx, e.ebx), (Register::Ecx, e.ecx), (Register::Edx, e.edx)]
                                .map(|(register, value)| (e.function, e.index, register, value))
                        })
                        .collect()
                });
                Answer { api_version: kvm.get_api_version(), words, hyperv: hyperv::ask(&kvm) }
            });
            // Nobody listens any more after the deadline.
            drop(answer.send(result));
        })
        .ok()?;
    receive.recv_timeout(DEADLINE).ok()
}

/// The parameters that are there, as `module.parameter`.
fn read_parameters(root: &Root) -> BTreeMap<String, String> {
    let names = PARAMETERS.iter().flat_map(|(module, names)| names.iter().map(move |name| (module, name)));
    names
        .filter_map(|(module, name)| {
            let value = root.text_up_to(format!("/sys/module/{module}/parameters/{name}"), 256)?;
            Some((format!("{module}.{name}"), value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn working() -> Kvm {
        Kvm { exists: true, api_version: Some(12), virtualization: Some(true), ..Kvm::default() }
    }

    fn reason_and_remedy(kvm: Kvm) -> (String, String) {
        match kvm.verdict() {
            KvmVerdict::Unusable { reason, remedy } => (reason, remedy),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_ordinary_kvm_works_even_when_it_is_a_little_older_than_the_cpu() {
        assert_eq!(working().verdict(), KvmVerdict::Works);
        let missing_features = ["la57", "cldemote", "movdiri"].map(str::to_owned).to_vec();
        assert_eq!(Kvm { missing_features, ..working() }.verdict(), KvmVerdict::Works);
    }

    #[test]
    fn what_could_not_be_asked_is_unknown() {
        assert_eq!(Kvm { api_version: None, ..working() }.verdict(), KvmVerdict::Unknown);
        assert_eq!(Kvm { virtualization: None, ..working() }.verdict(), KvmVerdict::Unknown);
    }

    #[test]
    fn each_reason_has_its_remedy() {
        let (_, remedy) = reason_and_remedy(Kvm { exists: false, ..working() });
        assert!(remedy.contains("modprobe"), "{remedy}");
        let (_, remedy) = reason_and_remedy(Kvm { exists: false, virtualization: Some(false), ..working() });
        assert!(remedy.contains("BIOS") && remedy.contains("nested=1"), "{remedy}");
        let denied = Some("Permission denied (os error 13)".to_owned());
        let (_, remedy) = reason_and_remedy(Kvm { open_error: denied, api_version: None, ..working() });
        assert!(remedy.contains("group `kvm`"), "{remedy}");
        let (reason, _) = reason_and_remedy(Kvm { virtualization: Some(false), ..working() });
        assert!(reason.contains("neither svm nor vmx"), "{reason}");
        let (reason, _) = reason_and_remedy(Kvm { missing_features: vec!["nx".to_owned()], ..working() });
        assert!(reason.contains("nx"), "{reason}");
        let many = (0..20).map(|n| format!("f{n}")).collect();
        let (reason, _) = reason_and_remedy(Kvm { missing_features: many, ..working() });
        assert!(reason.contains("and 14 more"), "{reason}");
        let (reason, _) = reason_and_remedy(Kvm { api_version: Some(7), ..working() });
        assert!(reason.contains('7'), "{reason}");
    }

    #[test]
    fn a_captured_root_is_never_asked() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        for (path, text) in [("dev/kvm", ""), ("sys/module/kvm_amd/parameters/avic", "N\n")] {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let cpus = Cpus { flags: vec!["svm".to_owned()], ..Cpus::default() };
        let kvm = Kvm::read(&root, &cpus);
        assert_eq!((kvm.exists, kvm.api_version, kvm.group, kvm.virtualization), (true, None, None, Some(true)));
        assert_eq!(kvm.parameters, BTreeMap::from([("kvm_amd.avic".to_owned(), "N".to_owned())]));
        assert_eq!(kvm.verdict(), KvmVerdict::Unknown);
    }
}
