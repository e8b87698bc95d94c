//! Ends what runs of a machine whose launcher died: its QEMU and its helpers, also those that no journal names.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::journal::{Journal, Record};
use crate::plan::Plan;
use crate::run::kept::guest_lock;
use crate::run::kept::launcher::holds;
use crate::run::left_behind::user;
use crate::run::process::Watched;
use crate::run::processes::{Processes, recorded_helpers, recorded_qemu};
use crate::run::supervising::reach_guest::REACH_LIMIT;
use crate::units::run_files;

/// Ends QEMU. Its number may not have reached the journal, and there may be processes that it made. Returns the message if
/// not even SIGKILL ends it.
pub(in crate::run) async fn end_qemu(run_dir: &Path, records: &[Record]) -> Result<Vec<String>> {
    let mut found: Vec<Watched> = recorded_qemu(records).transpose()?.flatten().into_iter().collect();
    found.extend(lock_holders(run_dir, run_files::GUEST_LOCK));
    let mut stuck = Vec::new();
    for process in &found {
        stuck.extend(process.end("QEMU").await.err().map(|stuck| stuck.to_string()));
    }
    let deadline = Instant::now() + REACH_LIMIT;
    while stuck.is_empty() && guest_lock::guest_lives(run_dir) {
        if Instant::now() > deadline {
            bail!("QEMU does not exit");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(stuck)
}

/// Ends the helpers of a dead run. `plan` is that run's, if it could be read. Returns a message for each that does not end.
pub(super) async fn end_helpers(run_dir: &Path, journal: &Journal, plan: Option<&Plan>) -> Result<Vec<String>> {
    let mut helpers = recorded_helpers(journal.records())?;
    helpers.extend(unrecorded_helpers(run_dir, plan, &helpers));
    Ok(Processes { helpers, ..Processes::default() }.end_all().await)
}

/// Helpers whose launcher died before it had noted their numbers. One that is taken over could have handed the lock to a program of
/// somebody else's; so only those are that have a helper's account and arguments.
fn unrecorded_helpers(run_dir: &Path, plan: Option<&Plan>, recorded: &[(String, Watched)]) -> Vec<(String, Watched)> {
    let us = nix::unistd::geteuid().as_raw();
    let is_helper = |pid: i32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = words.strip_suffix(b"\0").unwrap_or(&words).split(|byte| *byte == 0).collect();
        plan.into_iter().flat_map(|plan| plan.helpers.iter().map(move |helper| (plan, helper))).any(|(plan, helper)| {
            let account = helper.runs_as(plan.account.as_ref()).map_or(us, |account| account.uid);
            let arguments: Vec<&[u8]> = helper.argv.iter().skip(1).map(String::as_bytes).collect();
            user(pid) == Some(account) && words.ends_with(&arguments)
        })
    };
    let found = lock_holders(run_dir, run_files::HELPERS_LOCK);
    let unknown = found.filter(|found| recorded.iter().all(|(_, helper)| helper.pid() != found.pid()));
    unknown.filter(|found| is_helper(found.pid())).map(|found| ("a helper".to_owned(), found)).collect()
}

/// The processes that have this lock of the run directory, not those that only ask whether it is locked.
fn lock_holders(run_dir: &Path, name: &str) -> impl Iterator<Item = Watched> {
    let lock = run_dir.join(name);
    let file = std::fs::metadata(&lock).ok();
    let holders = file.into_iter().flat_map(move |file| {
        let open = crate::host::holders(&lock).into_iter();
        open.filter(move |pid| holds(*pid, &file))
    });
    // One that has ended meanwhile is not missed.
    holders.filter_map(|pid| Watched::child(pid).ok())
}
