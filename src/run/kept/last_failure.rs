//! Why a machine's last start failed, kept beside its log until a start succeeds. A user whose screen went black and came
//! back finds it in `vfio-run status` and `check`, also after a reboot.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::{beside_log, plan_file};
use crate::journal::Record;
use crate::run::outcome::Outcome;
use crate::trusted;
use crate::units::{counted, printable, printable_up_to};

/// The file's name is that of the log with this ending.
const ENDING: &str = "failure";
/// How much of an error is kept.
const MAX_LINES: usize = 32;
const MAX_LINE: usize = 4096;
/// More than any such file.
const MAX_SIZE: u64 = 256 << 10;

/// A run that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastFailure {
    /// When the host had been restored.
    pub time: Timestamp,
    /// How far it had come.
    pub stage: Stage,
    /// Why, with all that led to it.
    pub error: String,
    /// The changes to the host that were made and undone.
    pub undone: Vec<String>,
    /// What of the host could not be restored then.
    pub left: Vec<String>,
    /// The machine's log.
    pub log: PathBuf,
}

/// How far a run had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The host was being prepared.
    Preparing,
    /// QEMU was being started.
    Starting,
    /// The guest ran.
    Running,
}

impl Stage {
    fn of(records: &[Record]) -> Self {
        let started = |record: &Record| match record {
            Record::Started { name, .. } => name == "qemu",
            record => *record == Record::Relaunch,
        };
        if records.contains(&Record::Running) {
            Self::Running
        } else if records.iter().any(started) {
            Self::Starting
        } else {
            Self::Preparing
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Preparing => "while the host was being prepared",
            Self::Starting => "while QEMU was being started",
            Self::Running => "while the guest ran",
        }
    }
}

impl LastFailure {
    /// That of the machine with this log, if its last start failed; `None` also if the file cannot be read.
    pub fn of(log: &Path) -> Option<Self> {
        serde_json::from_slice(&trusted::read(&path(log), MAX_SIZE).ok()?).ok()
    }

    /// The names of the machines whose logs are in this folder and whose last start failed, in order.
    pub fn names(log_dir: &Path) -> Vec<String> {
        beside_log::names(log_dir, ENDING)
    }

    /// For people: when, at which stage, why, and which log has more.
    pub fn describe(&self, name: &str) -> String {
        let when = self.time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M");
        // What QEMU and other programs said is in it; no line of theirs may look like one of ours.
        let mut lines = self.error.lines().map(|line| printable(line.trim_start()));
        let mut text = format!(
            "the last start of {name}, {when}, failed {}: {}",
            self.stage.words(),
            lines.next().unwrap_or_default()
        );
        lines.for_each(|line| text.push_str(&format!("\n    {line}")));
        let undone = counted(self.undone.len(), "change", "changes");
        text.push_str(&format!("\n  undone: {undone} to the host; log: {}", self.log.display()));
        for left in &self.left {
            text.push_str(&format!("\n  not restored then: {}", printable(left)));
        }
        text
    }
}

/// An error's words, cut after so many lines and bytes that the file is always read again.
pub(in crate::run) fn bounded(error: &str) -> String {
    let lines = error.lines().take(MAX_LINES).map(|line| printable_up_to(line, MAX_LINE));
    lines.collect::<Vec<_>>().join("\n")
}

fn path(log: &Path) -> PathBuf {
    log.with_extension(ENDING)
}

/// Writes down why a run failed, if it did. `records` are those of its journal, after the undo.
pub(in crate::run) fn write(log: &Path, outcome: &Outcome, records: &[Record], left: &[String]) {
    let error = match outcome {
        Outcome::NotStarted(error) => format!("{error:#}"),
        Outcome::Crashed(words) => words.clone(),
        Outcome::ShutDown(_) | Outcome::Forced(_) => return,
    };
    store(log, error, records, left);
}

/// Writes down that the launcher was killed, unless it had written why it failed itself.
pub(in crate::run) fn write_killed(run_dir: &Path, log: &Path, records: &[Record], left: &[String]) {
    let begun = plan_file::time(run_dir);
    let told = LastFailure::of(log).is_some_and(|known| begun.is_some_and(|begun| known.time >= begun));
    // A rehearsal is no start.
    if !told && !records.is_empty() && !records.contains(&Record::Rehearsal) {
        store(log, "its launcher was killed".to_owned(), records, left);
    }
}

