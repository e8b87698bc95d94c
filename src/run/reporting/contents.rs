//! The report of a run as plain data.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::change::Undone;
use crate::host::activity::Stutter;
use crate::journal::Record;
use crate::machine::Sign;

/// What a run came to. Times are in milliseconds, on a clock that goes on while the host sleeps (`CLOCK_BOOTTIME`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// The machine's name.
    pub name: String,
    /// When the launcher was started.
    pub started: Timestamp,
    /// The same, since the host was booted; `None`: nobody noted it.
    pub started_ms: Option<f64>,
    /// The steps of the start, in their order; `at_ms` counts from `started`.
    pub start: Vec<TimedStep>,
    /// When the guest executed its first instruction, from `started` on; `None`: it never did, or nobody noted it.
    pub guest_ran_ms: Option<f64>,
    /// How long the host's screen was black, if the start took it.
    pub black: Option<Black>,
    /// How often QEMU was started anew because the guest restarted.
    pub relaunches: u32,
    /// How it ended; `None`: it runs.
    pub end: Option<End>,
    /// The steps of giving back, in their order; `at_ms` counts from the guest's end, or from where `recover` began.
    pub back: Vec<TimedStep>,
    /// How long the vCPUs ran and waited, as of the last look: when QEMU said that it shuts down, or if it was gone by then, when
    /// the guest was asked to end. `None`: QEMU ended before anybody could look.
    pub vcpus: Option<Vec<VcpuTime>>,
    /// The changes to the host, in the order that they were made, with what became of each.
    pub changes: Vec<ReportedChange>,
    /// What of the host could not be restored.
    pub left: Vec<String>,
    /// Hooks that failed after the start.
    pub warnings: Vec<String>,
    /// What made the guest stutter, if that was asked for.
    pub stutter: Option<Stutter>,
}

/// A step with its time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimedStep {
    /// What was done; of giving back, what was undone.
    pub step: String,
    /// When it began.
    pub at_ms: f64,
    /// How long it took.
    pub took_ms: f64,
    /// Whether it did not succeed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
}

/// For how long the host's screen was black.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Black {
    /// When the start took the screen, from `started` on.
    pub from_ms: f64,
    /// The step that did.
    pub by: String,
    /// The guest's first sign of life. No picture of its can be seen from the host: it came between the guest's first
    /// instruction and, most likely, this.
    pub sign: Option<Seen>,
    /// When the host had its screen again, as `back` counts.
    pub back_ms: Option<f64>,
}

/// A sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Which.
    pub sign: Sign,
    /// When it was seen, from `started` on.
    pub at_ms: f64,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// When the host had been restored.
    pub time: Timestamp,
    /// When QEMU had ended, or the start had failed, from `started` on; `None`: nobody was there.
    pub at_ms: Option<f64>,
    /// What became of the guest.
    pub how: Ended,
    /// The same in words.
    pub words: String,
    /// The launcher's exit code; `None`: it was killed.
    pub code: Option<u8>,
    /// When `recover`, or the next start, restored the host in the launcher's stead.
    pub recovered: Option<Timestamp>,
}

/// What became of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// It shut down, or somebody ended it over QMP.
    ShutDown,
    /// It never ran.
    NotStarted,
    /// Somebody wanted QEMU forced to quit.
    Forced,
    /// QEMU or the guest crashed, or the launcher had to force QEMU to quit.
    Crashed,
    /// The launcher was killed, and nobody saw the guest's end.
    LauncherKilled,
}

/// How long a vCPU ran and waited.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VcpuTime {
    /// Its thread, as QEMU calls it: `CPU 0/KVM`.
    pub vcpu: String,
    /// How long it ran.
    pub ran_ms: f64,
    /// How long it was ready to run and had to wait for a CPU.
    pub waited_ms: f64,
}

/// A change to the host, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReportedChange {
    /// The change, as the plan shows it.
    pub change: String,
    /// What became of it.
    pub result: ChangeResult,
    /// What another program has put there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeResult {
    /// What was there before is there again.
    Restored,
    /// It was there already.
    AlreadyBack,
    /// Another program changed it since, so it was left alone.
    NotOurs,
    /// It stands.
    Stands,
}

impl ReportedChange {
    /// All changes in a journal's records.
    pub(in crate::run) fn all(records: &[Record]) -> Vec<Self> {
        let undone = |wanted: u32| {
            records.iter().find_map(|record| match record {
                Record::Undone { seq, how } if *seq == wanted => Some(how),
                _ => None,
            })
        };
        let one = |record: &Record| {
            let Record::Intent { seq, change, .. } = record else { return None };
            let (result, found) = match undone(*seq) {
                Some(Undone::Restored) => (ChangeResult::Restored, None),
                Some(Undone::AlreadyBack) => (ChangeResult::AlreadyBack, None),
                Some(Undone::NotOurs { found }) => (ChangeResult::NotOurs, Some(found.clone())),
                None => (ChangeResult::Stands, None),
            };
            Some(Self { change: change.to_string(), result, found })
        };
        records.iter().filter_map(one).collect()
    }
}

impl RunReport {
    /// The report of a run of which no more is known than when it began.
    pub(in crate::run) fn begun(name: &str, started: Timestamp, started_ms: Option<f64>) -> Self {
        Self {
            name: name.to_owned(),
            started,
            started_ms,
            start: Vec::new(),
            guest_ran_ms: None,
            black: None,
            relaunches: 0,
            end: None,
            back: Vec::new(),
            vcpus: None,
            changes: Vec::new(),
            left: Vec::new(),
            warnings: Vec::new(),
            stutter: None,
        }
    }

    /// How long the guest ran, if it has ended and somebody was there.
    pub fn guest_ms(&self) -> Option<f64> {
        Some((self.end.as_ref()?.at_ms? - self.guest_ran_ms?).max(0.0))
    }
}
