//! The state of a TPM that swtpm has kept so far, in a folder such as libvirt's: whether a copy of it is of use.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};
use rustix::fs::{Mode, OFlags, openat};
use serde::{Deserialize, Serialize};

use super::Root;
use crate::trusted;

/// The file in swtpm's folder that holds all that a TPM 2.0 keeps while it is off (swtpm's `swtpm_nvstore.c`).
pub const FILE: &str = "tpm2-00.permall";
/// The file that a swtpm which uses the folder has locked (`swtpm_nvstore_dir.c`).
const LOCK: &str = ".lock";
/// The same of a TPM 1.2.
const OLD: &str = "tpm-00.permall";
/// More than libtpms makes of all that a TPM can hold.
const LIMIT: u64 = 4 << 20;
/// The length of swtpm's header, which ends with its flags and the length of the whole file, in the order of the network
/// (`blobheader` in `swtpm_nvstore.c`, which takes no file of another length).
const HEADER: usize = 10;
/// The flag of a state that is encrypted.
const ENCRYPTED: u16 = 1;

/// What a folder with a TPM's state is like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TpmState {
    /// It has a state that can be copied.
    Usable,
    /// It does not exist.
    Missing,
    /// It is a file, or something else that is no folder.
    NoFolder,
    /// It has no state of a TPM 2.0.
    Empty,
    /// It has one of a TPM 1.2, which is of no use to a TPM 2.0.
    Old,
    /// The state is encrypted, and only libvirt has the key.
    Encrypted,
    /// A swtpm has it locked.
    InUse,
    /// The file of the state is none that a swtpm takes: what is wrong with it.
    Broken(String),
    /// It cannot be read: the kernel's words, or whose a file of it is.
    Unreadable(String),
}

impl fmt::Display for TpmState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usable => f.write_str("it has the state of a TPM 2.0"),
            Self::Missing => f.write_str("it does not exist"),
            Self::NoFolder => f.write_str("it is no folder"),
            Self::Empty => write!(f, "it has no state of a TPM 2.0 (the file {FILE})"),
            Self::Old => f.write_str("it has the state of a TPM 1.2, which a TPM 2.0 cannot use"),
            Self::Encrypted => f.write_str("the state in it is encrypted, and vfio-run has no key"),
            Self::InUse => f.write_str("a swtpm that runs uses the state in it"),
            Self::Broken(why) | Self::Unreadable(why) => f.write_str(why),
        }
    }
}

/// Looks at a folder and changes nothing; a swtpm may start there meanwhile.
pub(super) fn look(root: &Root, folder: &Path) -> TpmState {
    match find(&root.path(folder)) {
        Ok(_) => TpmState::Usable,
        Err(state) => state,
    }
}

/// Reads the state in a folder whole. No swtpm can start there meanwhile, if one has ever run there; a copy has no lock yet, and
/// swtpm replaces the file whole, so what is read is whole too.
pub fn read(root: &Root, folder: &Path) -> Result<Vec<u8>, TpmState> {
    let Found { file, size, lock } = find(&root.path(folder))?;
    if let Some(lock) = &lock {
        // Given back with the descriptor.
        fcntl(lock, FcntlArg::F_OFD_SETLK(&reading())).map_err(|_| TpmState::InUse)?;
    }
    let mut bytes = vec![0; size];
    file.read_exact_at(&mut bytes, 0).map_err(unreadable)?;
    Ok(bytes)
}

/// A state that is neither encrypted nor in use.
struct Found {
    file: File,
    /// In bytes.
    size: usize,
    /// The file that a swtpm locks, if one has ever run there.
    lock: Option<File>,
}

fn find(folder: &Path) -> Result<Found, TpmState> {
    // Root is led by no link of another user's to what is not that user's.
    let folder = trusted::find_own(folder).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => TpmState::Missing,
        _ => unreadable(error),
    })?;
    let data = folder.metadata().map_err(unreadable)?;
    if !data.is_dir() {
        return Err(TpmState::NoFolder);
    }
    let Some(file) = open(&folder, FILE)? else {
        return Err(if open(&folder, OLD)?.is_some() { TpmState::Old } else { TpmState::Empty });
    };
    let kept = file.metadata().map_err(unreadable)?;
    // In a folder of another user's a second name may be that of a file of somebody else's.
    if kept.nlink() > 1 || kept.uid() != data.uid() {
        let words = format!("the file {FILE} in it belongs to user {}, or has a second name", kept.uid());
        return Err(TpmState::Unreadable(words));
    }
    let mut header = [0; HEADER];
    let size = kept.len();
    if size > LIMIT || file.read_exact_at(&mut header, 0).is_err() {
        let words = format!("the file {FILE} in it has {size} bytes, so it is no state of a TPM");
        return Err(TpmState::Broken(words));
    }
    let [.., flags_high, flags_low, a, b, c, d] = header;
    let whole = u64::from(u32::from_be_bytes([a, b, c, d]));
    if size < whole {
        let words = format!("the file {FILE} in it is cut off: it has {size} of {whole} bytes");
        return Err(TpmState::Broken(words));
    }
    if size > whole {
        let words = format!("the file {FILE} in it has {size} bytes and not the {whole} that it begins with");
        return Err(TpmState::Broken(words));
    }
    if u16::from_be_bytes([flags_high, flags_low]) & ENCRYPTED != 0 {
        return Err(TpmState::Encrypted);
    }
    let lock = open(&folder, LOCK)?;
    let in_use = |lock: &File| {
        let mut other = reading();
        fcntl(lock, FcntlArg::F_OFD_GETLK(&mut other)).is_ok() && other.l_type != libc::F_UNLCK as i16
    };
    match lock {
        Some(lock) if in_use(&lock) => Err(TpmState::InUse),
        lock => Ok(Found { file, size: size as usize, lock }),
    }
}

