//! The file system root that facts are read under, and tolerant, bounded reading below it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat};

use crate::units::CpuSet;

/// More than any file below /sys or /proc that is read whole; what lies beyond is not looked at.
const WHOLE: usize = 4 << 20;
/// The highest CPU or node number that is believed (`CONFIG_NR_CPUS` is at most 8192 on x86).
const MAX_NUMBER: u32 = 8191;
/// How much shorter time limits are below a root that is not the real one, where no driver or unit takes seconds.
const FAKE_SPEED: u32 = 10;

/// The file system root that facts are read under: `/`, or a captured tree in tests.
#[derive(Debug, Clone)]
pub struct Root(PathBuf);

impl Root {
    /// Reads below this folder.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// Whether this is the running host's own root, where devices may be asked.
    pub fn is_real(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// How long to wait for what the kernel or another program may take this long to do.
    pub fn limit(&self, limit: Duration) -> Duration {
        if self.is_real() { limit } else { limit / FAKE_SPEED }
    }

    /// The path below the root; a leading `/` of `path` is the root's.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A file's text without white space and NUL bytes at its ends, or `None` if it can't be read.
    pub fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        self.text_up_to(path, WHOLE)
    }

    /// As [`Root::text`], but at most so many bytes from the file's beginning. What is no UTF-8 becomes U+FFFD.
    pub fn text_up_to(&self, path: impl AsRef<Path>, limit: usize) -> Option<String> {
        let file = open(&self.path(path))?;
        Some(trim(&String::from_utf8_lossy(&read(file, limit)?)).to_owned())
    }

    /// All bytes of a regular file; an error if there are more than `limit`.
    pub fn bytes(&self, path: impl AsRef<Path>, limit: usize) -> io::Result<Vec<u8>> {
        let options = libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = OpenOptions::new().read(true).custom_flags(options).open(self.path(path))?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let mut bytes = Vec::new();
        file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > limit { Err(io::Error::other(format!("it has more than {limit} bytes"))) } else { Ok(bytes) }
    }

    /// A file's text parsed, or `None` if it can't be read or does not parse.
    pub fn parse<T: std::str::FromStr>(&self, path: impl AsRef<Path>) -> Option<T> {
        self.text_up_to(path, 4096)?.parse().ok()
    }

    /// A list of CPUs or nodes as the kernel writes it.
    pub fn list(&self, path: impl AsRef<Path>) -> Option<CpuSet> {
        list(&self.text_up_to(path, 64 << 10)?)
    }

    /// The last part of what a link leads to: `amdgpu` of `…/0000:01:00.0/driver`. `None` if it is no link.
    pub fn link(&self, path: impl AsRef<Path>) -> Option<String> {
        let target = std::fs::read_link(self.path(path)).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    /// The device of a bus on which this entry of a class in /sys hangs: of the folders on the way to it the last whose name
    /// reads as one (a PCI address, a USB port); those before it are what that device is plugged into.
    pub fn device_of<T: std::str::FromStr>(&self, entry: impl AsRef<Path>) -> Option<T> {
        let device = std::fs::canonicalize(self.path(entry)).ok()?;
        device.iter().filter_map(|part| part.to_str()?.parse().ok()).next_back()
    }

    /// Whether this process may read and write the file, by whatever right: mode, group or access list. `None`: it is not
    /// there, or this is not the running host.
    pub fn may_use(&self, file: &Path) -> Option<bool> {
        if !self.is_real() || !file.exists() {
            return None;
        }
        let rights = AccessFlags::R_OK | AccessFlags::W_OK;
        Some(faccessat(AT_FDCWD, file, rights, AtFlags::AT_EACCESS).is_ok())
    }

    /// Names of a folder's entries, sorted; none if it can't be read.
    pub fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path(path)) else { return Vec::new() };
        let mut names: Vec<_> =
            entries.flatten().take(65536).filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names
    }
}

/// Without what some kernels and captured trees have at the end of a value: blanks, and the NUL byte of a C string.
fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c == '\0')
}

/// Opens for reading; a FIFO in a strange place must not make us wait for its writer.
fn open(path: &Path) -> Option<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path).ok()
}

/// Reads to the end or the limit. Most attributes of sysfs fit one page, so this is two system calls and no `fstat`,
/// which counts on a host with 512 CPUs.
fn read(mut file: File, limit: usize) -> Option<Vec<u8>> {
    let mut page = [0; 4096];
    let mut bytes = Vec::new();
    while bytes.len() < limit {
        let room = page.len().min(limit - bytes.len());
        match file.read(&mut page[..room]) {
            Ok(0) => break,
            Ok(n) => bytes.extend_from_slice(&page[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    Some(bytes)
}

/// Parses a list as the kernel prints it (`%*pbl`): ascending, so that no text of bounded length can stand for endless
/// work. Anything else is unknown.
pub(super) fn list(text: &str) -> Option<CpuSet> {
    let text = trim(text);
    let mut numbers = Vec::new();
    let mut next = 0;
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        if first < next || last < first || last > MAX_NUMBER {
            return None;
        }
        numbers.extend(first..=last);
        next = last + 1;
    }
    Some(numbers.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_lists_of_the_kernel_and_nothing_else() {
        for text in ["", "0", "0-3,8", "0-8191"] {
            assert_eq!(list(text).unwrap().to_string(), text);
            assert_eq!(list(&format!("{text} \0\n\0")).unwrap().to_string(), text);
        }
        for text in ["a", "3-1", "1,1", "0-8191,0-8191", "0-8192", "0-4294967295", "-1", "1,,2", "\u{fffd}"] {
            assert_eq!(list(text), None, "{text}");
        }
    }

    #[test]
    fn reading_is_bounded_and_lossy() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        std::fs::write(folder.path().join("big"), vec![b'7'; 10_000]).unwrap();
        std::fs::write(folder.path().join("junk"), [0xff, 0xfe, b'x', b'\n']).unwrap();
        std::os::unix::fs::symlink("loop", folder.path().join("loop")).unwrap();
        assert_eq!(root.text_up_to("/big", 5000).unwrap().len(), 5000);
        assert_eq!(root.parse::<u64>("/big"), None);
        assert_eq!(root.text("/junk").unwrap(), "\u{fffd}\u{fffd}x");
        assert_eq!(root.text("/loop"), None);
        assert_eq!(root.text("/"), None);
        assert_eq!(root.text("/missing"), None);
        assert_eq!(root.bytes("/junk", 4).unwrap(), [0xff, 0xfe, b'x', b'\n']);
        assert_eq!(root.bytes("/junk", 3).unwrap_err().to_string(), "it has more than 3 bytes");
        assert_eq!(root.bytes("/", 3).unwrap_err().to_string(), "it is no regular file");
    }

    #[test]
    fn a_fifo_without_a_writer_does_not_block() {
        let folder = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&folder.path().join("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert_eq!(Root::new(folder.path()).text("/fifo").unwrap(), "");
    }

    #[test]
    fn a_path_stays_below_the_root() {
        let root = Root::new("/captured");
        assert_eq!(root.path("/proc/cpuinfo"), Path::new("/captured/proc/cpuinfo"));
    }
}
