//! Folders and files that no other user can exchange or write: made with exactly the mode that is meant, and believed only
//! if they belong to us.
//!
//! Without `$XDG_RUNTIME_DIR` and a home they are below /tmp, where another user may have been first. What they hold is
//! obeyed (hooks of a kept plan, the undo of a journal), so a path counts only if nobody else can change any part of it.

pub mod answers;
mod emptied;
mod links;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Component, Path, PathBuf};

pub use emptied::empty;
pub use links::{Foreign, find, find_own, open};

/// As many links as the kernel follows on one path (path_resolution(7)).
const MAX_LINKS: usize = 40;
/// How often a folder is made that launchers which end keep removing.
const ATTEMPTS: usize = 8;

/// Fails if a user other than root and us could exchange what is at this path, or what will be made there.
///
/// Each folder on the way, links followed, must belong to root or to us and be writable for nobody else, or be sticky, in
/// which nobody can exchange what is another's. A link must belong to root or to us. What is missing is made by us.
pub fn way(path: &Path) -> io::Result<()> {
    let us = nix::unistd::geteuid().as_raw();
    let mut rest: VecDeque<OsString> = std::path::absolute(path)?.iter().map(OsString::from).collect();
    let (mut at, mut links) = (PathBuf::new(), 0);
    while let Some(part) = rest.pop_front() {
        match Path::new(&part).components().next() {
            Some(Component::ParentDir) => {
                at.pop();
                continue;
            }
            Some(Component::RootDir) => at = PathBuf::from("/"),
            _ => at.push(&part),
        }
        let found = match std::fs::symlink_metadata(&at) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(named(&error, "cannot look at", &at)),
            Ok(found) => found,
        };
        let owner = found.uid();
        if owner != 0 && owner != us {
            let words = format!("{} belongs to user {owner}, who could exchange what is there", at.display());
            return Err(refused(&words, path));
        }
        if found.is_symlink() {
            links += 1;
            if links > MAX_LINKS {
                return Err(refused(&format!("{} is one link too many", at.display()), path));
            }
            let target = std::fs::read_link(&at)?;
            at.pop();
            target.iter().rev().for_each(|part| rest.push_front(part.to_owned()));
            continue;
        }
        let (mode, group) = (found.mode(), found.gid());
        if found.is_dir() && by_others(&found) && mode & 0o1000 == 0 {
            let words = format!("others can write to {} (group {group}, mode {:o})", at.display(), mode & 0o7777);
            return Err(refused(&words, path));
        }
    }
    Ok(())
}

/// As [`way`], and fails also if others can write to the file that is there. What is missing has the error of its kind.
pub fn file(path: &Path) -> io::Result<()> {
    way(path)?;
    let found = std::fs::metadata(path).map_err(|error| named(&error, "cannot look at", path))?;
    if by_others(&found) {
        let (group, mode) = (found.gid(), found.mode() & 0o7777);
        let words = format!("others can write to {} (group {group}, mode {mode:o})", path.display());
        return Err(refused(&words, path));
    }
    Ok(())
}

/// Whether a user other than root and us may write there by its permission bits.
fn by_others(found: &Metadata) -> bool {
    let (mode, group) = (found.mode(), found.gid());
    mode & 0o002 != 0 || mode & 0o020 != 0 && group != 0 && group != nix::unistd::getegid().as_raw()
}

/// Makes a folder of ours, and those that are missing on the way, or takes the one that is there. A mode without rights for
/// others is set exactly; of another one nothing may be missing, whatever the umask was when the folder was made.
///
/// `owner` (user and group) is whom it is given to. Fails with `NotFound` only if somebody removes it again and again.
pub fn folder(path: &Path, mode: u32, owner: Option<(u32, u32)>) -> io::Result<()> {
    way(path.parent().unwrap_or(Path::new("/")))?;
    let us = nix::unistd::geteuid().as_raw();
    for _ in 0..ATTEMPTS {
        make(path, mode)?;
        let found = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(path);
        let found = match found {
            // A launcher that ends removes the folder while it is empty.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(named(&error, "cannot open the folder", path)),
            Ok(found) => found,
        };
        let data = found.metadata()?;
        if data.uid() != us && owner.is_none_or(|(uid, _)| uid != data.uid()) {
            return Err(refused(&format!("{} belongs to user {}", path.display(), data.uid()), path));
        }
        let (is, all) = (data.mode() & 0o7777, mode | data.mode() & 0o7777);
        let wanted = if mode & 0o077 == 0 { mode } else { all };
        if wanted != is {
            found.set_permissions(Permissions::from_mode(wanted))?;
        }
        if let Some((uid, gid)) = owner.filter(|owner| *owner != (data.uid(), data.gid())) {
            std::os::unix::fs::fchown(&found, Some(uid), Some(gid))
                .map_err(|error| named(&error, &format!("cannot give user {uid} the folder"), path))?;
        }
        return Ok(());
    }
    Err(io::Error::new(ErrorKind::NotFound, format!("{} keeps vanishing", path.display())))
}

fn make(path: &Path, mode: u32) -> io::Result<()> {
    // Folders of the system are open to all; below a home or /tmp they are their owner's.
    let above = if nix::unistd::geteuid().is_root() { 0o755 } else { 0o700 };
    for _ in 0..ATTEMPTS {
        match DirBuilder::new().mode(mode).create(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => match path.parent() {
                Some(parent) if parent != path => folder(parent, above, None)?,
                _ => return Err(error),
            },
            Err(error) => return Err(named(&error, "cannot make the folder", path)),
        }
    }
    Err(io::Error::new(ErrorKind::NotFound, format!("{} keeps vanishing", path.display())))
}

