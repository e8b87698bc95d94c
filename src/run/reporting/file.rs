//! Where the report of a run is kept: in the run directory while the machine runs, beside its log afterwards.

use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::contents::{End, Ended, ReportedChange, RunReport};
use super::timeline::Timeline;
use crate::journal::{self, Record};
use crate::plan::Plan;
use crate::run::kept::last_failure::bounded;
use crate::run::kept::{beside_log, plan_file};
use crate::run::outcome::{Outcome, Report};
use crate::trusted;
use crate::units::run_files;

/// The file's name is that of the log with this ending.
const ENDING: &str = "report.json";
/// More than any report: a start has some hundred steps at most.
const MAX_LENGTH: u64 = 16 << 20;

/// The report of the last run of the machine with this log.
pub fn path(log: &Path) -> PathBuf {
    log.with_extension(ENDING)
}

/// The report of the last run of the machine with this log; `None`: there is none.
pub fn read(log: &Path) -> io::Result<Option<RunReport>> {
    read_file(&path(log))
}

/// The report of the run that has this run directory; `None`: its guest does not run yet.
pub fn of_run(run_dir: &Path) -> io::Result<Option<RunReport>> {
    read_file(&run_dir.join(run_files::REPORT))
}

fn read_file(path: &Path) -> io::Result<Option<RunReport>> {
    match trusted::read(path, MAX_LENGTH) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{} is no report of a run: {error}", path.display()))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display()))),
    }
}

/// The names of the machines whose logs are in this folder and that have a report, in order.
pub fn names(log_dir: &Path) -> Vec<String> {
    beside_log::names(log_dir, ENDING)
}

/// Keeps what is known so far, for `vfio-run report` and for a launcher that takes over. A power failure takes it along with
/// the run, so nobody waits for a disk.
pub(in crate::run) fn keep_in_run_dir(run_dir: &Path, report: &RunReport) {
    let (path, part) = (run_dir.join(run_files::REPORT), run_dir.join("report.part"));
    let written = serde_json::to_vec(report).map_err(io::Error::from).and_then(|text| {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        io::Write::write_all(&mut file, &text)?;
        std::fs::rename(&part, &path)
    });
    if let Err(error) = written {
        tracing::debug!("`report` will not tell of this start while the machine runs: {error}");
    }
}

/// Forgets what a dead launcher of an earlier run left.
pub(in crate::run) fn forget(run_dir: &Path) {
    // Mostly there is none.
    drop(std::fs::remove_file(run_dir.join(run_files::REPORT)));
}

/// Writes the report of a run whose host was restored as far as could be. `changes` are those of its journal, after the undo.
pub(in crate::run) fn write(plan: &Plan, timeline: Timeline, report: &Report, changes: Vec<ReportedChange>) {
    let (how, words) = match &report.outcome {
        Outcome::ShutDown(reason) => (Ended::ShutDown, reason.clone()),
        Outcome::NotStarted(error) => (Ended::NotStarted, format!("{error:#}")),
        Outcome::Forced(words) => (Ended::Forced, words.clone()),
        Outcome::Crashed(words) => (Ended::Crashed, words.clone()),
    };
    let at_ms = timeline.ended_at();
    let mut kept = timeline.into_report();
    kept.end = Some(End {
        time: Timestamp::now(),
        at_ms,
        how,
        words: bounded(&words),
        code: Some(report.exit_code()),
        recovered: None,
    });
    kept.changes = changes;
    kept.left.clone_from(&report.left);
    kept.warnings.clone_from(&report.warnings);
    kept.stutter.clone_from(&report.stutter);
    if !report.left.is_empty() {
        // `recover` completes it.
        keep_in_run_dir(&plan.paths.run, &kept);
    }
    store(&plan.paths.log, &kept);
}

/// Completes the report of a run whose launcher was killed, or could not restore everything: the host was restored in its
/// stead. `timeline` has the steps of that; `warnings` come with those of the run. A rehearsal, and a launcher that died
/// before it did anything, have none.
pub(in crate::run) fn put_back(
    run_dir: &Path,
    plan: &Plan,
    timeline: Timeline,
    records: &[Record],
    left: &[String],
    warnings: Vec<String>,
) {
    if records.is_empty() || records.contains(&Record::Rehearsal) {
        return;
    }
    let now = Timestamp::now();
    let mut kept = timeline.into_report();
    let killed = || {
        let words = match journal::guest_ran(records) {
            true => "its launcher was killed while the guest ran",
            false => "its launcher was killed before the guest ran",
        };
        let how = Ended::LauncherKilled;
        End { time: now, at_ms: None, how, words: words.to_owned(), code: None, recovered: None }
    };
    kept.end.get_or_insert_with(killed).recovered = Some(now);
    kept.changes = ReportedChange::all(records);
    kept.left = left.to_vec();
    kept.warnings.extend(warnings);
    if !left.is_empty() {
        keep_in_run_dir(run_dir, &kept);
    }
    store(&plan.paths.log, &kept);
}

