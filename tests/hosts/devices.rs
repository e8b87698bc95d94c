//! What kernels say of devices that few test machines have: from their files, over a host that somebody captured, to the plan.

use std::os::unix::fs::symlink;
use std::path::Path;

use vfio_run::host::{Environment, Host, Root};
use vfio_run::machine;
use vfio_run::plan::{self, Finding, Plan, Verdict};
use vfio_run::qemu::QemuFacts;

use crate::{shapes, tree};

/// The files of a kernel with devices.
struct Kernel(tempfile::TempDir);

impl Kernel {
    /// An Intel desktop whose IOMMU is on and remaps interrupts, with its ports.
    fn new() -> Self {
        let kernel = Self(tempfile::tempdir().unwrap());
        tree::write(kernel.0.path(), &shapes::core_i7_13700k());
        kernel.put("sys/kernel/irq/24/chip_name", "IR-PCI-MSI-0000:01:00.0\n");
        for (port, group) in [("0000:00:01.0", 1), ("0000:00:06.0", 3)] {
            kernel.function(port, "8086:460d", "60400", "pcieport", group);
        }
        kernel
    }

    fn put(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn link(&self, target: &str, path: &str) {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    /// A function below its port; `path` is that of its folder.
    fn function(&self, path: &str, ids: &str, class: &str, driver: &str, group: u32) {
        let address = path.rsplit('/').next().unwrap();
        let folder = format!("sys/devices/pci0000:00/{path}");
        let lines = format!(
            "DRIVER={driver}\nPCI_CLASS={class}\nPCI_ID={ids}\nPCI_SUBSYS_ID=1458:1234\nPCI_SLOT_NAME={address}\n"
        );
        self.put(&format!("{folder}/uevent"), lines);
        let mut config = [0; 64];
        let number = |hex: &str| u16::from_str_radix(hex, 16).unwrap().to_le_bytes();
        let (vendor, device) = ids.split_once(':').unwrap();
        config[..2].copy_from_slice(&number(vendor));
        config[2..4].copy_from_slice(&number(device));
        config[14] = u8::from(driver == "pcieport");
        self.put(&format!("{folder}/config"), config);
        self.put(&format!("{folder}/reset_method"), "flr\n");
        self.put(&format!("sys/kernel/iommu_groups/{group}/reserved_regions"), MSI);
        self.link(&format!("../../../devices/pci0000:00/{path}"), &format!("sys/bus/pci/devices/{address}"));
        self.link(&format!("/sys/kernel/iommu_groups/{group}"), &format!("{folder}/iommu_group"));
        self.link(&format!("/sys/bus/pci/drivers/{driver}"), &format!("{folder}/driver"));
    }

    /// A machine with these devices, planned elsewhere.
    fn plan(&self, pci: &str) -> Plan {
        let text = format!("(guest: Linux, memory: (size: \"1 GiB\"), pci: [{pci}])");
        let source = machine::parse(Path::new("/machines/m.ron"), &text).unwrap();
        let variables = [("PATH", "/usr/bin"), ("HOME", "/root")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.into())).into_iter().collect();
        let environment = Environment { uid: 0, gid: 0, pid: 4711, variables };
        let here = Host::read_in(&Root::new(self.0.path()), &environment, &plan::wanted(&source.machine));
        let captured: Host = serde_json::from_str(&serde_json::to_string(&here).unwrap()).unwrap();
        let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/qemu/7.2.json");
        let qemu: QemuFacts = serde_json::from_str(&std::fs::read_to_string(recorded).unwrap()).unwrap();
        plan::plan(&source.machine, &|field| source.lines.line(field), &captured, &qemu)
    }
}

/// What every group has.
const MSI: &str = "0x00000000fee00000 0x00000000feefffff msi\n";

fn finding<'a>(plan: &'a Plan, key: &str) -> &'a Finding {
    let known = || plan.findings.iter().map(|finding| finding.key.as_str()).collect::<Vec<_>>();
    plan.findings.iter().find(|finding| finding.key == key).unwrap_or_else(|| panic!("{key} is not in {:?}", known()))
}

