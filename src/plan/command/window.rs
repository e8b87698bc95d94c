//! The room in the guest's address space that UEFI keeps for the 64-bit memory ranges of PCI devices. A range that finds none
//! is left out, and its driver with it (Windows: Code 12).

use super::super::Severity::{Hard, Soft};
use super::super::draft::{Draft, by_fact};
use super::firmware::Firmware;
use crate::plan::devices::Devices;
use crate::qemu::command::QemuOption;
use crate::units::Size;

/// OVMF's room is this much smaller than the address space (2^(bits - 3)), and it takes no more than this many bits into
/// account (`PlatformDynamicMmioWindow()` and `PlatformAddressWidthFromCpuid()` in edk2's `OvmfPkg/Library/PlatformInitLib`).
const SHARE: u32 = 3;
const MAX_BITS: u32 = 46;
/// Without pages of 1 GiB it stays within these bits; so do QEMU's own CPUs.
const SMALL_BITS: u32 = 40;
/// What builds before edk2-stable202211 keep, whatever the CPU. Nothing tells a build's age; a newer one that is told a number
/// below its own keeps its own.
const OLD_ROOM: u64 = 32 << 30;

/// Tells OVMF how much it must keep, if it might keep less.
pub(super) fn write(draft: &mut Draft, kvm: bool, firmware: &Firmware, devices: &Devices) {
    if !matches!(firmware, Firmware::Flash(_)) {
        return;
    }
    let bits = bits(draft, kvm);
    let needed = needed(devices);
    if let Some(asked) = draft.machine.uefi().and_then(|uefi| uefi.mmio_window) {
        return written(draft, asked, needed, bits);
    }
    let (Some(bits), false) = (bits, devices.given.is_empty()) else { return };
    let room = 1u64 << (bits - SHARE);
    let size = Size::bytes(needed);
    if needed >= 1 << bits {
        let detail = format!("the devices' 64-bit memory ranges need {size}, more than {bits} address bits leave");
        draft.no("pci.window", Hard, detail, "give the guest fewer devices, or `rebar: Size(\"256 MiB\")`");
        return draft.about("pci");
    }
    let left = Size::bytes(room);
    if needed <= room.min(OLD_ROOM) {
        return draft.yes(
            "pci.window",
            Hard,
            format!("the devices' 64-bit memory ranges need {size}, for which UEFI keeps room"),
        );
    }
    let seen = format!(
        "the devices' 64-bit memory ranges need {size}; by itself UEFI keeps {left}, or 32 GiB before edk2 202211"
    );
    draft.yes("pci.window", Hard, format!("{seen}, so it is told"));
    push(draft, needed, by_fact(seen));
}

fn written(draft: &mut Draft, asked: Size, needed: u64, bits: Option<u32>) {
    const FIELD: &str = "firmware.mmio_window";
    if let Some(bits) = bits.filter(|bits| asked.as_bytes() >= 1 << bits) {
        let detail = format!("a window of {asked} does not fit into {bits} address bits");
        draft.no("pci.window", Hard, detail, &format!("write less into `{FIELD}`, or leave it out"));
        draft.about(FIELD);
    } else if asked.as_bytes() < needed {
        let detail =
            format!("the devices' 64-bit memory ranges need {}, more than the window of {asked}", Size::bytes(needed));
        draft.no("pci.window", Soft, detail, &format!("leave `{FIELD}` out: it follows from the devices"));
        draft.about(FIELD);
    }
    let origin = draft.file(FIELD);
    push(draft, asked.as_bytes(), origin);
}

fn push(draft: &mut Draft, bytes: u64, origin: crate::units::Origin) {
    let option = QemuOption::keys("-fw_cfg", None, origin).with("name", "opt/ovmf/X-PciMmio64Mb");
    draft.push(option.with("string", (bytes >> 20).to_string()));
}

/// Twice what the ranges take, each at a multiple of its size, as a power of two: UEFI aligns its window like that.
fn needed(devices: &Devices) -> u64 {
    let wide = devices.given.iter().flat_map(|given| &given.details.bars).filter(|bar| bar.memory && bar.wide);
    let sum = wide.fold(0u64, |sum, bar| sum.saturating_add(bar.size.as_bytes().next_power_of_two()));
    sum.saturating_mul(2).checked_next_power_of_two().unwrap_or(1 << 51)
}

