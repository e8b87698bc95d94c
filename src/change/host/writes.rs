//! Set many attributes in one change: frequencies, interrupts, sysctls.
//!
//! The old texts of all files are in the journal before the first is written, and the undo decides for each file by what it
//! reads then, so a death after any of the writes leaves nothing behind. How files read back:
//! - An interrupt that the kernel manages itself refuses its affinity with EIO (6.1) or EPERM (6.12); `kernel/irq/proc.c`.
//! - `scaling_min_freq` and `scaling_max_freq` limit each other: the kernel refuses or clamps the one that is written first if
//!   the other is in its way, so both are written again after one another. A kworker follows a limit, so that a read just
//!   after the write may still show the old one (`cpufreq_notifier_min`); `drivers/cpufreq/cpufreq.c`.

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::change::compare::Compare;
use crate::change::error::{ChangeError, FileError};
use crate::change::file::read;
use crate::change::pci::function::{lock_file, write_attribute};
use crate::change::record::Undone;
use crate::change::step::{Nature, Observed, Progress, Step};
use crate::change::wait::wait_for;
use crate::host::Root;

/// How long the kernel may take to follow a limit that was written.
const FOLLOW_LIMIT: Duration = Duration::from_secs(2);

/// Set many attributes in one change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writes {
    /// What this does, as an imperative: `keep interrupts off the guest's CPUs`.
    pub what: String,
    /// The files, in the order that they are written.
    pub files: Vec<Setting>,
}

/// A file and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The file, below /sys or /proc.
    pub path: PathBuf,
    /// What is written.
    pub value: String,
    /// How its value reads back.
    #[serde(default)]
    pub compare: Compare,
    /// Whether the host may not have this file; then it is skipped. Otherwise the change fails without it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_be_missing: bool,
    /// Error numbers by which the kernel may refuse this file and nothing is wrong, such as [`UNMOVABLE_IRQ`]. The file keeps
    /// its value then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub may_refuse: Vec<i32>,
    /// Whether this number and another of these files limit each other, so that one can be written only after the other.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paired: bool,
    /// A file whose text says whose attribute this is, by names with commas between: an interrupt's number may belong to
    /// another device later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<PathBuf>,
}

/// How the kernel refuses the affinity of an interrupt that it manages itself, and of one for which the CPUs have no vector
/// left (ENOSPC).
pub const UNMOVABLE_IRQ: [i32; 3] = [libc::EIO, libc::EPERM, libc::ENOSPC];

impl Setting {
    /// A file that must be there, must take this text and reads it back as it is.
    pub fn new(path: impl Into<PathBuf>, value: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            value: value.into(),
            compare: Compare::Text,
            may_be_missing: false,
            may_refuse: Vec::new(),
            paired: false,
            identity: None,
        }
    }
}

/// The texts that were found: `{"texts": [{"text": "auto"}, null]}`, a place for each file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundTexts {
    /// Of each file; `None`: it was not there and is not touched.
    pub texts: Vec<Option<FoundText>>,
}

/// What a file said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundText {
    /// What must be written so that it says so again.
    pub text: String,
    /// Whose attribute it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
}

impl Step for Writes {
    type Before = FoundTexts;

    fn nature(&self) -> Nature {
        Nature::PREPARES
    }

    fn capture(&self, root: &Root) -> Result<FoundTexts, ChangeError> {
        Ok(self.find(root)?)
    }

    fn apply(&self, root: &Root, before: &FoundTexts, _: Progress<'_>) -> Result<(), ChangeError> {
        Ok(self.set(root, before)?)
    }

    fn undo(&self, root: &Root, before: &FoundTexts) -> Result<Undone, ChangeError> {
        Ok(self.restore(root, before)?)
    }

    fn lock_files(&self, _: &FoundTexts) -> Vec<PathBuf> {
        self.files.iter().filter_map(|file| lock_file(&file.path)).collect()
    }

    fn observe(&self, root: &Root) -> Vec<Observed> {
        let observed = self.files.iter().filter_map(|file| {
            let text = root.text_up_to(&file.path, 4096)?;
            Some(Observed::new(file.path.display().to_string(), file.compare.writable(&text)))
        });
        observed.collect()
    }
}

impl fmt::Display for Writes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.files.as_slice() {
            [file] => write!(f, "{} (write {:?} to {})", self.what, file.value, file.path.display()),
            files => write!(f, "{} ({} files)", self.what, files.len()),
        }
    }
}

/// The files of a kernel.
trait Attributes {
    fn read(&self, path: &Path) -> Result<String, FileError>;
    fn write(&self, path: &Path, value: &str) -> Result<(), FileError>;
    /// Waits a bounded time until something holds.
    fn wait(&self, holds: &mut dyn FnMut() -> bool);
}

impl Attributes for Root {
    fn read(&self, path: &Path) -> Result<String, FileError> {
        read(self, path)
    }

    fn write(&self, path: &Path, value: &str) -> Result<(), FileError> {
        write_attribute(self, path, value)
    }

    fn wait(&self, holds: &mut dyn FnMut() -> bool) {
        wait_for(self, FOLLOW_LIMIT, holds);
    }
}

/// What an undo does with a file.
enum Fate {
    /// It reads as before.
    Back,
    /// It reads as the change left it.
    Ours,
    /// It is another device's by now, or reads as another program left it.
    Theirs(String),
}

impl Writes {
    fn find(&self, kernel: &dyn Attributes) -> Result<FoundTexts, FileError> {
        let look = |file: &Setting| {
            let text = kernel.read(&file.path)?;
            let identity = file.identity.as_deref().map(|path| kernel.read(path)).transpose()?;
            Ok::<_, FileError>(FoundText { text: file.compare.writable(&text).to_owned(), identity })
        };
        let found = self.files.iter().map(|file| match look(file) {
            Err(error) if file.may_be_missing && error.is_gone() => Ok(None),
            found => found.map(Some),
        });
        Ok(FoundTexts { texts: found.collect::<Result<_, _>>()? })
    }

