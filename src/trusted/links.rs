//! The way to a file that somebody else may have laid: a link in a user's folder must not lead root to what is not that
//! user's, whatever the machine file's author meant when he named it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat, readlinkat};

use super::MAX_LINKS;

/// A link on the way to a file of somebody else's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// The link.
    pub link: PathBuf,
    /// Whose it is.
    pub by: u32,
    /// Whose file it leads to.
    pub to: u32,
}

/// A file that was found and not opened, so that nothing has happened to it.
#[derive(Debug)]
pub struct Found {
    /// By `O_PATH`.
    pub file: File,
    /// A link by which another user than root and the file's owner leads here: root alone must not follow it, since others
    /// have no rights that this user has not.
    pub foreign: Option<Foreign>,
}

/// Looks for a file, step by step, so that nobody can exchange what was looked at.
pub fn find(path: &Path) -> io::Result<Found> {
    let mut rest: VecDeque<OsString> = std::path::absolute(path)?.iter().map(OsString::from).collect();
    let mut links: Vec<(PathBuf, u32)> = Vec::new();
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at: OwnedFd = openat(CWD, "/", flags, Mode::empty())?;
    let (mut shown, mut folder) = (PathBuf::from("/"), 0);
    while let Some(part) = rest.pop_front() {
        let next = openat(&at, part.as_os_str(), flags, Mode::empty())?;
        let next = File::from(next);
        let data = next.metadata()?;
        if data.is_symlink() {
            links.push((shown.join(&part), data.uid()));
            if links.len() > MAX_LINKS {
                return Err(io::Error::from_raw_os_error(libc::ELOOP));
            }
            let target = OsString::from_vec(readlinkat(&next, "", Vec::new())?.into_bytes());
            Path::new(&target).iter().rev().for_each(|part| rest.push_front(part.to_owned()));
            continue;
        }
        shown.push(&part);
        folder = File::from(std::mem::replace(&mut at, next.into())).metadata()?.uid();
    }
    let file = File::from(at);
    let data = file.metadata()?;
    let owner = data.uid();
    let mut foreign = links.into_iter().find(|(_, by)| *by != 0 && *by != owner);
    // A hard link has no owner of its own; the kernel lets others make one if fs.protected_hardlinks is off.
    if data.is_file() && data.nlink() > 1 && folder != 0 && folder != owner {
        foreign = foreign.or(Some((shown, folder)));
    }
    Ok(Found { file, foreign: foreign.map(|(link, by)| Foreign { link, by, to: owner }) })
}

/// As [`find`], but root is led by no link of another user's to what is not that user's.
pub fn find_own(path: &Path) -> io::Result<File> {
    let Found { file, foreign } = find(path)?;
    match foreign.filter(|_| nix::unistd::geteuid().is_root()) {
        None => Ok(file),
        Some(Foreign { link, by, to }) => {
            let words = format!("the link {} belongs to user {by}, and the file to user {to}", link.display());
            Err(io::Error::new(io::ErrorKind::PermissionDenied, words))
        }
    }
}

/// Opens what [`find_own`] finds, if it holds data or is a device. A FIFO would wait for its other end.
pub fn open(path: &Path, options: &OpenOptions, flags: i32) -> io::Result<File> {
    let found = find_own(path)?;
    let kind = found.metadata()?.file_type();
    if !kind.is_file() && !kind.is_block_device() && !kind.is_char_device() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is neither a file nor a device"));
    }
    // A terminal would wait for its line, or become ours.
    let wait = if kind.is_char_device() { libc::O_NONBLOCK | libc::O_NOCTTY } else { 0 };
    options.clone().custom_flags(flags | wait).open(format!("/proc/self/fd/{}", found.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::fs::{chown, lchown, symlink};

    fn reading() -> OpenOptions {
        let mut options = OpenOptions::new();
        options.read(true);
        options
    }

    #[test]
    fn links_of_folders_and_files_are_followed_as_the_kernel_does() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("real/deep")).unwrap();
        std::fs::write(at("real/disk"), "disk").unwrap();
        symlink("real/deep", at("folder")).unwrap();
        symlink("../disk", at("real/deep/up")).unwrap();
        symlink(at("folder/up"), at("whole")).unwrap();
        symlink("self", at("self")).unwrap();
        for path in ["real/disk", "folder/up", "folder/../disk", "whole", "real/./deep/../disk"] {
            let mut text = String::new();
            open(&at(path), &reading(), 0).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, std::fs::read_to_string(at(path)).unwrap(), "{path}");
        }
        assert_eq!(find(&at("self")).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        assert_eq!(find(&at("real/missing")).unwrap_err().raw_os_error(), Some(libc::ENOENT));
        assert_eq!(find(&at("real/disk/x")).unwrap_err().raw_os_error(), Some(libc::ENOTDIR));
    }

    #[test]
    fn what_would_wait_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [&fifo, dir.path()] {
            assert_eq!(open(path, &reading(), 0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    #[ignore = "changes owners, so it needs root: scripts/test runs it"]
    fn root_is_led_to_nothing_by_links_of_another_user() {
        const THEM: u32 = 1001;
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for folder in ["root", "theirs"] {
            std::fs::create_dir(at(folder)).unwrap();
        }
        chown(at("theirs"), Some(THEM), None).unwrap();
        for (file, owner) in [("root/disk", 0), ("theirs/disk", THEM)] {
            std::fs::write(at(file), "").unwrap();
            chown(at(file), Some(owner), None).unwrap();
        }
        let link = |to: &str, name: &str, owner: u32| {
            symlink(at(to), at(name)).unwrap();
            lchown(at(name), Some(owner), None).unwrap();
        };
        link("theirs/disk", "theirs/own", THEM);
        link("root/disk", "root/own", 0);
        link("theirs/own", "root/to-them", 0);
        link("root/disk", "theirs/planted", THEM);
        link("root", "theirs/folder", THEM);
        link("theirs/planted", "root/detour", 0);
        for fine in ["theirs/disk", "theirs/own", "root/own", "root/to-them"] {
            find_own(&at(fine)).unwrap_or_else(|error| panic!("{fine}: {error}"));
        }
        for (planted, named) in [
            ("theirs/planted", "theirs/planted"),
            ("theirs/folder/disk", "theirs/folder"),
            ("root/detour", "theirs/planted"),
        ] {
            let words = find_own(&at(planted)).unwrap_err().to_string();
            let expected = format!("the link {} belongs to user {THEM}, and the file to user 0", at(named).display());
            assert_eq!(words, expected);
        }
        std::fs::hard_link(at("root/disk"), at("theirs/hard")).unwrap();
        assert!(find_own(&at("theirs/hard")).is_err());
    }
}
