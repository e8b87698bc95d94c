//! What programs answered when they were asked what they can do, in files of ours, so that a start does not ask again.
//!
//! What stands there becomes part of command lines, so a file is believed only if nobody else can have written it; and the
//! caller believes it only while the program is the one that answered ([`FileIdentity`]). Anything odd about the file means
//! that the program is asked anew.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{folder, read};

/// More than any program has to say.
const MAX_LENGTH: u64 = 64 << 20;

/// What tells one build of a program from another. Not the time of change (ctime), which a new link or owner sets, too.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl FileIdentity {
    /// That of the file that this was read of.
    pub fn of(meta: &Metadata) -> Self {
        let modified = (meta.mtime(), meta.mtime_nsec());
        Self { device: meta.dev(), inode: meta.ino(), size: meta.size(), modified }
    }
}

/// The file with a program's answers.
#[derive(Debug)]
pub struct Answers {
    folder: PathBuf,
    file: PathBuf,
}

impl Answers {
    /// That of this program, by its path, in the folder; `kind` says which of its answers.
    pub fn of(folder: &Path, kind: &str, program: &Path) -> Self {
        let id = Uuid::new_v5(&Uuid::NAMESPACE_URL, program.as_os_str().as_bytes());
        Self { folder: folder.to_owned(), file: folder.join(format!("{kind}-{}.json", id.simple())) }
    }

    /// What was kept, if it has this shape.
    pub fn read<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&read(&self.file, MAX_LENGTH).ok()?).ok()
    }

    /// How long ago it was kept; `None`: the clock puts that into the future, or nothing was.
    pub fn age(&self) -> Option<Duration> {
        fs::metadata(&self.file).ok()?.modified().ok()?.elapsed().ok()
    }

    /// Keeps the answers: whole or not at all, readable to their owner alone.
    pub fn keep<T: Serialize>(&self, answers: &T) -> io::Result<()> {
        folder(&self.folder, 0o700, None)?;
        // Two of us may write at once; each has its own temporary file, and the last rename wins.
        let temporary = self.file.with_extension(format!("{}.tmp", std::process::id()));
        let result = (|| {
            drop(fs::remove_file(&temporary));
            let mut out: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            out.write_all(&serde_json::to_vec(answers)?)?;
            // No fsync: a cache lost in a power cut is asked anew, and a torn one does not parse.
            fs::rename(&temporary, &self.file)
        })();
        if result.is_err() {
            drop(fs::remove_file(&temporary));
        }
        result
    }
}

impl std::fmt::Display for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.file.display().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn answers_are_found_again_by_the_programs_path_and_only_in_files_of_ours() {
        let place = tempfile::tempdir().unwrap();
        let cache = place.path().join("cache");
        let answers = Answers::of(&cache, "help", Path::new("/bin/passt"));
        assert_eq!((answers.read::<Vec<u32>>(), answers.age()), (None, None));
        answers.keep(&[1, 2]).unwrap();
        assert_eq!(answers.read::<Vec<u32>>(), Some(vec![1, 2]));
        assert_eq!(answers.read::<String>(), None, "another shape");
        assert!(answers.age().is_some());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&cache), mode(&answers.file)), (0o700, 0o600));
        for other in
            [Answers::of(&cache, "qemu", Path::new("/bin/passt")), Answers::of(&cache, "help", Path::new("/x"))]
        {
            assert_eq!(other.read::<Vec<u32>>(), None);
        }
        let elsewhere = place.path().join("elsewhere");
        fs::rename(&answers.file, &elsewhere).unwrap();
        symlink(&elsewhere, &answers.file).unwrap();
        assert_eq!(answers.read::<Vec<u32>>(), None, "somebody's link");
    }

    #[test]
    fn a_file_that_was_replaced_or_written_is_another() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("program");
        let identity = || FileIdentity::of(&fs::metadata(&file).unwrap());
        fs::write(&file, "one").unwrap();
        let first = identity();
        assert_eq!(identity(), first);
        let opened = File::options().write(true).open(&file).unwrap();
        opened.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        let second = identity();
        assert_ne!(second, first, "the time");
        let new = place.path().join("new");
        fs::write(&new, "two").unwrap();
        File::options().write(true).open(&new).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        fs::rename(&new, &file).unwrap();
        assert_ne!(identity(), second, "the inode");
    }
}
