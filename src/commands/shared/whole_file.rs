//! Writes a file whole or not at all.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::trusted;

/// Writes the content into a new file beside `path`, which then takes its place: nobody sees half of it, and what is at `path`
/// is replaced, also a link, never written through.
pub fn write(path: &Path, content: &[u8]) -> Result<()> {
    let named = Named::new(path)?;
    let part = format!(".{}.{}", named.name.to_string_lossy(), std::process::id());
    let written = || -> std::io::Result<()> {
        let folder = named.folder()?;
        let (part, path) = (within(&folder, part.as_ref()), within(&folder, named.name));
        fill(&part, content, 0o644)?;
        std::fs::rename(&part, path).inspect_err(|_| drop(std::fs::remove_file(&part)))
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}

/// A file that was made.
#[derive(Debug)]
pub struct NewFile {
    /// Its folder, which nobody can exchange any more.
    _folder: File,
    path: PathBuf,
}

impl NewFile {
    /// Takes it away again.
    pub fn remove(self) {
        drop(std::fs::remove_file(&self.path));
    }
}

/// Writes a file that is not there, with these rights, less what the umask takes. What is there stays.
pub fn write_new(path: &Path, content: &[u8], mode: u32) -> Result<NewFile> {
    let named = Named::new(path)?;
    let written = || -> std::io::Result<NewFile> {
        let folder = named.folder()?;
        let path = within(&folder, named.name);
        fill(&path, content, mode)?;
        Ok(NewFile { _folder: folder, path })
    };
    written().with_context(|| format!("cannot make {}", path.display()))
}

/// A path's two parts.
struct Named<'a> {
    folder: &'a Path,
    name: &'a OsStr,
}

impl<'a> Named<'a> {
    fn new(path: &'a Path) -> Result<Self> {
        let folder = path.parent().map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
        let named = folder.zip(path.file_name()).map(|(folder, name)| Self { folder, name });
        named.with_context(|| format!("{} names no file", path.display()))
    }

    /// Opens the folder. Root is not led by a link of another user's into a folder that is not that user's
    /// ([`trusted::find_own`]), and nobody exchanges it afterwards.
    fn folder(&self) -> std::io::Result<File> {
        trusted::find_own(self.folder)
    }
}

/// The path of a file in an open folder.
fn within(folder: &File, name: &OsStr) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name)
}

/// Makes the file with all of its content, or not at all.
fn fill(path: &Path, content: &[u8], mode: u32) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    let done = file.write_all(content).and_then(|()| file.sync_all());
    done.inspect_err(|_| drop(std::fs::remove_file(path)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{lchown, symlink};

    use super::*;

    #[test]
    fn a_new_file_takes_the_place_of_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        let made = write_new(&file, b"first", 0o600).unwrap();
        assert!(write_new(&file, b"second", 0o600).is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "first");
        symlink("nowhere", dir.path().join("link")).unwrap();
        assert!(write_new(&dir.path().join("link"), b"x", 0o600).is_err() && !dir.path().join("nowhere").exists());
        made.remove();
        assert!(!file.exists());
    }

    #[test]
    fn a_name_alone_is_in_the_working_folder() {
        for (path, folder) in [("a", "."), ("./a", "."), ("/a", "/"), ("b/a", "b")] {
            let named = Named::new(Path::new(path)).unwrap();
            assert_eq!((named.folder, named.name), (Path::new(folder), OsStr::new("a")));
        }
        assert!(Named::new(Path::new("/")).is_err() && Named::new(Path::new("..")).is_err());
    }

    #[test]
    #[ignore = "changes owners, so it needs root: scripts/test runs it"]
    fn root_makes_no_file_where_a_link_of_another_user_leads() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        std::fs::create_dir(&real).unwrap();
        let link = dir.path().join("link");
        symlink(&real, &link).unwrap();
        write_new(&link.join("own"), b"", 0o600).unwrap();
        lchown(&link, Some(1001), None).unwrap();
        let made = write_new(&link.join("theirs"), b"", 0o600).map(drop);
        for refused in [made, write(&link.join("theirs"), b"")] {
            let error = format!("{:#}", refused.unwrap_err());
            assert!(error.contains("belongs to user 1001"), "{error}");
            assert_eq!(std::fs::read_dir(&real).unwrap().count(), 1);
        }
    }
}
