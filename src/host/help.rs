//! The long options that a program has by what it prints for `--help`. It is asked while the rest of the host is read, which
//! takes as long, and only once: what it answered is kept for as long as its file is the same.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rustix::fs::{MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize};

use crate::child::{self, Command, Session, SpawnError};
use crate::trusted::answers::{Answers, FileIdentity};

/// How long a program may take: milliseconds, except on a host that has no time for it.
const LIMIT: Duration = Duration::from_secs(10);
/// How much of what it prints is read.
const MAX: u64 = 256 << 10;
/// To be raised whenever options are read differently from what is printed.
const FORMAT: u32 = 1;

/// What a program told an earlier start, or will tell this one.
pub(super) enum Told {
    Kept(BTreeSet<String>),
    Asked(Help),
}

impl Told {
    /// The program's options; `read` and `None` are those of [`Help::options`].
    pub fn options(self, read: impl FnOnce(&str) -> BTreeSet<String>) -> Option<BTreeSet<String>> {
        match self {
            Self::Kept(options) => Some(options),
            Self::Asked(help) => help.options(read),
        }
    }
}

/// A program that was asked.
pub(super) struct Help {
    child: Child,
    printed: File,
    until: Instant,
    /// Where its answer goes.
    keep: Option<Place>,
}

/// What a program answered earlier, and the program that did.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    format: u32,
    program: PathBuf,
    file: FileIdentity,
    options: BTreeSet<String>,
}

/// Where the answer of a program is kept, and which program it is now.
struct Place {
    answers: Answers,
    program: PathBuf,
    file: FileIdentity,
}

impl Place {
    /// `None`: nothing is kept.
    fn of(program: &Path, cache: Option<&Path>) -> Option<Self> {
        let file = FileIdentity::of(&std::fs::metadata(program).ok()?);
        Some(Self { answers: Answers::of(cache?, "help", program), program: program.to_owned(), file })
    }
}

impl Help {
    /// The options that this program told an earlier start, kept in the folder `cache`.
    pub fn kept(program: &Path, cache: Option<&Path>) -> Option<BTreeSet<String>> {
        let place = Place::of(program, cache)?;
        let kept: Kept = place.answers.read()?;
        let is_same = (kept.format, &kept.program, &kept.file) == (FORMAT, &place.program, &place.file);
        is_same.then_some(kept.options)
    }

    /// Asks it, with what `set` gives it besides the option. Its answer will be kept in the folder `cache`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn ask(program: &Path, cache: Option<&Path>, set: impl FnOnce(&mut Command)) -> Result<Self, SpawnError> {
        let failed = |source: std::io::Error| SpawnError {
            program: program.display().to_string(),
            step: "make a file for what it prints",
            source,
        };
        // Before it is asked: should it be replaced meanwhile, the answer is kept as the old one's.
        let keep = Place::of(program, cache);
        let mut command = Command::new(program);
        set(&mut command);
        let printed = File::from(memfd_create("help", MemfdFlags::CLOEXEC).map_err(|error| failed(error.into()))?);
        let (out, errors) = (printed.try_clone().map_err(failed)?, printed.try_clone().map_err(failed)?);
        command.arg("--help").stdout(out).stderr(errors).session(Session::Own).death_signal(Signal::SIGKILL);
        Ok(Self { child: command.spawn()?, printed, until: Instant::now() + LIMIT, keep })
    }

    /// The options that `read` finds in what it printed to either stream; `None` if it did not end in time, or that cannot be
    /// read. An answer without options is none that is worth keeping: the next start may get a better one.
    pub fn options(self, read: impl FnOnce(&str) -> BTreeSet<String>) -> Option<BTreeSet<String>> {
        let Self { mut child, mut printed, until, keep } = self;
        if !matches!(child::wait_until(&mut child, until), Ok(Some(_))) {
            drop(child.kill());
            drop(child.wait());
            return None;
        }
        let mut bytes = Vec::new();
        printed.rewind().and_then(|()| printed.take(MAX).read_to_end(&mut bytes)).ok()?;
        let options = read(&String::from_utf8_lossy(&bytes));
        if let Some(Place { answers, program, file }) = keep.filter(|_| !options.is_empty()) {
            let kept = Kept { format: FORMAT, program, file, options: options.clone() };
            if let Err(error) = answers.keep(&kept) {
                tracing::debug!(file = %answers, %error, "cannot keep what {} can do", kept.program.display());
            }
        }
        Some(options)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Makes a program that prints this, in one step, as a package manager does.
    fn install(program: &Path, prints: &str) {
        let new = program.with_extension("new");
        std::fs::write(&new, format!("#!/bin/sh\necho '{prints}'\n")).unwrap();
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::rename(new, program).unwrap();
    }

    fn words(help: &str) -> BTreeSet<String> {
        help.split_ascii_whitespace().filter(|word| word.starts_with("--")).map(str::to_owned).collect()
    }

    #[test]
    fn a_program_is_asked_once_and_anew_when_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let (program, cache) = (folder.path().join("program"), folder.path().join("cache"));
        let kept = || Help::kept(&program, Some(&cache)).map(|options| options.into_iter().collect::<Vec<_>>());
        let ask = || Help::ask(&program, Some(&cache), |_| {}).unwrap().options(words).unwrap();
        assert_eq!(kept(), None, "there is no program");
        install(&program, "it cannot load its library");
        assert!(ask().is_empty());
        assert_eq!(kept(), None, "that is no answer");
        install(&program, "--one");
        assert_eq!(ask().len(), 1);
        assert_eq!(kept().unwrap(), ["--one"]);
        assert_eq!(Help::kept(&program, None), None, "nothing is kept");
        let open = std::fs::File::options().write(true).open(&program).unwrap();
        open.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        drop(open);
        assert_eq!(kept(), None, "its time changed");
        ask();
        install(&program, "--two");
        assert_eq!(kept(), None, "another is in its place");
        ask();
        assert_eq!(kept().unwrap(), ["--two"]);
        // A copy under another name was not asked.
        let other = folder.path().join("other");
        std::fs::copy(&program, &other).unwrap();
        assert_eq!(Help::kept(&other, Some(&cache)), None);
    }

    #[test]
    fn an_answer_that_cannot_be_kept_is_an_answer() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        install(&program, "--one");
        let help = Help::ask(&program, Some(&program.join("cache")), |_| {}).unwrap();
        assert_eq!(help.options(words).unwrap(), words("--one"));
    }
}