fn store(log: &Path, error: String, records: &[Record], left: &[String]) {
    let undone = |record: &Record| match record {
        Record::Intent { seq, change, .. } => records
            .iter()
            .any(|other| matches!(other, Record::Undone { seq: its, .. } if its == seq))
            .then(|| change.to_string()),
        _ => None,
    };
    let failure = LastFailure {
        time: Timestamp::now(),
        stage: Stage::of(records),
        error: bounded(&error),
        undone: records.iter().filter_map(undone).collect(),
        left: left.to_vec(),
        log: log.to_owned(),
    };
    // The host is restored whether or not this can be written.
    if let Err(error) = beside_log::write(&path(log), &failure) {
        tracing::warn!("cannot write down why this start failed: {error}");
    }
}

/// Removes it, since the machine has started.
pub(in crate::run) fn remove(log: &Path) {
    if let Err(error) = forget(log) {
        tracing::warn!("{error}");
    }
}

/// Removes it, since somebody knows of it. Says whether there was one.
pub fn forget(log: &Path) -> std::io::Result<bool> {
    match std::fs::remove_file(path(log)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(std::io::Error::new(error.kind(), format!("cannot remove {}: {error}", path(log).display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Before, Change, StopUnit, Undone};
    use crate::units::run_files;

    #[test]
    fn the_last_failure_is_kept_until_a_start_succeeds() {
        let folder = tempfile::tempdir().unwrap();
        // Nothing was logged before, so there is no folder for it.
        let folder = folder.path().join("log");
        let log = folder.join("win.11.log");
        let change = Change::from(StopUnit { unit: "gdm.service".to_owned() });
        let before = Before::of(&serde_json::json!({ "exists": true })).unwrap();
        let records = [
            Record::Intent { seq: 1, change: change.clone(), before: before.clone() },
            Record::Done { seq: 1 },
            Record::Intent { seq: 2, change, before },
            Record::Undone { seq: 1, how: Undone::Restored },
        ];
        let failed = Outcome::NotStarted(anyhow::anyhow!("no").context("could not stop gdm.service"));
        write(&log, &Outcome::ShutDown("guest-shutdown".to_owned()), &records, &[]);
        // It is what somebody wanted.
        write(&log, &Outcome::Forced("QEMU was forced to quit".to_owned()), &records, &[]);
        assert_eq!(LastFailure::of(&log), None);
        write(&log, &failed, &records, &["the rest".to_owned()]);
        assert_eq!(LastFailure::names(&folder), ["win.11"]);
        let known = LastFailure::of(&log).unwrap();
        assert_eq!((known.stage, known.undone.len()), (Stage::Preparing, 1));
        let told = known.describe("win.11");
        assert!(told.contains("failed while the host was being prepared: could not stop gdm.service: no\n"), "{told}");
        assert!(told.ends_with("not restored then: the rest"), "{told}");
        let words = "no\u{1b}[2J\nvfio-run: the host is as it was\n".to_owned() + &"x\n".repeat(200_000);
        write(&log, &Outcome::Crashed(words), &records, &[]);
        let told = LastFailure::of(&log).unwrap().describe("win.11");
        assert!(!told.contains('\u{1b}') && told.contains("\n    vfio-run: the host"), "{told}");
        remove(&log);
        assert_eq!(LastFailure::of(&log), None);
        // There is nothing to remove.
        remove(&log);
    }

    #[test]
    fn a_killed_launcher_is_written_down_unless_it_wrote_more_itself() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("a.log");
        std::fs::write(folder.path().join(run_files::PLAN), "").unwrap();
        write_killed(folder.path(), &log, &[Record::Running], &[]);
        let known = LastFailure::of(&log).unwrap();
        assert_eq!((known.stage, known.error.as_str()), (Stage::Running, "its launcher was killed"));
        write(&log, &Outcome::Crashed("QEMU crashed".to_owned()), &[], &[]);
        write_killed(folder.path(), &log, &[Record::Running], &[]);
        assert_eq!(LastFailure::of(&log).unwrap().error, "QEMU crashed");
    }
}
