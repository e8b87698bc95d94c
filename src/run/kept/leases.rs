//! The devices of a run, leased: held locked by the launcher, so that no other machine takes them meanwhile.

use std::fmt::Display;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::folders;
use super::lock::is_at;
use crate::host::lease;
use crate::plan::Plan;

/// How often a launcher tries to take a lease whose file vanishes, or that another process looks at, at that moment.
const TRIES: u32 = 50;
/// How long a look takes at most, but for one that waits for a processor.
const LOOK: Duration = Duration::from_millis(2);

/// The leases of a run; they end when dropped, or with the process.
#[derive(Debug, Default)]
pub struct Leases {
    _held: Vec<Lease>,
}

/// The lease of one device: a locked file.
#[derive(Debug)]
pub(in crate::run) struct Lease {
    /// Locked for as long as it is open.
    _file: File,
    path: PathBuf,
    /// The machine.
    name: String,
}

/// A device cannot be leased.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Another machine's launcher has it.
    #[error("the machine {owner} has {device}; `vfio-run stop {owner}` ends it")]
    Held {
        /// The device.
        device: String,
        /// That machine.
        owner: String,
    },
    /// Another machine had it and has not restored it; its undo would take the device from the next guest.
    #[error("{device} still belongs to {owner}: its launcher died before restoring it. Run `vfio-run recover {owner}`")]
    Left {
        /// The device.
        device: String,
        /// That machine.
        owner: String,
    },
    /// The file could not be made, locked or written.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

impl Drop for Lease {
    /// The name goes first, so that a launcher that waited for the lock sees that the file is no lease any more.
    fn drop(&mut self) {
        // What was done to the device still stands, so the name stays for other machines to see.
        if self.path.parent().is_some_and(|folder| lease::has_journal(folder, &self.name)) {
            return;
        }
        self.remove();
    }
}

impl Lease {
    /// Takes the lease of a device that comes and goes while the guest runs.
    pub(in crate::run) fn take(plan: &Plan, device: &str) -> Result<Self, LeaseError> {
        let folder = folder_of(plan)?;
        is_free(&folder, device, &plan.name)?;
        take(&folder, device, &plan.name)
    }

    /// Gives back the lease of a device that the guest no longer has, though the machine still runs.
    pub(in crate::run) fn release(self) {
        self.remove();
    }

    fn remove(&self) {
        // A lease that stays counts for nothing without its lock.
        drop(std::fs::remove_file(&self.path));
        self.path.parent().map(remove_if_empty);
    }
}

/// The folder of leases of the user whose machine this is.
fn folder_of(plan: &Plan) -> Result<PathBuf> {
    Ok(lease::folder(plan.paths.run.parent().context("a run directory lies in a folder")?))
}

impl Leases {
    /// Takes the lease of each device of the plan, all or none.
    pub fn take(plan: &Plan) -> Result<Self, LeaseError> {
        let names: Vec<String> =
            plan.leases.iter().map(ToString::to_string).chain(plan.other_leases.iter().cloned()).collect();
        if names.is_empty() {
            return Ok(Self::default());
        }
        let folder = folder_of(plan)?;
        // All are looked at first, so that a refusal leaves no trace.
        names.iter().try_for_each(|name| is_free(&folder, name, &plan.name))?;
        let leases = names.iter().map(|name| take(&folder, name, &plan.name));
        Ok(Self { _held: leases.collect::<Result<_, _>>()? })
    }
}

/// Takes the leases of a dead launcher again: a device that is to be restored must still belong to this machine. An error
/// names the other machine that has it now, and whose guest an undo would take it from.
pub(in crate::run) fn take_again(plan: Option<&Plan>) -> Result<Leases> {
    match plan.map(Leases::take) {
        None => Ok(Leases::default()),
        Some(Ok(leases)) => Ok(leases),
        // The host is restored all the same.
        Some(Err(LeaseError::Failed(error))) => {
            tracing::warn!("{error:#}");
            Ok(Leases::default())
        }
        Some(Err(error)) => Err(error).context("nothing was restored"),
    }
}

