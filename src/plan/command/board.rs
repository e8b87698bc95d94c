//! The board: machine type and accelerator, and its clocks.

use std::collections::BTreeSet;

use super::super::Severity;
use super::super::draft::{self, Draft, by_default, by_fact};
use super::decided::Decided;
use super::firmware::Firmware;
use super::memory;
use crate::machine::Rtc;
use crate::qemu::command::QemuOption;

/// `-machine` and `-accel`.
pub(super) fn machine(draft: &mut Draft, decided: &Decided, firmware: &Firmware) {
    let kind = draft.machine.machine_type();
    if !draft.qemu.machines.contains(kind) {
        let known = draft.qemu.machines.iter().map(String::as_str);
        let near = || draft::nearest(kind, known).map(|near| format!("; did you mean {near:?}?"));
        let newest = newest_q35(&draft.qemu.machines).filter(|_| version(kind).is_some());
        let hint = newest.map(|newest| format!("; its newest is {newest:?}")).or_else(near).unwrap_or_default();
        let detail = format!("{} has no machine type {kind:?}{hint}", draft.qemu.binary.display());
        draft.no(
            "machine.type",
            Severity::Hard,
            detail,
            "`qemu-system-x86_64 -machine help` lists them; `q35` is always there",
        );
        draft.about("machine_type");
    }
    let origin = draft.file_or(
        draft.machine.machine_type.is_some(),
        "machine_type",
        "the board with PCI Express; its version follows QEMU",
    );
    let mut machine = QemuOption::keys("-machine", Some(kind), origin);
    let windows = draft.machine.guest.is_windows();
    if firmware.needs_smm() {
        machine.set_from("smm", "on", by_fact("the firmware requires system management mode"));
    }
    if windows && draft.machine_property("hpet") {
        machine.set_from("hpet", "off", by_default("Windows: it would take the slow HPET for its clock"));
    }
    machine.set_from("vmport", "off", by_default("VMware's port: nobody asks, and it makes port I/O slower"));
    let dump = draft.machine.memory.dump;
    let origin = draft.file_or(dump, "memory.dump", "a core dump does not hold the guest's memory");
    machine.set_from("dump-guest-core", if dump { "on" } else { "off" }, origin);
    if let Some(merge) = draft.machine.memory.merge {
        machine.set_from("mem-merge", if merge { "on" } else { "off" }, draft.file("memory.merge"));
    }
    if decided.told.l2_of_module && draft.machine_property("smp-cache") {
        machine.set_from("smp-cache.0.cache", "l2", by_fact("these cores share their L2 cache with others"));
        machine.set("smp-cache.0.topology", "module");
    }
    if !memory::guest_has_nodes(draft, decided.placement) {
        machine.set_from("memory-backend", memory::BACKEND, draft.file("memory"));
    }
    for (key, node) in firmware.flash() {
        machine.set_from(key, *node, firmware.origin());
    }
    draft.push(machine);
    let accelerator = &decided.accelerator;
    let option = match accelerator.kvm {
        true => {
            let mut kvm = QemuOption::keys("-accel", Some("kvm"), accelerator.origin.clone());
            // Interrupts of passed-through devices go to the guest without a detour through QEMU.
            kvm.set_from("kernel-irqchip", "on", by_default("the kernel's interrupt controller"));
            kvm
        }
        false => {
            let mut tcg = QemuOption::keys("-accel", Some("tcg"), accelerator.origin.clone());
            // QEMU's own default for most pairs of hosts and guests; said, since placement needs a thread a vCPU.
            tcg.set_from("thread", "multi", by_default("one thread a vCPU"));
            tcg
        }
    };
    draft.push(option);
}

/// The version of a `pc-q35-10.0`.
fn version(kind: &str) -> Option<(u32, u32)> {
    let (major, minor) = kind.strip_prefix("pc-q35-")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn newest_q35(machines: &BTreeSet<String>) -> Option<&String> {
    machines.iter().filter(|kind| version(kind).is_some()).max_by_key(|kind| version(kind))
}

/// The real-time clock and what keeps Windows' time right.
pub(super) fn clock(draft: &mut Draft, decided: &Decided) {
    let windows = draft.machine.guest.is_windows();
    let base = draft.machine.rtc.unwrap_or(if windows { Rtc::LocalTime } else { Rtc::Utc });
    let why = if windows { "Windows keeps local time" } else { "keeps universal time" };
    let origin = draft.file_or(draft.machine.rtc.is_some(), "rtc", why);
    let word = match base {
        Rtc::Utc => "utc",
        Rtc::LocalTime => "localtime",
    };
    let mut rtc = QemuOption::keys("-rtc", None, origin).with("base", word);
    if windows && draft.option_has("rtc", "driftfix") {
        rtc.set_from("driftfix", "slew", by_default("Windows counts clock ticks: lost ones are made up for"));
    }
    draft.push(rtc);
    if decided.accelerator.kvm {
        // The PIT's re-injection of lost ticks also switches AVIC off.
        let why =
            by_default("ticks of the old timer are not re-injected: nobody counts them, and it would inhibit AVIC");
        draft.push(QemuOption::global("kvm-pit", "lost_tick_policy", "discard", why));
    }
    let asked = draft.machine.sleep;
    for (name, property, asked) in [("s3", "disable_s3", asked.s3), ("s4", "disable_s4", asked.s4)] {
        if asked.is_some() || windows {
            let why = "Windows does not sleep: few passed-through devices wake up again";
            let origin = draft.file_or(asked.is_some(), &format!("sleep.{name}"), why);
            let disabled = if asked == Some(true) { "0" } else { "1" };
            draft.push(QemuOption::global("ICH9-LPC", property, disabled, origin));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::sample::{Shape, host, plan};

    #[test]
    fn a_version_that_qemu_lacks_names_its_newest() {
        let detail = |kind: &str| {
            let text = format!(r#"(guest: Other, memory: (size: "1 GiB"), machine_type: "{kind}")"#);
            let plan = plan(&text, &host(Shape::simple(4, 2)));
            plan.findings.into_iter().find(|finding| finding.key == "machine.type").map(|finding| finding.detail)
        };
        let binary = "/usr/bin/qemu-system-x86_64";
        let expected = format!(r#"{binary} has no machine type "pc-q35-11.0"; its newest is "pc-q35-7.2""#);
        assert_eq!(detail("pc-q35-11.0").as_deref(), Some(expected.as_str()));
        let expected = format!(r#"{binary} has no machine type "q35x"; did you mean "q35"?"#);
        assert_eq!(detail("q35x").as_deref(), Some(expected.as_str()));
        assert_eq!(detail("pc-q35-7.2"), None);
    }
}
