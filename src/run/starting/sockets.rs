//! The sockets that exist before QEMU and its helpers do: bound or joined by us, inherited by them, so that nobody has to
//! wait for anybody.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::plan::{Descriptor, Inherited};

/// QEMU's descriptors under their numbers, and our ends of those that have one.
#[derive(Debug)]
pub struct Sockets {
    /// What QEMU inherits: number and descriptor.
    pub qemu: Vec<(i32, OwnedFd)>,
    /// Our end of QEMU's monitor.
    pub qmp: UnixStream,
    /// The helpers' ends, by the helper's name.
    pub helpers: Vec<(String, OwnedFd)>,
}

/// The file whose lock tells that a machine's QEMU lives.
pub const GUEST_LOCK: &str = "guest.lock";

/// Makes all that QEMU inherits.
pub fn make(descriptors: &[Descriptor], run: &Path) -> Result<Sockets> {
    let (qmp, theirs) = UnixStream::pair()?;
    let mut monitor = Some(OwnedFd::from(theirs));
    let mut qemu = Vec::new();
    let mut helpers = Vec::new();
    for Descriptor { fd, what } in descriptors {
        let end = match what {
            Inherited::Qmp => monitor.take().context("the plan has two monitors for the launcher")?,
            Inherited::Listen(path) => OwnedFd::from(listen(path)?),
            Inherited::Helper(name) => {
                let (helper, qemu) = UnixStream::pair()?;
                helpers.push((name.clone(), OwnedFd::from(helper)));
                OwnedFd::from(qemu)
            }
        };
        qemu.push((*fd, end));
    }
    let next = descriptors.iter().map(|d| d.fd).max().unwrap_or(2) + 1;
    qemu.push((next, guest_lock(run)?));
    Ok(Sockets { qemu, qmp, helpers })
}

/// A listening socket that only its owner may connect to. One left by an earlier run is replaced.
pub fn listen(path: &Path) -> Result<UnixListener> {
    let bound = || -> std::io::Result<UnixListener> {
        if path.exists() {
            std::fs::remove_file(path)?;
        }
        // The folder is 0700, so nobody gets in between bind and chmod.
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    bound().with_context(|| format!("cannot listen on {}", path.display()))
}

/// A locked file. The lock belongs to the open file that QEMU inherits, not to a process number, so it stands just as
/// long as QEMU lives, whatever becomes of us (flock(2)).
fn guest_lock(run: &Path) -> Result<OwnedFd> {
    let path = run.join(GUEST_LOCK);
    let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    file.try_lock().map_err(|e| anyhow::anyhow!("cannot lock {}: {e}", path.display()))?;
    Ok(file.into())
}

/// Whether a QEMU of this machine lives, with or without a launcher.
pub fn guest_lives(run: &Path) -> bool {
    let Ok(file) = File::open(run.join(GUEST_LOCK)) else { return false };
    matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock))
}