    fn set(&self, kernel: &dyn Attributes, before: &FoundTexts) -> Result<(), FileError> {
        let mut refused = Vec::new();
        for (file, old) in self.with(before) {
            if file.paired {
                // The other one of the pair may come later in the list, so what the kernel says to it counts only below.
                drop(kernel.write(&file.path, &file.value));
                continue;
            }
            match put(kernel, file, &file.value) {
                Err(error) if file.may_refuse(&error) => refused.push(error),
                // An interrupt may be freed at any time.
                Err(error) if file.may_be_missing && error.is_gone() => {}
                Err(error @ FileError::NotTaken { .. }) => {
                    // An undo would take what it reads now for another program's.
                    drop(kernel.write(&file.path, &old.text));
                    return Err(error);
                }
                other => other?,
            }
        }
        self.with(before).filter(|(file, _)| file.paired).try_for_each(|(file, _)| put(kernel, file, &file.value))?;
        if let Some(first) = refused.first() {
            let (count, all) = (refused.len(), self.files.len());
            tracing::info!(
                "{}: the kernel refused to change {count} of {all} files, as can be expected ({first})",
                self.what
            );
        }
        Ok(())
    }

    fn restore(&self, kernel: &dyn Attributes, before: &FoundTexts) -> Result<Undone, FileError> {
        let (mut ours, mut theirs, mut failed) = (Vec::new(), Vec::new(), None);
        for (file, old) in self.with(before) {
            match fate(kernel, file, old) {
                // The kernel remembers a request beyond what it clamped, and would follow it when the other limit moves.
                Ok(Fate::Back) if file.paired => drop(kernel.write(&file.path, &old.text)),
                Ok(Fate::Back) => {}
                Ok(Fate::Ours) => ours.push((file, old)),
                Ok(Fate::Theirs(found)) => theirs.push(format!("{}: {found}", file.path.display())),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        for (file, old) in &ours {
            if file.paired {
                drop(kernel.write(&file.path, &old.text));
                continue;
            }
            match put(kernel, file, &old.text) {
                Err(error) if file.may_be_missing && error.is_gone() => {}
                // Another program has made the kernel keep it: no later undo is certain to succeed.
                Err(error) if file.may_refuse(&error) => theirs.push(error.to_string()),
                result => failed = failed.or(result.err()),
            }
        }
        for (file, old) in ours.iter().filter(|(file, _)| file.paired) {
            failed = failed.or(put(kernel, file, &old.text).err());
        }
        match failed {
            Some(error) => Err(error),
            None if !theirs.is_empty() => Ok(Undone::NotOurs { found: theirs.join(", ") }),
            None if ours.is_empty() => Ok(Undone::AlreadyBack),
            None => Ok(Undone::Restored),
        }
    }

    /// The files that were there, each with what it said.
    fn with<'a>(&'a self, before: &'a FoundTexts) -> impl Iterator<Item = (&'a Setting, &'a FoundText)> {
        self.files.iter().zip(&before.texts).filter_map(|(file, old)| Some((file, old.as_ref()?)))
    }
}

impl Setting {
    /// Whether the kernel may refuse this file so and nothing is wrong.
    fn may_refuse(&self, error: &FileError) -> bool {
        error.errno().is_some_and(|errno| self.may_refuse.contains(&errno))
    }
}

/// Whether an attribute is still the same one's. Devices that share an interrupt come and go; one that nobody handles is no
/// other device's, and keeps what was written to it.
fn is_still(identity: &str, now: &str) -> bool {
    let names = |text| str::split(text, ',').map(str::trim);
    identity == now || now.is_empty() || names(identity).any(|name| names(now).any(|other| other == name))
}

/// Writes a file unless it reads so already, and reads it back.
fn put(kernel: &dyn Attributes, file: &Setting, value: &str) -> Result<(), FileError> {
    if file.compare.is_same(&kernel.read(&file.path)?, value) {
        return Ok(());
    }
    kernel.write(&file.path, value)?;
    let mut found = kernel.read(&file.path)?;
    if file.paired {
        kernel.wait(&mut || {
            if let Ok(now) = kernel.read(&file.path) {
                found = now;
            }
            file.compare.is_same(&found, value)
        });
    }
    match file.compare.is_same(&found, value) {
        true => Ok(()),
        false => Err(FileError::NotTaken { path: file.path.clone(), wanted: value.to_owned(), found }),
    }
}

fn fate(kernel: &dyn Attributes, file: &Setting, old: &FoundText) -> Result<Fate, FileError> {
    let found = match kernel.read(&file.path) {
        Err(error) if error.is_gone() => {
            // With an interrupt or CPU that is gone, so is its setting.
            return Ok(if file.may_be_missing { Fate::Back } else { Fate::Theirs("no such file".to_owned()) });
        }
        other => other?,
    };
    let is_same = |value: &str| file.compare.is_same(&found, value);
    if is_same(&old.text) {
        return Ok(Fate::Back);
    }
    if let (Some(path), Some(identity)) = (&file.identity, &old.identity)
        && !kernel.read(path).is_ok_and(|now| is_still(identity, &now))
    {
        return Ok(Fate::Theirs("it belongs to another device now".to_owned()));
    }
    // The kernel may have clamped one of a pair if the launcher died before it wrote the other.
    let is_ours = is_same(&file.value) || file.paired && file.compare.is_between(&found, &old.text, &file.value);
    Ok(if is_ours { Fate::Ours } else { Fate::Theirs(found) })
}
