//! Opens what QEMU needs of a user's sound server, and makes sure that the server lets it in.

use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::unistd::{Gid, Uid, fchown};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::host::desktop::servers::{connects, lets_in, open_socket, read_cookie};
use crate::machine::SoundServer;
use crate::plan::Account;

/// Opens the socket of a server, so that QEMU can only connect to it. A server that is not there is told now, while there is
/// a screen.
///
/// # Errors
/// If the socket is not there or not its user's, or if the server does not let clients in.
pub fn server(server: SoundServer, socket: &Path, uid: u32, cookie: Option<&Path>) -> Result<OwnedFd> {
    let opened = server_socket(server, socket, uid, cookie);
    opened.with_context(|| format!("{} of user {uid} does not let the guest in at {}", server.name(), socket.display()))
}

fn server_socket(server: SoundServer, socket: &Path, uid: u32, cookie: Option<&Path>) -> Result<OwnedFd> {
    let (socket, _) = open_socket(socket, uid)?;
    match server {
        SoundServer::PipeWire => connects(socket.as_fd())?,
        SoundServer::Pulse => {
            let cookie = cookie.and_then(|path| read_cookie(path, uid).ok());
            lets_in(socket.as_fd(), cookie.as_deref())?;
        }
    }
    Ok(socket)
}

/// A copy of a user's cookie, in memory, which only QEMU's account can open.
///
/// # Errors
/// If it cannot be read, or is not that user's.
pub fn cookie(path: &Path, uid: u32, account: Option<&Account>) -> Result<OwnedFd> {
    let cookie = read_cookie(path, uid).with_context(|| format!("cannot copy {}", path.display()))?;
    let mut file = File::from(memfd_create("vfio-run-cookie", MemfdFlags::CLOEXEC)?);
    file.write_all(&cookie)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    if let Some(account) = account {
        fchown(&file, Some(Uid::from_raw(account.uid)), Some(Gid::from_raw(account.gid)))?;
    }
    Ok(file.into())
}