/// How many bits of an address UEFI uses; at least as many as its room is smaller by.
fn bits(draft: &Draft, kvm: bool) -> Option<u32> {
    let cpu = &draft.machine.cpu;
    let own = cpu.phys_bits.or(match kvm {
        true => draft.host.pci.as_ref().and_then(|pci| pci.device_address_bits()),
        false => Some(SMALL_BITS),
    })?;
    // A CPU model of a name has what QEMU gives it, which may be less than the host's.
    let hosts = kvm && cpu.model.as_deref().is_none_or(|model| matches!(model, "host" | "max"));
    let pages = hosts && draft.host.cpus.flags.iter().any(|flag| flag == "pdpe1gb");
    Some(own.min(if pages { MAX_BITS } else { SMALL_BITS }).max(32))
}

#[cfg(test)]
mod tests {
    use crate::host::Pci;
    use crate::host::pci::{Bar, Details, PciFunction};
    use crate::plan::sample::{Shape, host, plan};
    use crate::plan::{Finding, Plan, Severity, Verdict};
    use crate::units::Size;

    /// A machine with a device that has one 64-bit range of this size, on a host with so many address bits.
    fn with(gib: u64, bits: u32, window: &str, fields: &str) -> Plan {
        let mut host = host(Shape::simple(4, 1));
        host.cpus.flags.push("pdpe1gb".to_owned());
        let size = Size::bytes(gib << 30);
        let bars = vec![Bar { index: 1, start: 0, size, memory: true, wide: true, prefetch: true }];
        let function = PciFunction {
            address: "01:00.0".parse().unwrap(),
            ids: "10de:2684".parse().unwrap(),
            subsystem: None,
            class: 0x03_0000,
            driver: None,
            group: Some(1),
            port: None,
            details: Some(Box::new(Details { bars, ..Details::default() })),
        };
        host.pci = Some(Pci { functions: vec![function], address_bits: Some(bits), ..Pci::default() });
        let text = format!(
            "(guest: Linux, memory: (size: \"1 GiB\"), pci: [(address: \"01:00.0\")], {fields} \
             firmware: Uefi(code: \"/c\", vars: \"/v\", {window}))"
        );
        plan(&text, &host)
    }

    /// What UEFI is told, in MiB, and what was found.
    fn told(plan: &Plan) -> (Option<u64>, &Finding) {
        let option = plan.command.options.iter().find(|option| option.name == "-fw_cfg");
        let found = plan.findings.iter().find(|finding| finding.key == "pci.window").unwrap();
        (option.map(|option| option.get("string").unwrap().parse().unwrap()), found)
    }

    #[test]
    fn uefi_is_told_what_the_ranges_need_if_a_build_might_keep_less() {
        for (gib, bits, fields, expected, verdict) in [
            (16, 46, "", None, Verdict::Yes),
            (32, 46, "", Some(64 << 10), Verdict::Yes),
            (256, 46, "", Some(512 << 10), Verdict::Yes),
            (64, 39, "", Some(128 << 10), Verdict::Yes),
            (256, 39, "", None, Verdict::No),
            (256, 46, "cpu: (phys_bits: 39),", None, Verdict::No),
            // A CPU model of QEMU's has no pages of 1 GiB as far as is known.
            (512, 46, "cpu: (model: \"EPYC\"),", None, Verdict::No),
        ] {
            let plan = with(gib, bits, "", fields);
            let (mib, found) = told(&plan);
            assert_eq!((mib, found.ok), (expected, verdict), "{gib} {bits} {fields}: {found:?}");
            assert_eq!(found.severity, Severity::Hard);
        }
    }

    #[test]
    fn a_window_of_the_users_is_taken_and_judged() {
        for (window, expected, judged) in [
            ("1 TiB", Some(1 << 20), None),
            ("64 GiB", Some(64 << 10), Some(Severity::Soft)),
            ("16 TiB", Some(16 << 20), Some(Severity::Hard)),
        ] {
            let plan = with(64, 44, &format!("mmio_window: \"{window}\""), "");
            let option = plan.command.options.iter().find(|option| option.name == "-fw_cfg").unwrap();
            assert_eq!(option.get("string").unwrap().parse().ok(), expected);
            let found = plan.findings.iter().find(|finding| finding.key == "pci.window");
            assert_eq!(found.map(|finding| finding.severity), judged, "{window}: {found:?}");
        }
    }
}