/// Reads a file whole that only we can have written; at most so many bytes.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file =
        OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    is_ours(&file, path)?;
    let mut bytes = Vec::new();
    if file.take(limit + 1).read_to_end(&mut bytes)? as u64 > limit {
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("{} is longer than it can be", path.display())));
    }
    Ok(bytes)
}

/// Fails unless this open file is a regular one of ours.
pub fn is_ours(file: &File, path: &Path) -> io::Result<()> {
    let data = file.metadata()?;
    if !data.is_file() {
        return Err(refused(&format!("{} is no regular file", path.display()), path));
    }
    if data.uid() != nix::unistd::geteuid().as_raw() {
        return Err(refused(&format!("{} belongs to user {}", path.display(), data.uid()), path));
    }
    Ok(())
}

/// Opens a regular file, or a block device, for reading. A FIFO would wait for its writer, and there are character devices
/// that act when they are opened (a watchdog), so what it is is looked at first.
pub fn open_data(path: &Path) -> io::Result<File> {
    let there = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?;
    let kind = |data: Metadata| data.is_file() || data.file_type().is_block_device();
    if !kind(there.metadata()?) {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is no file with data"));
    }
    File::open(format!("/proc/self/fd/{}", there.as_raw_fd()))
}

fn refused(why: &str, path: &Path) -> io::Error {
    let words = format!("{why}; vfio-run keeps nothing at {}, and believes nothing there", path.display());
    io::Error::new(ErrorKind::PermissionDenied, words)
}

fn named(error: &io::Error, what: &str, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{chown, symlink};

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn set(path: &Path, mode: u32) {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_folder_has_its_mode_whatever_the_umask() {
        let dir = tempfile::tempdir().unwrap();
        let (shared, passed, own) = (dir.path().join("a"), dir.path().join("a/b"), dir.path().join("a/c"));
        // As with the umask 077, and as an earlier version left them.
        for path in [&shared, &passed] {
            DirBuilder::new().mode(0o700).create(path).unwrap();
        }
        DirBuilder::new().mode(0o755).create(&own).unwrap();
        folder(&shared, 0o755, None).unwrap();
        folder(&passed, 0o711, None).unwrap();
        folder(&own, 0o700, None).unwrap();
        assert_eq!([mode(&shared), mode(&passed), mode(&own)], [0o755, 0o711, 0o700]);
        set(&passed, 0o750);
        folder(&passed, 0o711, None).unwrap();
        assert_eq!(mode(&passed), 0o751);
    }

    #[test]
    fn a_way_that_others_can_write_to_is_refused_with_all_below_it() {
        let dir = tempfile::tempdir().unwrap();
        let open = dir.path().join("open");
        std::fs::create_dir_all(open.join("own/deep")).unwrap();
        for (bits, fine) in [(0o755, true), (0o777, false), (0o1777, true), (0o775, true)] {
            set(&open, bits);
            for path in ["own/deep", "own", "missing", ""] {
                assert_eq!(way(&open.join(path)).is_ok(), fine, "{bits:o} {path}");
            }
            assert_eq!(folder(&open.join("own/new"), 0o700, None).is_ok(), fine, "{bits:o}");
            drop(std::fs::remove_dir(open.join("own/new")));
            symlink(open.join("own"), dir.path().join("link")).unwrap();
            assert_eq!(way(&dir.path().join("link/deep")).is_ok(), fine, "{bits:o}");
            std::fs::remove_file(dir.path().join("link")).unwrap();
        }
        symlink("self", dir.path().join("self")).unwrap();
        assert!(way(&dir.path().join("self")).is_err());
        assert!(way(Path::new("/../proc/self/../..")).is_ok());
    }

    #[test]
    #[ignore = "changes owners, so it needs root: scripts/test runs it"]
    fn what_another_user_owns_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        set(dir.path(), 0o1777);
        let theirs = dir.path().join("vfio-run-0");
        std::fs::create_dir_all(theirs.join("run")).unwrap();
        chown(&theirs, Some(1001), Some(1001)).unwrap();
        let words = folder(&theirs.join("run"), 0o700, None).unwrap_err().to_string();
        assert!(words.contains("vfio-run-0 belongs to user 1001, who could exchange what is there"), "{words}");
        assert!(folder(&theirs, 0o700, None).is_err());
        folder(&theirs, 0o700, Some((1001, 1001))).unwrap();
        symlink("/", dir.path().join("link")).unwrap();
        assert!(way(&dir.path().join("link")).is_ok());
        std::os::unix::fs::lchown(dir.path().join("link"), Some(1001), None).unwrap();
        assert!(way(&dir.path().join("link")).is_err());
        let file = dir.path().join("journal");
        std::fs::write(&file, "x").unwrap();
        assert_eq!(read(&file, 10).unwrap(), b"x");
        chown(&file, Some(1001), None).unwrap();
        let words = read(&file, 10).unwrap_err().to_string();
        assert!(words.contains("belongs to user 1001"), "{words}");
    }

    #[test]
    fn only_whole_regular_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), "12345").unwrap();
        symlink(at("file"), at("link")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert_eq!(read(&at("file"), 5).unwrap(), b"12345");
        assert_eq!(read(&at("file"), 4).unwrap_err().kind(), ErrorKind::FileTooLarge);
        for name in ["link", "fifo", "", "missing"] {
            assert!(read(&at(name), 5).is_err(), "{name}");
        }
        let mut text = String::new();
        open_data(&at("link")).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "12345");
        for path in [at("fifo"), at(""), PathBuf::from("/dev/null")] {
            assert!(open_data(&path).is_err(), "{}", path.display());
        }
    }
}
