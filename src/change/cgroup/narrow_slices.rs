//! Keep the host's programs off some CPUs: the slices of systemd's that they are in get the others, by systemd. The guest is in
//! a slice of its own, which keeps all.
//!
//! Machines share the host's slices. What each slice had before the first machine, and which CPUs each machine wants, stands in
//! a folder beside the run directories, so any machine's undo can be the last.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::cpuset_controller::CpusetController;
use super::files::{cpus, observed};
use super::unit_cpus;
use crate::change::error::{ChangeError, PartitionError};
use crate::change::record::{Nothing, Undone};
use crate::change::shared_folder::SharedFolder;
use crate::change::step::{Nature, Observed, Progress, Step};
use crate::host::Root;
use crate::units::CpuSet;

/// The folder's name beside the run directories.
const FOLDER: &str = ".slices";

/// Keep the host's programs off some CPUs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NarrowSlices {
    /// The machine.
    pub machine: String,
    /// The machine's run directory.
    pub run: PathBuf,
    /// The slice that exists for this machine alone. It keeps all CPUs; it is ended in the end, if nobody is in it.
    pub own: String,
    /// The units whose groups are at the top.
    pub units: Vec<String>,
    /// The CPUs that these leave.
    pub cpus: CpuSet,
    /// All CPUs of the host.
    pub all: CpuSet,
}

/// What there was before the first machine.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    /// Whether the controller was on at the top.
    on: bool,
    /// The units that were narrowed.
    units: BTreeMap<String, Found>,
}

/// What a unit had.
#[derive(Debug, Serialize, Deserialize)]
struct Found {
    /// Its CPUs; none: all.
    allowed: CpuSet,
    /// What systemd kept of that.
    drop_ins: Vec<PathBuf>,
    /// What machines have given it since. Anything else is another program's.
    given: Vec<CpuSet>,
}

impl Step for NarrowSlices {
    type Before = Nothing;

    fn nature(&self) -> Nature {
        Nature::PREPARES
    }

    /// What was there before stands in the shared folder, since another machine may have changed it.
    fn capture(&self, _: &Root) -> Result<Nothing, ChangeError> {
        Ok(Nothing::Nothing)
    }

    fn apply(&self, root: &Root, _: &Nothing, _: Progress<'_>) -> Result<(), ChangeError> {
        let shared = SharedFolder::lock_named(root, &self.run, FOLDER)?;
        let on = CpusetController::at_the_top().is_on(root)?;
        let mut state = shared.state()?.unwrap_or(State { on, units: BTreeMap::new() });
        let away = self.others(&shared).union(&self.cpus);
        let known: Vec<String> = state.units.keys().filter(|unit| !self.units.contains(unit)).cloned().collect();
        let mut wanted = Vec::new();
        for unit in self.units.iter().cloned().chain(known) {
            if unit_cpus::is_populated(root, &unit).is_none() {
                continue;
            }
            let now = unit_cpus::read(root, &unit)?;
            let fresh = || Found { allowed: now.clone(), drop_ins: kept(root, &unit), given: Vec::new() };
            let found = state.units.entry(unit.clone()).or_insert_with(fresh);
            if now != found.allowed && !found.given.contains(&now) {
                *found = fresh();
            }
            let narrow = self.without(&found.allowed, &away);
            if narrow == now {
                continue;
            }
            found.given.push(narrow.clone());
            wanted.push((unit, narrow));
        }
        shared.join(&self.machine, &self.cpus)?;
        // What was there before is kept before anything is changed.
        shared.keep(&state)?;
        for (unit, narrow) in &wanted {
            unit_cpus::set(root, unit, narrow)?;
        }
        for (unit, narrow) in &wanted {
            unit_cpus::wait(root, unit, narrow)?;
        }
        for unit in &self.units {
            self.verify(root, unit)?;
        }
        Ok(())
    }

    /// Gives the units the CPUs back that no other machine wants; the last machine gives them what they had.
    fn undo(&self, root: &Root, _: &Nothing) -> Result<Undone, ChangeError> {
        let mut undone = self.widen(root)?;
        if unit_cpus::is_populated(root, &self.own) == Some(false) {
            unit_cpus::stop(root, &self.own)?;
            undone = if undone == Undone::AlreadyBack { Undone::Restored } else { undone };
        }
        Ok(undone)
    }

    fn lock_files(&self, _: &Nothing) -> Vec<PathBuf> {
        Vec::new()
    }

    fn observe(&self, root: &Root) -> Vec<Observed> {
        self.units.iter().flat_map(|unit| observed(root, &unit_cpus::file(unit))).collect()
    }
}

