//! The devices of a run, leased: held locked by the launcher, so that no other machine takes them meanwhile.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::host::lease;
use crate::plan::Plan;
use crate::units::PciAddress;

/// The leases of a run; given back when dropped, or with the process.
#[derive(Debug, Default)]
pub struct Leases {
    _files: Vec<File>,
}

impl Leases {
    /// Takes the lease of each device of the plan, all or none.
    pub fn take(plan: &Plan) -> Result<Self> {
        let mut files = Vec::new();
        if plan.leases.is_empty() {
            return Ok(Self::default());
        }
        let run_dir = plan.paths.run.parent().context("a run directory lies in a folder")?;
        let folder = lease::folder(run_dir);
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        for address in &plan.leases {
            files.push(take(&folder, *address, &plan.name)?);
        }
        Ok(Self { _files: files })
    }
}

/// The file stays when the lease ends: were it removed, two machines could each lock a file of this name.
fn take(folder: &Path, address: PciAddress, name: &str) -> Result<File> {
    let path = lease::path(folder, address);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let owner = lease::holder(folder, address).unwrap_or_default();
            bail!("{address} is given to the machine {owner}; `vfio-run stop {owner}` ends it");
        }
        Err(TryLockError::Error(e)) => return Err(e).with_context(|| format!("cannot lock {}", path.display())),
    }
    file.set_len(0)?;
    file.write_all(name.as_bytes())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_goes_to_one_machine_and_the_other_learns_whom() {
        let folder = tempfile::tempdir().unwrap();
        let address: PciAddress = "01:00.0".parse().unwrap();
        let held = take(folder.path(), address, "win11").unwrap();
        assert_eq!(lease::holder(folder.path(), address).as_deref(), Some("win11"));
        let refused = take(folder.path(), address, "linux").unwrap_err().to_string();
        assert_eq!(refused, "0000:01:00.0 is given to the machine win11; `vfio-run stop win11` ends it");
        drop(held);
        // What a dead launcher wrote counts no more.
        assert_eq!(lease::holder(folder.path(), address), None);
        take(folder.path(), address, "linux").unwrap();
    }
}
