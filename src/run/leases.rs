//! The devices of a run, leased: held locked by the launcher, so that no other machine takes them meanwhile.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::host::lease;
use crate::plan::Plan;
use crate::units::PciAddress;

/// The leases of a run; given back when dropped, or with the process.
#[derive(Debug, Default)]
pub struct Leases {
    _held: Vec<Lease>,
}

/// The lease of one device: a locked file.
#[derive(Debug)]
struct Lease {
    /// Locked for as long as it is open.
    _file: File,
    path: PathBuf,
}

impl Drop for Lease {
    /// The name goes first, so that whoever waited for the lock sees that the file is no lease any more.
    fn drop(&mut self) {
        // A lease that stays counts for nothing without its lock.
        let _ = std::fs::remove_file(&self.path);
        // Fails while other devices are leased.
        let _ = self.path.parent().map(std::fs::remove_dir);
    }
}

impl Leases {
    /// Takes the lease of each device of the plan, all or none.
    pub fn take(plan: &Plan) -> Result<Self> {
        if plan.leases.is_empty() {
            return Ok(Self::default());
        }
        let run_dir = plan.paths.run.parent().context("a run directory lies in a folder")?;
        let folder = lease::folder(run_dir);
        let leases = plan.leases.iter().map(|address| take(&folder, *address, &plan.name));
        Ok(Self { _held: leases.collect::<Result<_>>()? })
    }
}

fn take(folder: &Path, address: PciAddress, name: &str) -> Result<Lease> {
    let path = lease::path(folder, address);
    // A launcher that ends removes the file, and with the last one the folder; then it is made anew.
    for _ in 0..8 {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path);
        let mut file = match opened {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.with_context(|| format!("cannot open {}", path.display()))?,
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let owner = lease::holder(folder, address).unwrap_or_default();
                bail!("{address} is given to the machine {owner}; `vfio-run stop {owner}` ends it");
            }
            Err(TryLockError::Error(e)) => return Err(e).with_context(|| format!("cannot lock {}", path.display())),
        }
        let ours = file.metadata()?;
        if std::fs::metadata(&path).is_ok_and(|now| (now.dev(), now.ino()) == (ours.dev(), ours.ino())) {
            file.set_len(0)?;
            file.write_all(name.as_bytes())?;
            return Ok(Lease { _file: file, path });
        }
    }
    bail!("{} keeps vanishing; other launchers are ending", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_goes_to_one_machine_and_the_other_learns_whom() {
        let folder = tempfile::tempdir().unwrap();
        let leases = folder.path().join("leases");
        let address: PciAddress = "01:00.0".parse().unwrap();
        let held = take(&leases, address, "win11").unwrap();
        assert_eq!(lease::holder(&leases, address).as_deref(), Some("win11"));
        let refused = take(&leases, address, "linux").unwrap_err().to_string();
        assert_eq!(refused, "0000:01:00.0 is given to the machine win11; `vfio-run stop win11` ends it");
        drop(held);
        assert_eq!(lease::holder(&leases, address), None);
        assert!(!leases.exists());
        // What a dead launcher wrote counts no more.
        std::fs::create_dir(&leases).unwrap();
        std::fs::write(lease::path(&leases, address), "a dead machine").unwrap();
        take(&leases, address, "linux").unwrap();
    }
}