impl NarrowSlices {
    /// The CPUs that other machines want.
    fn others(&self, shared: &SharedFolder) -> CpuSet {
        let parts = shared.others::<CpuSet>(&self.machine).filter_map(|(_, cpus)| cpus);
        parts.fold(CpuSet::new(), |all, cpus| all.union(&cpus))
    }

    /// What is left of a unit's CPUs (none: all). One that had no others gets those that are left to the host, as the kernel
    /// has it too.
    fn without(&self, allowed: &CpuSet, away: &CpuSet) -> CpuSet {
        let allowed = if allowed.is_empty() { &self.all } else { allowed };
        let left = allowed.difference(away);
        if left.is_empty() { self.all.difference(away) } else { left }
    }

    /// Reads back what the kernel makes of the list.
    fn verify(&self, root: &Root, unit: &str) -> Result<(), ChangeError> {
        let group = unit_cpus::group(unit);
        let file = group.join("cpuset.cpus.effective");
        if !root.is_real() || !file.exists() {
            return Ok(());
        }
        let shared = cpus(root, &file)?.intersection(&self.cpus);
        match shared.is_empty() {
            true => Ok(()),
            false => Err(PartitionError::NotNarrowed { group, shared: shared.to_string() }.into()),
        }
    }

    fn widen(&self, root: &Root) -> Result<Undone, ChangeError> {
        if !SharedFolder::exists(root, &self.run, FOLDER) {
            return Ok(Undone::AlreadyBack);
        }
        let shared = SharedFolder::lock_named(root, &self.run, FOLDER)?;
        let is_last = shared.others::<CpuSet>(&self.machine).next().is_none();
        if !shared.has(&self.machine) {
            // It may have got no further than the folder.
            if is_last {
                shared.remove()?;
            }
            return Ok(Undone::AlreadyBack);
        }
        let mut undone = Undone::Restored;
        if let Some(mut state) = shared.state::<State>()? {
            let away = self.others(&shared);
            let mut wanted = Vec::new();
            state.units.retain(|unit, found| {
                let Ok(now) = unit_cpus::read(root, unit) else { return true };
                if now != found.allowed && now != self.all && !found.given.contains(&now) {
                    undone = Undone::NotOurs { found: format!("AllowedCPUs={now} of {unit}") };
                    return false;
                }
                if !is_last {
                    let wide = self.without(&found.allowed, &away);
                    if wide != now {
                        found.given.push(wide.clone());
                        wanted.push((unit.clone(), wide));
                    }
                }
                true
            });
            match is_last {
                true => self.restore(root, &state)?,
                false => {
                    shared.keep(&state)?;
                    for (unit, wide) in &wanted {
                        unit_cpus::set(root, unit, wide)?;
                    }
                    for (unit, wide) in &wanted {
                        unit_cpus::wait(root, unit, wide)?;
                    }
                }
            }
        }
        match is_last {
            true => shared.remove()?,
            false => shared.leave(&self.machine)?,
        }
        Ok(undone)
    }

    /// Gives all units what they had. One that had no list gets all CPUs first: the kernel (tried with 6.12) leaves processes on
    /// the few that they had when it forgets the list, and it refuses to forget one (ENOSPC) while another program keeps the
    /// controller on.
    fn restore(&self, root: &Root, state: &State) -> Result<(), ChangeError> {
        let there: Vec<(&String, &Found)> =
            state.units.iter().filter(|(unit, _)| unit_cpus::is_populated(root, unit).is_some()).collect();
        let mut set = Vec::new();
        for (unit, found) in &there {
            let allowed = if found.allowed.is_empty() { &self.all } else { &found.allowed };
            // One that was given nothing has what it had.
            let is_back = unit_cpus::read(root, unit)? == found.allowed;
            if !found.given.is_empty() && !is_back {
                unit_cpus::set(root, unit, allowed)?;
                set.push((unit, allowed));
            }
        }
        for (unit, allowed) in set {
            unit_cpus::wait(root, unit, allowed)?;
        }
        let free: Vec<&str> =
            there.iter().filter(|(_, found)| found.allowed.is_empty()).map(|(unit, _)| unit.as_str()).collect();
        for unit in &free {
            if !unit_cpus::read(root, unit)?.is_empty() {
                unit_cpus::set(root, unit, &CpuSet::new())?;
            }
        }
        for (unit, found) in &state.units {
            for drop_in in kept(root, unit).iter().filter(|drop_in| !found.drop_ins.contains(drop_in)) {
                unit_cpus::forget(root, drop_in)?;
            }
        }
        if !state.on {
            unit_cpus::wait_for_the_controller(root, &free);
        }
        Ok(())
    }
}

