//! The CPUs of other machines' vCPUs, as the plans in their run directories have it.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::Path;

use serde::Deserialize;

use super::Root;
use crate::units::{CpuSet, run_files};

/// The files of a run directory that are locked for as long as the launcher or QEMU lives.
const LOCKS: [&str; 2] = [run_files::LOCK, run_files::GUEST_LOCK];
/// More than any plan of a machine that can run.
const MAX_PLAN: usize = 4 << 20;

/// What of a plan is of interest.
#[derive(Deserialize)]
struct Plan {
    placement: Placement,
}

#[derive(Deserialize)]
struct Placement {
    pinned: bool,
    vcpus: Vec<CpuSet>,
}

/// The CPUs of the pinned vCPUs of each machine that runs but `own`, below the folder of the run directories.
pub(super) fn cpus(root: &Root, run_dir: &Path, own: Option<&str>) -> BTreeMap<String, CpuSet> {
    let names = root.names(run_dir).into_iter().filter(|name| !name.starts_with('.') && Some(name.as_str()) != own);
    let running = names.filter_map(|name| {
        let folder = run_dir.join(&name);
        let is_locked = |lock: &&str| {
            let file = File::open(root.path(folder.join(lock))).ok();
            file.is_some_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
        };
        LOCKS.iter().any(is_locked).then_some(())?;
        let text = root.text_up_to(folder.join(run_files::PLAN), MAX_PLAN)?;
        let placement = serde_json::from_str::<Plan>(&text).ok()?.placement;
        let cpus: CpuSet = placement.vcpus.iter().flat_map(CpuSet::iter).collect();
        (placement.pinned && !cpus.is_empty()).then_some((name, cpus))
    });
    running.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::sample_tree;

    #[test]
    fn a_machine_has_its_cpus_while_a_process_of_it_lives() {
        let plan = r#"{"placement": {"pinned": true, "vcpus": ["4", "12"], "emulator": "0"}, "command": []}"#;
        let unpinned = plan.replace("true", "false");
        let folder = sample_tree::tree(&[
            ("run/a/guest.lock", ""),
            ("run/a/plan.json", plan),
            ("run/b/lock", "17"),
            ("run/b/plan.json", &unpinned),
            ("run/c/lock", ""),
            ("run/c/plan.json", "junk"),
        ]);
        let root = Root::new(folder.path());
        let read = |own| cpus(&root, Path::new("/run"), own);
        assert_eq!(read(None), BTreeMap::new());
        let locks = ["a/guest.lock", "b/lock", "c/lock"].map(|path| {
            let file = File::open(folder.path().join("run").join(path)).unwrap();
            file.lock().unwrap();
            file
        });
        assert_eq!(read(None), [("a".to_owned(), CpuSet::from_iter([4, 12]))].into());
        assert_eq!(read(Some("a")), BTreeMap::new());
        drop(locks);
    }
}
