//! What QEMU tells of its guest: the run state, what went to and from the disks, and, with KVM, how often its vCPUs left the
//! guest. All is asked at once, on the monitor for the user's tools, which is free again between two looks.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::qemu::qmp::Answer;
use crate::qemu::{Qmp, QmpError};
use crate::units::printable_up_to;

/// How long QEMU may take over all: it answers at once, unless another program has the monitor.
const LIMIT: Duration = Duration::from_millis(500);
/// So many looks without the monitor follow one at which QEMU did not answer.
const PAUSE: u32 = 10;

/// How long a name or a state may be.
const WORD_LIMIT: usize = 64;

/// Counters of KVM for a vCPU (`kvm_vcpu_stats_desc` in the kernel's `arch/x86/kvm/x86.c`). No exit counts in two of those with a
/// reason.
const EXITS: [&str; 7] =
    ["exits", "halt_exits", "io_exits", "mmio_exits", "irq_exits", "irq_window_exits", "nmi_window_exits"];

/// What QEMU has told.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Told {
    /// Its run state.
    pub(super) state: Option<String>,
    /// The disks by their ids.
    pub(super) disks: BTreeMap<String, Disk>,
    /// Of all vCPUs together; none without KVM, or if this QEMU does not tell.
    pub(super) exits: BTreeMap<String, u64>,
}

/// What went to and from a disk since QEMU was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Disk {
    pub(super) read_bytes: u64,
    pub(super) written_bytes: u64,
    pub(super) reads: u64,
    pub(super) writes: u64,
}

/// The monitor of a QEMU.
#[derive(Debug, Default)]
pub(super) struct Monitor {
    /// Looks to come without a question.
    pause: u32,
    /// Why this QEMU tells nothing of exits, once that is known.
    pub(super) no_exits: Option<String>,
}

impl Monitor {
    /// Asks. The error says why QEMU tells nothing.
    pub(super) async fn ask(&mut self, socket: &Path) -> Result<Told, String> {
        let taken = || "another program uses QEMU's monitor (`qmp.sock`), which serves one at a time".to_owned();
        if self.pause > 0 {
            self.pause -= 1;
            return Err(taken());
        }
        match self.asked(socket).await {
            Err(QmpError::Deadline { .. }) => {
                self.pause = PAUSE;
                Err(taken())
            }
            other => other.map_err(|error| format!("QEMU's monitor: {error}")),
        }
    }

    async fn asked(&mut self, socket: &Path) -> Result<Told, QmpError> {
        let stream = tokio::net::UnixStream::connect(socket).await.map_err(QmpError::Io)?;
        let mut qmp = Qmp::negotiate(stream, LIMIT).await?;
        let mut commands = vec![("query-status", json!({})), ("query-blockstats", json!({}))];
        if self.no_exits.is_none() {
            let counters = json!([{ "provider": "kvm", "names": EXITS }]);
            commands.push(("query-stats", json!({ "target": "vcpu", "providers": counters })));
        }
        let mut answers = qmp.execute_all_within(&commands, LIMIT).await?.into_iter();
        let mut next = || answers.next().unwrap_or(Ok(Value::Null));
        let state = next().ok().and_then(|status| Some(word(status["status"].as_str()?)));
        let disks = next().map(|stats| disks(&stats)).unwrap_or_default();
        let exits = if self.no_exits.is_none() { self.exits(next()) } else { BTreeMap::new() };
        Ok(Told { state, disks, exits })
    }

    fn exits(&mut self, answer: Answer) -> BTreeMap<String, u64> {
        let told = answer.map(|stats| exits(&stats)).unwrap_or_else(|error| {
            self.no_exits = Some(format!("this QEMU does not tell them: {error}"));
            BTreeMap::new()
        });
        // Without KVM nobody counts, nor does a kernel before 5.14.
        if told.is_empty() && self.no_exits.is_none() {
            self.no_exits = Some("KVM counts none: QEMU runs without it, or the kernel is too old".to_owned());
        }
        told
    }
}

