//! Makes the partition of the vCPUs' CPUs, once QEMU waits in its group.

use anyhow::{Context as _, Result};

use super::affinity::place;
use super::transient_unit::is_in_slice;
use crate::change::{Change, unattended};
use crate::host::Root;
use crate::journal::Journal;
use crate::plan::{Isolation, Plan, PlannedChange};
use crate::run::ending::restore::log_undo;
use crate::run::processes::Processes;

/// The isolation that an earlier launcher of the run made, if it stands.
pub fn standing<'p>(plan: &'p Plan, journal: &Journal) -> Option<&'p Isolation> {
    let isolation = plan.isolation.as_ref()?;
    let last = &isolation.changes.last()?.change;
    journal.open_changes().iter().any(|open| open.change == *last).then_some(isolation)
}

/// Makes it, if the plan has one, and returns it. One that nobody asked for is left out if it cannot be made.
///
/// # Errors
/// If the kernel, or systemd, refuses one that the machine file asks for.
pub fn isolate<'p>(plan: &'p Plan, root: &Root, journal: &mut Journal) -> Result<Option<&'p Isolation>> {
    let Some(isolation) = &plan.isolation else { return Ok(None) };
    for PlannedChange { change, .. } in &isolation.changes {
        tracing::debug!("{change}");
        let made = journal.make(root, change, &unattended);
        match made.with_context(|| format!("could not {change}")) {
            Ok(_) => {}
            Err(why) if isolation.required => {
                return Err(why.context("the guest was not started, because its vCPUs' CPUs could not be made its own"));
            }
            Err(why) => {
                tracing::warn!("other programs may run on the CPUs of {}: {why:#}", plan.name);
                give_up(plan, root, journal);
                return Ok(None);
            }
        }
    }
    // Before Linux 6.7 the kernel forgets masks also of threads that have nothing to do with these CPUs.
    for open in journal.open_changes() {
        if let (Change::Affinities(affinities), Ok(before)) = (&open.change, open.before.as_found()) {
            affinities.keep_others(root, &before, &isolation.cpus);
        }
    }
    Ok(Some(isolation))
}

/// Keeps the helpers off the vCPUs' CPUs if they are in the slice that has them, and the launcher if it is: nothing else does,
/// and the kernel has forgotten the CPUs that they were started on.
pub fn keep_off(plan: &Plan, isolation: &Isolation, processes: &Processes) {
    let Some(slice) = &isolation.slice else { return };
    let launcher = is_in_slice(slice).then(|| std::process::id() as i32);
    for process in processes.helpers.iter().map(|(_, helper)| helper.pid()).chain(launcher) {
        let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
        for thread in tasks.filter_map(|task| task.file_name().to_str()?.parse().ok()) {
            // One that has ended since needs no place.
            if let Err(error) = place(thread, &plan.placement.emulator) {
                tracing::debug!("thread {thread} of process {process} may run on the vCPUs' CPUs: {error:#}");
            }
        }
    }
}

/// Undoes it, for a QEMU that ends before the run does.
pub fn give_up(plan: &Plan, root: &Root, journal: &mut Journal) {
    let Some(isolation) = &plan.isolation else { return };
    let is_of_it = |change: &Change| isolation.changes.iter().any(|planned| planned.change == *change);
    for report in journal.undo_where(root, is_of_it) {
        log_undo(&report);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Cpusets;
    use crate::plan::sample::{self, Shape};
    use crate::units::CpuSet;

    /// Whether it was made on a host that cannot, and how many of its changes stand then.
    fn tried(host: &str) -> (Result<bool>, usize) {
        let folder = tempfile::tempdir().unwrap();
        let mut facts = sample::host(Shape::simple(4, 1));
        facts.process.uid = 0;
        facts.process.cgroup = Some("/user.slice/user-0.slice/session-1.scope".to_owned());
        let effective = CpuSet::from_iter(0..4);
        facts.cpusets = Some(Cpusets { offered: true, exclusive: true, effective, ..Cpusets::default() });
        let machine = format!("(guest: Other, memory: (size: \"1 GiB\"), cpu: (pin: \"2-3\"), host: ({host}))");
        let plan = sample::plan(&machine, &facts);
        assert!(plan.isolation.is_some());
        let mut journal = Journal::open(folder.path()).unwrap();
        let made = isolate(&plan, &Root::new(folder.path()), &mut journal).map(|made| made.is_some());
        (made, journal.open_changes().len())
    }

    #[test]
    fn a_guest_starts_without_what_nobody_asked_for() {
        let (made, standing) = tried("");
        assert!(!made.unwrap() && standing == 0);
    }

    #[test]
    fn a_guest_does_not_start_without_what_its_file_asks_for() {
        let (made, standing) = tried("isolate: Partition");
        let why = format!("{:#}", made.unwrap_err());
        assert!(why.contains("could not be made its own") && why.contains("subtree_control"), "{why}");
        // What stands is undone with all else.
        assert!(standing > 0);
    }
}
