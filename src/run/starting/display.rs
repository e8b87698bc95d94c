//! The folder in which QEMU makes its VNC or SPICE socket: it belongs to QEMU's account, and nobody else may enter. As soon
//! as QEMU has made the socket, and before the guest's first instruction, the socket is given to the user who is to look at
//! the screen, and the folder is taken from QEMU's account: a QEMU that a guest has taken over cannot fill `/run` there. QEMU
//! goes on listening; so the screen can be reached as long as QEMU lives, whatever becomes of the launcher.

use std::io::{Error, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Uid, chownat, fchmod, fchown, mkdirat, openat, symlinkat, unlinkat};
use rustix::process::{getegid, geteuid};

use crate::plan::{Link, Plan, Viewer};
use crate::qemu::command::QemuOption;
use crate::run::kept::folders;

/// Others may pass through it to a file that is theirs, and see no names.
const PASSED_THROUGH: u32 = 0o711;

/// Makes the folder with what QEMU must find in it, if the plan uses it.
pub(in crate::run) fn prepare(plan: &Plan) -> Result<()> {
    if !plan.uses_display_folder() {
        return Ok(());
    }
    let folder = &plan.paths.display;
    folders::private_folder(folder, plan.account.as_ref())?;
    for Link { at, fd } in &plan.links {
        link(folder, at, *fd).with_context(|| format!("cannot make {}", at.display()))?;
    }
    Ok(())
}

/// Makes a link to a file in memory. QEMU's account can change the folder, and a process of an earlier run might live, so
/// each step starts from a descriptor and follows no link.
fn link(display: &Path, at: &Path, fd: i32) -> std::io::Result<()> {
    let (inner, name) = at.parent().and_then(Path::file_name).zip(at.file_name()).ok_or(ErrorKind::InvalidInput)?;
    let display = open_folder(CWD, display)?;
    match mkdirat(&display, inner, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let inner = open_folder(&display, inner)?;
    fchmod(&inner, Mode::from_raw_mode(0o755))?;
    match unlinkat(&inner, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(symlinkat(format!("{}{fd}", QemuOption::FD_PATH), &inner, name)?)
}

fn open_folder(at: impl std::os::fd::AsFd, path: impl rustix::path::Arg) -> std::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(at, path, flags, Mode::empty())?)
}

/// Gives the socket to the user who is to look at the screen, and takes the folder from QEMU's account. Without that the guest
/// runs as well, so a failure is said and no more.
pub(in crate::run) fn hand_over(plan: &Plan) {
    let folder = &plan.paths.display;
    if let Some(Viewer { uid, socket }) = &plan.viewer
        && let Err(error) = give(folder, socket, *uid)
    {
        tracing::warn!("user {uid} cannot use {}: {error}", socket.display());
    }
    // Without an account QEMU runs as this user, to whom the folder stays.
    if plan.account.is_some()
        && plan.uses_display_folder()
        && let Err(error) = take(folder)
    {
        tracing::warn!("QEMU can write to {}: {error}", folder.display());
    }
}

fn give(folder: &Path, socket: &Path, uid: u32) -> std::io::Result<()> {
    let name = socket.file_name().ok_or(ErrorKind::InvalidInput)?;
    let folder = open_folder(CWD, folder)?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let socket = std::fs::File::from(openat(&folder, name, flags, Mode::empty())?);
    if !socket.metadata()?.file_type().is_socket() {
        return Err(Error::other("it is no socket"));
    }
    // Its mode came from QEMU's umask: it is for its owner alone.
    chownat(&socket, "", Some(Uid::from_raw(uid)), None, AtFlags::EMPTY_PATH)?;
    Ok(fchmod(&folder, Mode::from_raw_mode(PASSED_THROUGH))?)
}

/// QEMU's account may pass through from now on, as everybody may; helpers of that account connect there.
fn take(folder: &Path) -> std::io::Result<()> {
    let folder = open_folder(CWD, folder)?;
    fchown(&folder, Some(geteuid()), Some(getegid()))?;
    Ok(fchmod(&folder, Mode::from_raw_mode(PASSED_THROUGH))?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_link_is_made_anew_and_none_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("tls/server-key.pem");
        link(folder.path(), &at, 7).unwrap();
        link(folder.path(), &at, 8).unwrap();
        assert_eq!(std::fs::read_link(&at).unwrap(), Path::new("/proc/self/fd/8"));
        std::fs::remove_dir_all(folder.path().join("tls")).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        symlink(elsewhere.path(), folder.path().join("tls")).unwrap();
        assert!(link(folder.path(), &at, 7).is_err());
        assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_socket_is_given_and_the_folder_can_be_passed_through() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let socket = folder.path().join("vnc.sock");
        let uid = nix::unistd::geteuid().as_raw();
        assert!(give(folder.path(), &socket, uid).is_err());
        std::fs::write(&socket, "").unwrap();
        assert_eq!(give(folder.path(), &socket, uid).unwrap_err().to_string(), "it is no socket");
        assert_eq!(std::fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o700);
        std::fs::remove_file(&socket).unwrap();
        let _listener = UnixListener::bind(&socket).unwrap();
        give(folder.path(), &socket, uid).unwrap();
        assert_eq!(std::fs::metadata(&socket).unwrap().uid(), uid);
        assert_eq!(std::fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, PASSED_THROUGH);
    }
}