/// What the dead launcher of this run has noted, to be completed.
pub(in crate::run) fn of_dead(run_dir: &Path, plan: &Plan) -> Timeline {
    let noted = of_run(run_dir).ok().flatten().filter(|noted| noted.name == plan.name);
    let unknown = || RunReport::begun(&plan.name, plan_file::time(run_dir).unwrap_or_else(Timestamp::now), None);
    Timeline::of(noted.unwrap_or_else(unknown))
}

fn store(log: &Path, report: &RunReport) {
    // The host is restored whether or not this can be written.
    if let Err(error) = beside_log::write(&path(log), report) {
        tracing::warn!("the report of this run could not be kept in {}: {error}", path(log).display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Before, StopUnit};
    use crate::plan::sample::{self, Shape};

    fn plan(folder: &Path) -> Plan {
        let mut plan = sample::plan("(guest: Linux, memory: (size: \"1 GiB\"))", &sample::host(Shape::simple(4, 2)));
        (plan.paths.run, plan.paths.log) = (folder.join("run"), folder.join("log/a.log"));
        std::fs::create_dir(&plan.paths.run).unwrap();
        plan
    }

    fn stopped() -> Record {
        let before = Before::of(&serde_json::json!({ "exists": true })).unwrap();
        Record::Intent { seq: 1, change: StopUnit { unit: "gdm.service".to_owned() }.into(), before }
    }

    #[test]
    fn what_a_killed_launcher_noted_is_completed_by_who_restores_the_host() {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path());
        let mut timeline = Timeline::begin(&plan.name, &plan.screens, "lock, leases and journal");
        timeline.guest_runs();
        keep_in_run_dir(&plan.paths.run, timeline.report());
        let kept = of_run(&plan.paths.run).unwrap().unwrap();
        assert_eq!((&kept, &kept.end), (timeline.report(), &None));

        let records = [stopped(), Record::Running];
        let left = ["the rest".to_owned()];
        put_back(
            &plan.paths.run,
            &plan,
            of_dead(&plan.paths.run, &plan),
            &records,
            &left,
            vec!["the hook failed".to_owned()],
        );
        let first = read(&plan.paths.log).unwrap().unwrap();
        assert_eq!((first.start.len(), first.changes[0].result), (1, super::super::ChangeResult::Stands));
        assert_eq!((first.end.as_ref().unwrap().how, first.left.len()), (Ended::LauncherKilled, 1));
        assert_eq!(first.warnings, ["the hook failed"]);
        // The second attempt restores it all.
        let undone = Record::Undone { seq: 1, how: crate::change::Undone::Restored };
        let records = [stopped(), Record::Running, undone];
        put_back(&plan.paths.run, &plan, of_dead(&plan.paths.run, &plan), &records, &[], Vec::new());
        let second = read(&plan.paths.log).unwrap().unwrap();
        assert_eq!(second.changes[0].result, super::super::ChangeResult::Restored);
        assert!(
            second.left.is_empty() && second.start == first.start && second.warnings == first.warnings,
            "{second:?}"
        );
        assert_eq!(names(plan.paths.log.parent().unwrap()), ["a"]);
    }

    #[test]
    fn what_is_not_known_of_a_killed_start_is_left_open_and_a_rehearsal_has_no_report() {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path());
        let dead = || of_dead(&plan.paths.run, &plan);
        put_back(&plan.paths.run, &plan, dead(), &[], &[], Vec::new());
        put_back(&plan.paths.run, &plan, dead(), &[Record::Rehearsal, stopped()], &[], Vec::new());
        assert_eq!(read(&plan.paths.log).unwrap(), None);
        put_back(&plan.paths.run, &plan, dead(), &[stopped()], &[], Vec::new());
        let kept = read(&plan.paths.log).unwrap().unwrap();
        let end = kept.end.unwrap();
        assert!(kept.start.is_empty() && end.at_ms.is_none() && end.recovered.is_some(), "{end:?}");
        assert_eq!((end.words.as_str(), end.code), ("its launcher was killed before the guest ran", None));
    }

    #[test]
    fn nobody_is_led_to_another_file_and_what_is_no_report_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("a.log");
        assert_eq!(read(&log).unwrap(), None);
        std::fs::write(path(&log), "{}").unwrap();
        assert!(read(&log).unwrap_err().to_string().contains("is no report of a run"));
        std::fs::rename(path(&log), folder.path().join("other")).unwrap();
        std::os::unix::fs::symlink("other", path(&log)).unwrap();
        assert!(read(&log).unwrap_err().to_string().contains("cannot read"));
    }
}