/// What systemd keeps of the unit's CPUs.
fn kept(root: &Root, unit: &str) -> Vec<PathBuf> {
    unit_cpus::drop_ins(unit).into_iter().filter(|path| root.path(path).exists()).collect()
}

impl fmt::Display for NarrowSlices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keep {} off {}", self.units.join(", "), self.cpus.numbered())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::unattended;

    const SLICES: [&str; 2] = ["system.slice", "user.slice"];

    /// A host with CPUs 0 to 5, of which somebody has given user.slice some.
    fn host() -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        for (slice, list) in SLICES.iter().zip(["", "0-3"]) {
            let group = root.path(unit_cpus::group(slice));
            std::fs::create_dir_all(&group).unwrap();
            std::fs::write(group.join("cpuset.cpus"), list).unwrap();
        }
        std::fs::write(root.path("/sys/fs/cgroup/cgroup.subtree_control"), "memory pids").unwrap();
        unit_cpus::set(&root, "user.slice", &"0-3".parse().unwrap()).unwrap();
        (folder, root)
    }

    fn machine(root: &Root, name: &str, cpus: &str) -> NarrowSlices {
        let run = PathBuf::from("/run/vfio-run").join(name);
        std::fs::create_dir_all(root.path(&run)).unwrap();
        std::fs::write(root.path(run.join("journal")), "").unwrap();
        NarrowSlices {
            machine: name.to_owned(),
            run,
            own: format!("vfiorun{name}.slice"),
            units: SLICES.map(str::to_owned).to_vec(),
            cpus: cpus.parse().unwrap(),
            all: CpuSet::from_iter(0..6),
        }
    }

    fn lists(root: &Root) -> [String; 2] {
        SLICES.map(|slice| cpus(root, &unit_cpus::file(slice)).unwrap().to_string())
    }

    fn end(root: &Root, change: &NarrowSlices) -> Undone {
        let undone = change.undo(root, &Nothing::Nothing).unwrap();
        std::fs::remove_file(root.path(change.run.join("journal"))).unwrap();
        undone
    }

    #[test]
    fn machines_share_the_slices_and_the_last_gives_back_what_they_had() {
        for first_ends_first in [true, false] {
            let (_folder, root) = host();
            let (a, b) = (machine(&root, "a", "2-3"), machine(&root, "b", "4"));
            a.apply(&root, &Nothing::Nothing, &unattended).unwrap();
            assert_eq!(lists(&root), ["0-1,4-5", "0-1"]);
            b.apply(&root, &Nothing::Nothing, &unattended).unwrap();
            assert_eq!(lists(&root), ["0-1,5", "0-1"]);
            let [first, last] = if first_ends_first { [&a, &b] } else { [&b, &a] };
            assert_eq!(end(&root, first), Undone::Restored);
            assert_eq!(lists(&root), if first_ends_first { ["0-3,5", "0-3"] } else { ["0-1,4-5", "0-1"] });
            // A second time there is nothing of it left to take from the other.
            assert_eq!(first.undo(&root, &Nothing::Nothing).unwrap(), Undone::AlreadyBack);
            assert_eq!(end(&root, last), Undone::Restored);
            assert_eq!(lists(&root), ["", "0-3"]);
            let [ours, theirs] = SLICES.map(|slice| root.path(&unit_cpus::drop_ins(slice)[0]));
            assert!(!ours.exists() && std::fs::read_to_string(theirs).unwrap() == "0-3");
            assert!(!root.path("/run/vfio-run/.slices").exists());
        }
    }

    #[test]
    fn what_somebody_else_gave_a_slice_meanwhile_stays() {
        let (_folder, root) = host();
        let a = machine(&root, "a", "2-3");
        a.apply(&root, &Nothing::Nothing, &unattended).unwrap();
        unit_cpus::set(&root, "system.slice", &"1".parse().unwrap()).unwrap();
        let told = end(&root, &a);
        assert_eq!(told, Undone::NotOurs { found: "AllowedCPUs=1 of system.slice".to_owned() });
        assert_eq!(lists(&root), ["1", "0-3"]);
    }

    #[test]
    fn a_slice_that_has_only_the_guests_cpus_gets_those_that_are_left() {
        let (_folder, root) = host();
        let a = machine(&root, "a", "0-3");
        a.apply(&root, &Nothing::Nothing, &unattended).unwrap();
        assert_eq!(lists(&root), ["4-5", "4-5"]);
        assert_eq!(end(&root, &a), Undone::Restored);
        assert_eq!(lists(&root), ["", "0-3"]);
    }
}
