//! What of the IOMMU forbids passing devices through although it is active: memory that the firmware reserves for a device,
//! and interrupts that are not remapped.
//! Source: `Documentation/ABI/testing/sysfs-kernel-iommu_groups`, `drivers/iommu/iommu.c`, `vfio_iommu_type1.c`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::host::Root;

/// What of the IOMMU stands in the way of devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Iommu {
    /// Whether interrupts of devices are remapped; `None`: the kernel does not tell.
    pub remaps_interrupts: Option<bool>,
    /// Whether VFIO takes devices although they are not (`allow_unsafe_interrupts`).
    pub unsafe_interrupts: bool,
    /// How many bits of an address it translates, as far as it tells (Intel's, the least of all).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_bits: Option<u32>,
    /// Of groups that were asked for: memory that the firmware has the devices keep mapped as it is, first and last address.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reserved: BTreeMap<u32, Vec<(u64, u64)>>,
}

impl Iommu {
    pub(super) fn read(root: &Root, groups: &BTreeSet<u32>) -> Self {
        let unsafe_interrupts = root.text_up_to("/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts", 16);
        let reserved = groups.iter().filter_map(|group| Some((*group, reserved(root, *group)?)));
        Self {
            remaps_interrupts: remaps(root),
            unsafe_interrupts: matches!(unsafe_interrupts.as_deref(), Some("Y" | "1")),
            address_bits: address_bits(root),
            reserved: reserved.collect(),
        }
    }
}

/// Each interrupt names its chip; those of a host that remaps have the prefix `IR-` (`arch/x86/kernel/apic/msi.c`,
/// `io_apic.c`). Other platforms have other names, which say nothing.
fn remaps(root: &Root) -> Option<bool> {
    const FOLDER: &str = "/sys/kernel/irq";
    let mut known = None;
    for irq in root.names(FOLDER) {
        let Some(chip) = root.text_up_to(format!("{FOLDER}/{irq}/chip_name"), 64) else { continue };
        if chip.starts_with("IR-") {
            return Some(true);
        }
        if chip == "IO-APIC" || chip.starts_with("PCI-MSI") {
            known = Some(false);
        }
    }
    known
}

/// The field MGAW of VT-d's capabilities, bits 16 to 21 (Intel's specification, 11.4.2; `cap_mgaw()` in
/// `drivers/iommu/intel/iommu.h`). AMD's have all bits that its CPUs have.
fn address_bits(root: &Root) -> Option<u32> {
    const FOLDER: &str = "/sys/class/iommu";
    let units = root.names(FOLDER).into_iter().filter_map(|name| {
        let text = root.text_up_to(format!("{FOLDER}/{name}/intel-iommu/cap"), 64)?;
        let capabilities = u64::from_str_radix(&text, 16).ok()?;
        u32::try_from(capabilities >> 16 & 0x3f).ok().map(|width| width + 1)
    });
    units.min()
}

/// Lines such as `0x000000007b800000 0x000000007fffffff direct`. What is `direct-relaxable` (USB, graphics) may be given up.
fn reserved(root: &Root, group: u32) -> Option<Vec<(u64, u64)>> {
    let text = root.text_up_to(format!("/sys/kernel/iommu_groups/{group}/reserved_regions"), 64 << 10)?;
    let address = |word: &str| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok();
    let regions = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (start, end, kind) = (words.next()?, words.next()?, words.next()?);
        (kind == "direct").then_some((address(start)?, address(end)?))
    });
    Some(regions.collect()).filter(|regions: &Vec<_>| !regions.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::sample_tree;

    #[test]
    fn reserved_memory_and_unmapped_interrupts_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| sample_tree::put(folder.path(), path, text);
        let root = Root::new(folder.path());
        let read = || Iommu::read(&root, &[1, 2, 3].into());
        assert_eq!(read(), Iommu::default());
        put("sys/kernel/irq/0/chip_name", "\n");
        put("sys/kernel/irq/8/chip_name", "XT-PIC\n");
        assert_eq!(read().remaps_interrupts, None);
        put("sys/kernel/irq/9/chip_name", "IO-APIC\n");
        put("sys/kernel/irq/24/chip_name", "DMAR-MSI\n");
        put("sys/kernel/irq/25/chip_name", "PCI-MSI-0000:01:00.0\n");
        assert_eq!((read().remaps_interrupts, read().unsafe_interrupts), (Some(false), false));
        put("sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts", "Y\n");
        assert!(read().unsafe_interrupts);
        put("sys/class/iommu/dmar0/intel-iommu/cap", "1c0000c40660462\n");
        assert_eq!(read().address_bits, Some(39));
        put("sys/class/iommu/dmar1/intel-iommu/cap", "d2008c40660462\n");
        assert_eq!(read().address_bits, Some(39));
        put("sys/kernel/irq/26/chip_name", "IR-PCI-MSIX-0000:02:00.0\n");
        assert_eq!(read().remaps_interrupts, Some(true));
        put(
            "sys/kernel/iommu_groups/1/reserved_regions",
            "0x000000007b800000 0x000000007fffffff direct\n0x00000000fee00000 0x00000000feefffff msi\n",
        );
        put(
            "sys/kernel/iommu_groups/2/reserved_regions",
            "0x000000007b800000 0x000000007fffffff direct-relaxable\n0x00000000fee00000 0x00000000feefffff msi\n",
        );
        assert_eq!(read().reserved, [(1, vec![(0x7b80_0000, 0x7fff_ffff)])].into());
    }
}