/// Whether no other machine has the device, or left it bound for its guest.
fn is_free(folder: &Path, device: impl Display, name: &str) -> Result<(), LeaseError> {
    let device = device.to_string();
    if let Some(owner) = lease::holder(folder, &device) {
        return Err(LeaseError::Held { device, owner });
    }
    match lease::left_by(folder, &device).filter(|owner| owner != name) {
        Some(owner) => Err(LeaseError::Left { device, owner }),
        None => Ok(()),
    }
}

fn take(folder: &Path, device: impl Display, name: &str) -> Result<Lease, LeaseError> {
    let device = device.to_string();
    let path = lease::path(folder, &device);
    // A launcher that ends removes the file, and with the last one the folders; then they are made anew.
    for _ in 0..TRIES {
        folders::shared_folder(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path);
        let mut file = match opened {
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            other => other.with_context(|| format!("cannot open {}", path.display()))?,
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => match lease::holder(folder, &device) {
                Some(owner) => return Err(LeaseError::Held { device, owner }),
                // Somebody only looks, and is done when there is a processor for it.
                None => {
                    std::thread::sleep(LOOK);
                    continue;
                }
            },
            Err(TryLockError::Error(e)) => {
                return Err(anyhow::Error::new(e).context(format!("cannot lock {}", path.display())).into());
            }
        }
        if is_at(&file, &path) {
            let before = std::io::read_to_string(&file).unwrap_or_default();
            if !before.is_empty() && before != name {
                tracing::warn!("{device} was leased by the machine {before:?}, whose launcher died; taking it over");
            }
            file.set_len(0)
                .and_then(|()| file.rewind())
                .and_then(|()| file.write_all(name.as_bytes()))
                .with_context(|| format!("cannot write to {}", path.display()))?;
            return Ok(Lease { _file: file, path, name: name.to_owned() });
        }
    }
    Err(anyhow::anyhow!("{} keeps vanishing or being looked at; other launchers are ending", path.display()).into())
}

/// Removes what launchers left that died when all was put back and their leases were not yet given back. `run_dir`: where
/// the run directories are. Nobody is wronged by what stays: such a lease counts for nothing.
pub fn sweep(run_dir: &Path) {
    let folder = lease::folder(run_dir);
    // One at a time: what another one sees as stale may be removed and made anew meanwhile.
    let Some(_alone) = File::open(&folder).ok().filter(|open| open.try_lock().is_ok()) else { return };
    for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(&path);
        // Only a look for others: nobody may take this for a lease that is held.
        let Some(file) = opened.ok().filter(|file| file.try_lock_shared().is_ok()) else { continue };
        let name = std::io::read_to_string(&file).unwrap_or_default();
        if is_at(&file, &path) && !lease::has_journal(&folder, name.trim()) {
            drop(std::fs::remove_file(&path));
        }
    }
    remove_if_empty(&folder);
}

