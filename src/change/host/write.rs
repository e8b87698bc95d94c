//! Write a value to a file under /sys or /proc.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::change::error::{ChangeError, FileError};
use crate::change::file::read;
use crate::change::pci::function::{driver, function_of, lock_file, write_attribute};
use crate::change::record::{Text, Undone};
use crate::change::step::{Nature, Observed, Progress, Step};
use crate::host::Root;

/// Write a value to a file under /sys or /proc.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// The file.
    pub path: PathBuf,
    /// The value, as it reads back.
    pub value: String,
    /// The driver that set what was there before: with another driver the function has that one's setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_by: Option<String>,
}

impl Step for Write {
    type Before = Text;

    fn nature(&self) -> Nature {
        Nature::PREPARES
    }

    fn capture(&self, root: &Root) -> Result<Text, ChangeError> {
        Ok(Text { text: read(root, &self.path)? })
    }

    fn apply(&self, root: &Root, _: &Text, _: Progress<'_>) -> Result<(), ChangeError> {
        Ok(set(root, &self.path, &self.value)?)
    }

    /// Writes what the file said before, if it still says ours.
    fn undo(&self, root: &Root, Text { text: old }: &Text) -> Result<Undone, ChangeError> {
        if self.set_by.as_ref().is_some_and(|name| !is_bound_to(root, &self.path, name)) {
            return Ok(Undone::AlreadyBack);
        }
        let found = match read(root, &self.path) {
            // With what it was an attribute of, its setting is gone.
            Err(error) if error.is_gone() => {
                return Ok(Undone::NotOurs { found: "no such file".to_owned() });
            }
            found => found?,
        };
        if found == *old {
            return Ok(Undone::AlreadyBack);
        }
        if found != self.value {
            return Ok(Undone::NotOurs { found });
        }
        set(root, &self.path, old)?;
        Ok(Undone::Restored)
    }

    fn lock_files(&self, _: &Text) -> Vec<PathBuf> {
        lock_file(&self.path).into_iter().collect()
    }

    fn observe(&self, root: &Root) -> Vec<Observed> {
        let text = root.text_up_to(&self.path, 4096);
        text.map(|text| Observed::new(self.path.display().to_string(), text)).into_iter().collect()
    }
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "write {:?} to {}", self.value, self.path.display())
    }
}

/// Writes the value and reads it back.
fn set(root: &Root, path: &Path, value: &str) -> Result<(), FileError> {
    write_attribute(root, path, value)?;
    let found = read(root, path)?;
    match found == value {
        true => Ok(()),
        false => Err(FileError::NotTaken { path: path.to_owned(), wanted: value.to_owned(), found }),
    }
}

/// Whether the function that this is an attribute of is bound to this driver.
fn is_bound_to(root: &Root, path: &Path, name: &str) -> bool {
    function_of(path).and_then(|address| driver(root, address)).is_some_and(|driver| driver == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_that_went_with_its_device_is_nothing_to_put_back() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            Write { path: "/sys/bus/pci/devices/0000:01:00.0/d3cold_allowed".into(), value: "0".into(), set_by: None };
        let undone = write.undo(&Root::new(folder.path()), &Text { text: "1".to_owned() }).unwrap();
        assert_eq!(undone, Undone::NotOurs { found: "no such file".to_owned() });
    }
}
