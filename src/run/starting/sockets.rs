//! The sockets that QEMU and its helpers inherit: the launcher binds or pairs them before it starts these processes, so
//! that no process has to wait for a socket to appear.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::plan::{Descriptor, Inherited};
use crate::run::kept::guest_lock;

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
            Inherited::Device(path) => File::options()
                .read(true)
                .write(true)
                .open(path)
                .with_context(|| format!("cannot open {} for the guest", path.display()))?
                .into(),
            Inherited::Helper(name) => {
                let (helper, qemu) = UnixStream::pair()?;
                helpers.push((name.clone(), OwnedFd::from(helper)));
                OwnedFd::from(qemu)
            }
        };
        qemu.push((*fd, end));
    }
    let next = descriptors.iter().map(|d| d.fd).max().unwrap_or(2) + 1;
    qemu.push((next, guest_lock::take(run)?));
    Ok(Sockets { qemu, qmp, helpers })
}

/// A listening socket that only its owner may connect to. One left by an earlier run is replaced.
pub fn listen(path: &Path) -> Result<UnixListener> {
    let bound = || -> std::io::Result<UnixListener> {
        if path.exists() {
            std::fs::remove_file(path)?;
        }
        // The folder is 0700, so no other user can connect between bind and chmod.
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    bound().with_context(|| format!("cannot listen on {}", path.display()))
}
