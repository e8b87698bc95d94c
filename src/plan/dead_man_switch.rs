//! Whether the guest can show the sign of life that its dead-man switch waits for.

use super::Severity::{Hard, Soft};
use super::draft::Draft;
use crate::machine::{Guest, Sign};

const KEY: &str = "give_back.sign";
const FIELD: &str = "give_back_unless.sign";

/// A sign that can never come would end every guest.
pub(super) fn check(draft: &mut Draft) {
    let machine = draft.machine;
    let Some(switch) = machine.give_back_unless else { return };
    let driver = !machine.pci.is_empty();
    let disk = machine.disks.iter().any(|disk| !disk.read_only());
    let agent = machine.guest != Guest::Other;
    let missing = match switch.sign {
        Sign::Driver if !driver => "the machine has no device in `pci` whose driver could show a sign",
        Sign::Disk if !disk => "the machine has no disk that it could write to",
        Sign::Any if !(agent || driver || disk) => {
            let detail = "vfio-run can see no sign of life of this guest, so only `vfio-run alive` keeps it running";
            draft.no(KEY, Soft, detail, "give it a disk, or write `sign: GuestAgent` if it has the agent");
            return draft.about(FIELD);
        }
        _ => return,
    };
    let detail = format!("{missing}, so vfio-run would end the guest every time");
    draft.no(KEY, Hard, detail, "leave `sign` out: by default any sign counts");
    draft.about(FIELD);
}

#[cfg(test)]
mod tests {
    use crate::plan::sample::{Shape, host, plan};
    use crate::plan::{Finding, Plan, Verdict};

    fn with(more: &str) -> Plan {
        plan(&format!("(memory: (size: \"1 GiB\"), firmware: Bios, {more})"), &host(Shape::simple(4, 2)))
    }

    fn found(plan: &Plan) -> Option<bool> {
        let is_no = |f: &&Finding| f.key == "give_back.sign" && f.ok == Verdict::No;
        plan.findings.iter().find(is_no).map(Finding::blocks)
    }

    #[test]
    fn a_sign_that_cannot_come_is_refused() {
        for (machine, expected) in [
            ("guest: Linux", None),
            ("guest: Linux, give_back_unless: (within: 60)", None),
            ("guest: Other, give_back_unless: (within: 60)", Some(false)),
            ("guest: Other, give_back_unless: (sign: Confirmed, within: 60)", None),
            ("guest: Linux, give_back_unless: (sign: Driver, within: 60)", Some(true)),
            ("guest: Linux, give_back_unless: (sign: Disk, within: 60)", Some(true)),
            ("guest: Linux, disks: [(file: \"/a.iso\")], give_back_unless: (sign: Disk, within: 60)", Some(true)),
            ("guest: Linux, disks: [(file: \"/a.raw\")], give_back_unless: (sign: Disk, within: 60)", None),
        ] {
            assert_eq!(found(&with(machine)), expected, "{machine}");
        }
    }

    #[test]
    fn a_guest_that_is_to_show_its_agent_has_a_channel_for_it() {
        let has_channel = |plan: &Plan| plan.command.argv().iter().any(|word| word.contains("org.qemu.guest_agent.0"));
        assert!(!has_channel(&with("guest: Other, give_back_unless: (within: 60)")));
        assert!(has_channel(&with("guest: Other, give_back_unless: (sign: GuestAgent, within: 60)")));
    }
}
