//! The guest's signs of life: what QEMU has counted and which interrupts the kernel has set up, without asking the guest.

use std::time::Duration;

use serde_json::{Value, json};

use crate::host::Root;
use crate::machine::Sign;
use crate::plan::{AGENT, Plan};
use crate::qemu::{Event, Qmp, QmpError};
use crate::units::PciAddress;

/// How long QEMU may take over each question. The event loop does nothing else meanwhile.
const LIMIT: Duration = Duration::from_secs(1);
/// More bytes than a boot loader writes: Windows' writes a log of 64 KiB, GRUB its environment of 1 KiB.
const WRITTEN: u64 = 1 << 20;
/// The kernel's list of interrupts, and how much of it is read: 512 CPUs with 2000 interrupts make 12 MiB.
const INTERRUPTS: &str = "/proc/interrupts";
const INTERRUPTS_LIMIT: usize = 64 << 20;

/// The sign of life that an event is, if any.
pub fn sign_of_event(event: &Event) -> Option<Sign> {
    // The port's own id; the plan has no other port (`VSERPORT_CHANGE` in QEMU's `qapi/char.json`).
    let opened = event.name == "VSERPORT_CHANGE" && event.get("open") == Some(&Value::Bool(true));
    (opened && event.text("id") == Some("agent-port")).then_some(Sign::GuestAgent)
}

/// All signs of life that can be seen now; none from what does not answer.
pub async fn visible_signs(plan: &Plan, qmp: Option<&mut Qmp>) -> Vec<Sign> {
    let mut signs = Vec::new();
    if let Some(qmp) = qmp {
        // Raw, because qapi's types of these answers want members that some versions of QEMU do not have.
        let chardevs = qmp.execute_raw_within("query-chardev", json!({}), LIMIT).await;
        if shows_sign(chardevs, agent_is_open) {
            signs.push(Sign::GuestAgent);
        }
        let stats = qmp.execute_raw_within("query-blockstats", json!({}), LIMIT).await;
        if shows_sign(stats, |stats| written(stats) > WRITTEN) {
            signs.push(Sign::Disk);
        }
    }
    if !plan.leases.is_empty()
        && let Some(text) = Root::new("/").text_up_to(INTERRUPTS, INTERRUPTS_LIMIT)
        && has_interrupts(&text, &plan.leases)
    {
        signs.push(Sign::Driver);
    }
    signs
}

fn shows_sign(answer: Result<Value, QmpError>, shows: impl Fn(&Value) -> bool) -> bool {
    match answer {
        Ok(answer) => shows(&answer),
        Err(error) => {
            tracing::debug!("cannot look for a sign of life: {error:#}");
            false
        }
    }
}

/// Whether a program in the guest has the agent's channel open (`ChardevInfo` in `qapi/char.json`). OVMF's driver answers
/// an opening on the host's side with one on its own (`OvmfPkg/VirtioSerialDxe`), so nobody may connect to `qga.sock` to
/// ask the agent while a sign is waited for.
pub(super) fn agent_is_open(chardevs: &Value) -> bool {
    let is_open = |chardev: &Value| chardev["label"].as_str() == Some(AGENT) && chardev["frontend-open"] == true;
    chardevs.as_array().is_some_and(|list| list.iter().any(is_open))
}

/// How many bytes the guest has written to its disks. The variable store's flash is none of them: firmware writes it.
fn written(stats: &Value) -> u64 {
    let disks = stats.as_array().into_iter().flatten();
    let disks = disks.filter(|disk| !disk["qdev"].as_str().is_some_and(|device| device.contains("system.flash")));
    disks.filter_map(|disk| disk["stats"]["wr_bytes"].as_u64()).fold(0, u64::saturating_add)
}

/// Whether a message-signalled interrupt of one of these functions has been set up for vfio, which happens when the guest's
/// driver enables them. Their names are `vfio-msi[0](0000:01:00.0)` and `vfio-msix[…](…)`
/// (`drivers/vfio/pci/vfio_pci_intrs.c`); the old kind, `vfio-intx`, is there before any driver.
fn has_interrupts(interrupts: &str, functions: &[PciAddress]) -> bool {
    let names = || interrupts.lines().filter_map(|line| line.split_ascii_whitespace().next_back());
    let mut names = names().filter(|name| name.starts_with("vfio-msi"));
    names.any(|name| functions.iter().any(|function| name.ends_with(&format!("({function})"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupts_that_a_driver_of_the_guest_has_switched_on() {
        let functions: Vec<PciAddress> = ["01:00.0", "01:00.1"].map(|a| a.parse().unwrap()).to_vec();
        let line = |name: &str| {
            format!(
                "            CPU0       CPU1\n 134:          7          0  IR-PCI-MSI-0000:01:00.0    0-edge      {name}\n"
            )
        };
        for (name, lives) in [
            ("vfio-msi[0](0000:01:00.0)", true),
            ("vfio-msix[3](0000:01:00.1)", true),
            ("vfio-msi[0](0000:02:00.0)", false),
            ("vfio-intx(0000:01:00.0)", false),
            ("nvme0q1", false),
        ] {
            assert_eq!(has_interrupts(&line(name), &functions), lives, "{name}");
        }
    }

    #[test]
    fn what_the_firmware_writes_is_no_sign() {
        let disk = |qdev: &str, bytes: u64| json!({"qdev": qdev, "stats": {"wr_bytes": bytes}});
        let flash = disk("/machine/system.flash1", 5 << 20);
        assert_eq!(written(&json!([flash, disk("/machine/peripheral/disk0/virtio-backend", 4096)])), 4096);
        assert_eq!(written(&json!([disk("a", 1 << 20), disk("b", 1), {"stats": {}}])), WRITTEN + 1);
        assert_eq!(written(&json!({})), 0);
    }

    #[test]
    fn the_agent_shows_when_a_program_has_its_channel_open() {
        let chardev = |label: &str, open: bool| json!({"label": label, "frontend-open": open});
        assert!(agent_is_open(&json!([chardev("serial0", true), chardev("agent0", true)])));
        assert!(!agent_is_open(&json!([chardev("serial0", true), chardev("agent0", false)])));
        let event = |id: &str, open: bool| Event {
            name: "VSERPORT_CHANGE".to_owned(),
            data: json!({"id": id, "open": open}),
            timestamp: None,
        };
        assert_eq!(sign_of_event(&event("agent-port", true)), Some(Sign::GuestAgent));
        assert_eq!(sign_of_event(&event("agent-port", false)), None);
        assert_eq!(sign_of_event(&event("other", true)), None);
    }
}