/// Opens a regular file in a folder; follows no link.
fn open(folder: &File, name: &str) -> Result<Option<File>, TpmState> {
    let found = match openat(folder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        found => File::from(found.map_err(|error| unreadable(error.into()))?),
    };
    if !found.metadata().map_err(unreadable)?.is_file() {
        return Err(TpmState::Broken(format!("{name} in it is no regular file")));
    }
    let opened = OpenOptions::new().read(true).open(format!("/proc/self/fd/{}", found.as_raw_fd()));
    opened.map(Some).map_err(unreadable)
}

/// The lock of one who reads, on the whole file, for fcntl(2).
fn reading() -> libc::flock {
    libc::flock { l_type: libc::F_RDLCK as i16, l_whence: libc::SEEK_SET as i16, l_start: 0, l_len: 0, l_pid: 0 }
}

fn unreadable(error: io::Error) -> TpmState {
    TpmState::Unreadable(format!("it cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A state's header: its version, the oldest that reads it, its length, its flags, and how long all is.
    fn state(flags: u8) -> Vec<u8> {
        [vec![2, 1, 0, 10, 0, flags, 0, 0, 0, 12], b"ek".to_vec()].concat()
    }

    #[test]
    fn a_state_is_read_only_if_a_copy_is_of_use() {
        let dir = tempfile::tempdir().unwrap();
        let (root, at) = (Root::new("/"), |name: &str| dir.path().join("tpm2").join(name));
        let said = || look(&root, &dir.path().join("tpm2"));
        assert_eq!(said(), TpmState::Missing);
        std::fs::create_dir(dir.path().join("tpm2")).unwrap();
        assert_eq!(said(), TpmState::Empty);
        std::fs::write(at(OLD), state(0)).unwrap();
        assert_eq!(said(), TpmState::Old);
        std::fs::write(at(FILE), state(0)).unwrap();
        assert_eq!(said(), TpmState::Usable);
        assert_eq!(read(&root, &dir.path().join("tpm2")), Ok(state(0)));
        std::fs::write(at(FILE), state(1)).unwrap();
        assert_eq!(said(), TpmState::Encrypted);
        std::fs::write(at(FILE), [2]).unwrap();
        assert!(matches!(said(), TpmState::Broken(why) if why.contains("has 1 bytes")));
        // As after a full disk, or `truncate`.
        std::fs::write(at(FILE), &state(0)[..11]).unwrap();
        assert!(matches!(said(), TpmState::Broken(why) if why.contains("is cut off: it has 11 of 12 bytes")));
        assert!(read(&root, &dir.path().join("tpm2")).is_err());
        std::fs::write(at(FILE), [state(0), vec![0]].concat()).unwrap();
        assert!(matches!(said(), TpmState::Broken(why) if why.contains("has 13 bytes and not the 12")));
        File::create(at(FILE)).unwrap().set_len(LIMIT + 1).unwrap();
        assert!(matches!(said(), TpmState::Broken(why) if why.contains("no state of a TPM")));
        // Nothing in it leads elsewhere, or waits.
        std::fs::remove_file(at(FILE)).unwrap();
        std::fs::write(at("other"), state(0)).unwrap();
        std::os::unix::fs::symlink(at("other"), at(FILE)).unwrap();
        assert!(matches!(said(), TpmState::Broken(why) if why.contains("no regular file")));
        std::fs::remove_file(at(FILE)).unwrap();
        nix::unistd::mkfifo(&at(FILE), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(said(), TpmState::Broken(why) if why.contains("no regular file")));
        std::fs::remove_file(at(FILE)).unwrap();
        std::fs::hard_link(at("other"), at(FILE)).unwrap();
        assert!(matches!(said(), TpmState::Unreadable(why) if why.contains("second name")));
    }

    #[test]
    fn a_state_that_a_swtpm_has_locked_is_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new("/");
        std::fs::write(dir.path().join(FILE), state(0)).unwrap();
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(dir.path().join(LOCK)).unwrap();
        assert_eq!(look(&root, dir.path()), TpmState::Usable);
        // As swtpm does, but bound to the descriptor: locks of this process itself would not count.
        let whole = libc::flock { l_type: libc::F_WRLCK as i16, ..reading() };
        fcntl(&lock, FcntlArg::F_OFD_SETLK(&whole)).unwrap();
        assert_eq!(look(&root, dir.path()), TpmState::InUse);
        assert_eq!(read(&root, dir.path()), Err(TpmState::InUse));
        drop(lock);
        assert_eq!(read(&root, dir.path()), Ok(state(0)));
    }
}