#[test]
fn memory_that_the_firmware_reserves_and_interrupts_that_are_not_remapped_forbid_the_start() {
    let kernel = Kernel::new();
    kernel.function("0000:00:01.0/0000:01:00.0", "1000:0097", "10700", "mpt3sas", 2);
    let plan = kernel.plan("\"01:00.0\"");
    assert_eq!(finding(&plan, "pci.interrupts").ok, Verdict::Yes);
    assert!(plan.findings.iter().all(|finding| !finding.key.ends_with(".reserved")));
    // USB controllers and graphics may give theirs up.
    let relaxable = format!("0x000000007b800000 0x000000007fffffff direct-relaxable\n{MSI}");
    kernel.put("sys/kernel/iommu_groups/2/reserved_regions", &relaxable);
    assert!(kernel.plan("\"01:00.0\"").findings.iter().all(|finding| !finding.key.ends_with(".reserved")));
    kernel.put("sys/kernel/iommu_groups/2/reserved_regions", relaxable.replace("-relaxable", ""));
    let plan = kernel.plan("\"01:00.0\"");
    let reserved = finding(&plan, "pci.group2.reserved");
    assert!(reserved.blocks() && reserved.detail.contains("0x7b800000"), "{reserved:?}");

    kernel.put("sys/kernel/irq/24/chip_name", "PCI-MSI-0000:01:00.0\n");
    let plan = kernel.plan("\"01:00.0\"");
    assert!(finding(&plan, "pci.interrupts").blocks());
    kernel.put("sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts", "Y\n");
    let plan = kernel.plan("\"01:00.0\"");
    let interrupts = finding(&plan, "pci.interrupts");
    assert!(interrupts.ok == Verdict::No && !interrupts.blocks(), "{interrupts:?}");
}

#[test]
fn one_of_two_cards_of_nvidias_is_kept_while_its_driver_uses_both() {
    let kernel = Kernel::new();
    for (path, minor, group) in [("0000:00:01.0/0000:01:00.0", 0, 2), ("0000:00:06.0/0000:02:00.0", 1, 4)] {
        kernel.function(path, "10de:2684", "30000", "nvidia", group);
        let address = path.rsplit('/').next().unwrap();
        kernel.put(&format!("proc/driver/nvidia/gpus/{address}/information"), format!("Device Minor: \t {minor}\n"));
    }
    kernel.put("proc/devices", "Character devices:\n195 nvidia\n");
    kernel.put("sys/module/nvidia_drm/parameters/modeset", "Y\n");
    let plan = kernel.plan("\"02:00.0\"");
    let waits = finding(&plan, "pci.0000:02:00.0.nvidia");
    assert!(waits.blocks() && waits.detail.contains("nvidia_drm.modeset=1"), "{waits:?}");
    kernel.put("sys/module/nvidia_drm/parameters/modeset", "N\n");
    let plan = kernel.plan("\"02:00.0\"");
    assert!(!finding(&plan, "pci.0000:02:00.0.nvidia").blocks());
}

#[test]
fn the_graphics_in_an_intel_processor_is_at_its_place_in_the_guest() {
    let kernel = Kernel::new();
    kernel.function("0000:00:02.0", "8086:a780", "30000", "i915", 5);
    let plan = kernel.plan("\"00:02.0\"");
    let argv = plan.command.argv();
    let device = argv.iter().find(|word| word.contains(r#""host":"0000:00:02.0""#)).unwrap();
    assert!(device.contains(r#""bus":"pcie.0""#) && device.contains(r#""addr":"2.0""#), "{device}");
    assert!(device.contains(r#""x-igd-opregion":true"#), "{device}");
    let outputs = finding(&plan, "pci.0000:00:02.0.outputs");
    assert!(outputs.ok == Verdict::No && !outputs.blocks() && outputs.detail.contains("stay dark"), "{outputs:?}");
}