/// A word of QEMU's that a terminal can take: a guest may have taken QEMU over.
fn word(text: &str) -> String {
    printable_up_to(text, WORD_LIMIT)
}

/// The disks in the answer to `query-blockstats`. The variable store's flash is none of them.
fn disks(stats: &Value) -> BTreeMap<String, Disk> {
    let all = stats.as_array().into_iter().flatten();
    let disk = |entry: &Value| {
        let count = |key: &str| entry["stats"][key].as_u64().unwrap_or_default();
        let disk = Disk {
            read_bytes: count("rd_bytes"),
            written_bytes: count("wr_bytes"),
            reads: count("rd_operations"),
            writes: count("wr_operations"),
        };
        Some((word(id(entry["qdev"].as_str()?)?), disk))
    };
    all.filter_map(disk).collect()
}

/// The device's id: QEMU gives that, or, if a part of the device has the disk, the part's path.
fn id(device: &str) -> Option<&str> {
    match device.strip_prefix("/machine/") {
        None => Some(device).filter(|id| !id.is_empty()),
        // A device without an id, such as the flash, is not the machine file's.
        Some(path) => path.strip_prefix("peripheral/")?.split('/').next(),
    }
}

/// The sums of all vCPUs' counters in the answer to `query-stats`.
fn exits(stats: &Value) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    let vcpus = stats.as_array().into_iter().flatten();
    for counter in vcpus.filter_map(|vcpu| vcpu["stats"].as_array()).flatten() {
        if let (Some(name), Some(value)) = (counter["name"].as_str(), counter["value"].as_u64())
            && EXITS.contains(&name)
        {
            let sum: &mut u64 = sums.entry(name.to_owned()).or_default();
            *sum = sum.saturating_add(value);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_have_the_ids_of_their_devices() {
        let stats = |read: u64| json!({ "rd_bytes": read, "wr_bytes": 2, "rd_operations": 3, "wr_operations": 4 });
        let told = json!([
            { "device": "", "qdev": "/machine/peripheral/disk0/virtio-backend", "stats": stats(1) },
            { "device": "", "qdev": "disk1", "stats": stats(5) },
            { "device": "", "qdev": "disk2\u{1b}[2J", "stats": stats(6) },
            { "device": "pflash1", "qdev": "/machine/system.flash1", "stats": stats(7) },
            { "device": "nobody", "stats": stats(9) },
        ]);
        let found = disks(&told);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["disk0", "disk1", "disk2\u{fffd}[2J"]);
        assert_eq!(found["disk0"], Disk { read_bytes: 1, written_bytes: 2, reads: 3, writes: 4 });
        assert_eq!(disks(&json!({})), BTreeMap::new());
    }

    #[test]
    fn exits_are_those_of_all_vcpus_together() {
        let vcpu = |path: &str, exits: u64| {
            json!({ "provider": "kvm", "qom-path": path, "stats": [
                { "name": "exits", "value": exits }, { "name": "io_exits", "value": 3 },
                { "name": "guest_mode", "value": true }, { "name": "halt_poll_success_hist", "value": [1, 2] },
            ] })
        };
        let told = json!([vcpu("/machine/unattached/device[0]", 10), vcpu("/machine/unattached/device[1]", 20)]);
        assert_eq!(exits(&told), [("exits".to_owned(), 30), ("io_exits".to_owned(), 6)].into());
        let mut monitor = Monitor::default();
        assert_eq!(monitor.exits(Ok(told)).len(), 2);
        assert_eq!(monitor.no_exits, None);
        assert_eq!(monitor.exits(Ok(json!([]))).len(), 0);
        assert!(monitor.no_exits.unwrap().contains("without it"));
    }

    #[test]
    fn a_qemu_that_knows_no_such_counters_is_not_asked_again() {
        let refused = QmpError::Refused {
            command: "query-stats".to_owned(),
            class: "CommandNotFound".to_owned(),
            detail: "The command query-stats has not been found".to_owned(),
        };
        let mut monitor = Monitor::default();
        assert_eq!(monitor.exits(Err(refused)).len(), 0);
        assert!(monitor.no_exits.unwrap().contains("query-stats"));
    }
}