/// Removes the folder of leases when no device is leased, and with the last of all runs their folder: the run directory of
/// a launcher goes before its leases do.
fn remove_if_empty(folder: &Path) {
    if std::fs::remove_dir(folder).is_ok() {
        folders::remove_empty_parent(folder);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::units::PciAddress;

    #[test]
    fn a_device_goes_to_one_machine_and_the_other_learns_whom() {
        let folder = tempfile::tempdir().unwrap();
        let run_dirs = folder.path().join("vfio-run");
        let leases = lease::folder(&run_dirs);
        let address: PciAddress = "01:00.0".parse().unwrap();
        let held = take(&leases, address, "win11").unwrap();
        assert_eq!(lease::holder(&leases, address).as_deref(), Some("win11"));
        let refused = take(&leases, address, "linux").unwrap_err().to_string();
        assert_eq!(refused, "the machine win11 has 0000:01:00.0; `vfio-run stop win11` ends it");
        drop(held);
        assert_eq!(lease::holder(&leases, address), None);
        assert!(!run_dirs.exists());
        // What a dead launcher wrote counts no more, and goes when somebody recovers; what is held stays.
        let held = take(&leases, address, "win11").unwrap();
        let dead = lease::path(&leases, "0000:01:00.1");
        std::fs::write(&dead, "linux").unwrap();
        sweep(&run_dirs);
        assert!(held.path.exists() && !dead.exists());
        std::fs::write(&dead, "linux").unwrap();
        drop(held);
        sweep(&run_dirs);
        assert!(!run_dirs.exists());
        std::fs::create_dir_all(&leases).unwrap();
        std::fs::write(lease::path(&leases, address), "a dead machine").unwrap();
        is_free(&leases, address, "linux").unwrap();
        let said = folder.path().join("said");
        let listener =
            tracing_subscriber::fmt().with_ansi(false).with_writer(Arc::new(File::create(&said).unwrap())).finish();
        tracing::subscriber::with_default(listener, || take(&leases, address, "linux").unwrap());
        let said = std::fs::read_to_string(said).unwrap();
        let words = "0000:01:00.0 was leased by the machine \"a dead machine\", whose launcher died; taking it over";
        assert!(said.contains("WARN") && said.contains(words), "{said}");
    }

    #[test]
    fn a_device_that_is_unplugged_is_nobodys_though_its_machine_runs() {
        let folder = tempfile::tempdir().unwrap();
        let leases = lease::folder(folder.path());
        std::fs::create_dir(folder.path().join("win11")).unwrap();
        drop(crate::journal::Journal::open(&folder.path().join("win11")).unwrap());
        let held = take(&leases, "usb-3-2.1", "win11").unwrap();
        let refused = is_free(&leases, "usb-3-2.1", "linux").unwrap_err().to_string();
        assert_eq!(refused, "the machine win11 has usb-3-2.1; `vfio-run stop win11` ends it");
        held.release();
        is_free(&leases, "usb-3-2.1", "linux").unwrap();
        assert!(!leases.exists());
    }

    #[test]
    fn who_only_looks_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let leases = lease::folder(&folder.path().join("vfio-run"));
        std::fs::create_dir_all(&leases).unwrap();
        let address: PciAddress = "01:00.0".parse().unwrap();
        let path = lease::path(&leases, address);
        std::fs::write(&path, "win11").unwrap();
        let look = File::open(&path).unwrap();
        look.try_lock_shared().unwrap();
        let taken = std::thread::scope(|scope| {
            let taker = scope.spawn(|| take(&leases, address, "linux").map(drop));
            std::thread::sleep(LOOK);
            drop(look);
            taker.join().unwrap()
        });
        taken.unwrap();
        assert!(folder.path().exists() && !leases.exists());
    }

    #[test]
    fn a_device_that_was_not_put_back_stays_its_machines() {
        let folder = tempfile::tempdir().unwrap();
        let leases = lease::folder(folder.path());
        let address: PciAddress = "01:00.0".parse().unwrap();
        let run_dir = folder.path().join("win11");
        std::fs::create_dir(&run_dir).unwrap();
        drop(crate::journal::Journal::open(&run_dir).unwrap());
        drop(take(&leases, address, "win11").unwrap());
        assert_eq!(lease::left_by(&leases, address).as_deref(), Some("win11"));
        let refused = is_free(&leases, address, "linux").unwrap_err().to_string();
        assert!(refused.ends_with("Run `vfio-run recover win11`"), "{refused}");
        is_free(&leases, address, "win11").unwrap();
        let held = take(&leases, address, "win11").unwrap();
        assert_eq!(lease::left_by(&leases, address), None);
        // Once it is restored, nothing is left.
        std::fs::remove_dir_all(&run_dir).unwrap();
        drop(held);
        assert!(!leases.exists());
    }
}
