//! Notices that the partition of the vCPUs' CPUs is none any more, as after another program took one of its CPUs, and makes
//! it again. The kernel tells of it by the partition's file, so nobody wakes up while nothing happens.

use std::future::pending;
use std::io;
use std::path::PathBuf;

use rustix::fs::inotify::WatchFlags;

use super::inotify::Watched;
use crate::plan::Isolation;
use crate::units::{CpuSet, EFFECTIVE_CPUS};

/// How often it is made again: against a program that takes it away each time there is no winning.
const REPAIRS: u32 = 5;
const ISOLATED: &str = "isolated";

/// What became of a partition whose file has changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Looked {
    /// It stands, or its group is gone with QEMU.
    Fine,
    /// It was made again; the threads have lost their places, on some kernels.
    Repaired {
        /// What the file said.
        found: String,
    },
    /// It cannot be made again.
    Lost {
        /// What the file says.
        found: String,
    },
}

/// A watch on the partition.
pub(super) struct PartitionWatch {
    file: PathBuf,
    cpus: CpuSet,
    /// What is left to everything that is in no partition.
    rest: PathBuf,
    watched: Watched,
    left: u32,
}

impl PartitionWatch {
    /// Watches it, if there is one and it can be watched.
    pub fn watch(isolation: Option<&Isolation>) -> Option<Self> {
        let isolation = isolation?;
        let file = isolation.partition()?.join("cpuset.cpus.partition");
        let (cpus, rest) = (isolation.cpus.clone(), PathBuf::from(EFFECTIVE_CPUS));
        let watch = || -> io::Result<Self> {
            let watched = Watched::new(&file, WatchFlags::MODIFY)?;
            Ok(Self { file: file.clone(), cpus, rest, watched, left: REPAIRS })
        };
        let unwatched = |error: &io::Error| {
            tracing::warn!("whether {} stays a partition cannot be watched: {error}", file.display());
        };
        watch().inspect_err(unwatched).ok()
    }

    /// What the partition is. It may say that it is one while the host has some of its CPUs, so that is asked too.
    fn read(&self) -> io::Result<String> {
        let text = |path| std::fs::read_to_string(path).map(|text| text.trim_end().to_owned());
        let found = text(&self.file)?;
        let rest: CpuSet = text(&self.rest).ok().and_then(|list| list.parse().ok()).unwrap_or_default();
        let shared = rest.intersection(&self.cpus);
        Ok(if shared.is_empty() { found } else { format!("{found}, and the host has {} too", shared.numbered()) })
    }

    /// Looks at it, and makes it again if it is none. What this writes is told too, and then it is fine.
    pub fn look(&mut self) -> Looked {
        let Ok(found) = self.read() else { return Looked::Fine };
        if found == ISOLATED {
            return Looked::Fine;
        }
        // Some kernels take `isolated` over an invalid partition, and some do not.
        let write = |word: &str| std::fs::write(&self.file, word);
        if self.left == 0 || write("member").and_then(|()| write(ISOLATED)).is_err() {
            return Looked::Lost { found };
        }
        self.left -= 1;
        match self.read() {
            Ok(now) if now == ISOLATED => Looked::Repaired { found },
            Ok(found) => Looked::Lost { found },
            Err(_) => Looked::Fine,
        }
    }
}

/// Waits until the partition's file has changed; for ever if nothing is watched.
pub(super) async fn changed(watch: Option<&PartitionWatch>) -> io::Result<()> {
    match watch {
        Some(watch) => watch.watched.happens().await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::PlannedChange;
    use crate::units::Origin;

    #[tokio::test]
    async fn a_partition_that_is_none_any_more_is_made_again_and_not_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cpuset.cpus.partition");
        std::fs::write(&file, "isolated\n").unwrap();
        let cpus = CpuSet::from_iter([2]);
        let change = crate::change::Partition { group: folder.path().to_owned(), cpus: cpus.clone() }.into();
        let changes = vec![PlannedChange { change, origin: Origin::Default(String::new()), optional: false }];
        let isolation = Isolation { cpus, threads: None, slice: None, required: true, changes };
        let mut watch = PartitionWatch::watch(Some(&isolation)).unwrap();
        watch.rest = folder.path().join("cpuset.cpus.effective");
        std::fs::write(&watch.rest, "0-1,3\n").unwrap();
        assert_eq!(watch.look(), Looked::Fine);
        let invalid = "isolated invalid (Cpu list in cpuset.cpus not exclusive)";
        for _ in 0..REPAIRS {
            std::fs::write(&file, invalid).unwrap();
            changed(Some(&watch)).await.unwrap();
            assert_eq!(watch.look(), Looked::Repaired { found: invalid.to_owned() });
            assert_eq!(std::fs::read_to_string(&file).unwrap(), "isolated");
        }
        std::fs::write(&file, invalid).unwrap();
        assert_eq!(watch.look(), Looked::Lost { found: invalid.to_owned() });
        std::fs::write(&file, "isolated\n").unwrap();
        assert_eq!(watch.look(), Looked::Fine);
        std::fs::write(&watch.rest, "0-3\n").unwrap();
        assert_eq!(watch.look(), Looked::Lost { found: "isolated, and the host has CPU 2 too".to_owned() });
        std::fs::remove_file(&file).unwrap();
        assert_eq!(watch.look(), Looked::Fine);
        assert!(PartitionWatch::watch(None).is_none());
    }
}
