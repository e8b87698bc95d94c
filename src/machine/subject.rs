//! What a subject of the machine file says about itself, so that all about it stands in its own file.

use std::path::{Path, PathBuf};

use super::named::Named;
use super::problems::Problems;

/// The type of a field of the machine file. What is not said is nothing.
pub(super) trait Subject {
    /// Adds what no host and no QEMU could run, or what the user cannot have meant, as far as this subject alone tells it.
    /// What is merely unwise is left to the plan, which has findings for it.
    fn check(&self, _problems: &mut Problems) {}

    /// Its paths with the fields that they stand in. They are made absolute and checked, and the host is asked about the
    /// files.
    fn paths(&mut self) -> Vec<(String, &mut PathBuf)> {
        Vec::new()
    }

    /// Makes its relative paths start from this folder, that of the machine file.
    fn resolve(&mut self, folder: &Path) {
        for (_, path) in self.paths() {
            absolute(path, folder);
        }
    }

    /// Adds what else the host must be asked about.
    fn name(&self, _named: &mut Named) {}
}

/// A field that may be left out.
impl<T: Subject> Subject for Option<T> {
    fn check(&self, problems: &mut Problems) {
        self.iter().for_each(|subject| subject.check(problems));
    }

    fn paths(&mut self) -> Vec<(String, &mut PathBuf)> {
        self.iter_mut().flat_map(Subject::paths).collect()
    }

    fn resolve(&mut self, folder: &Path) {
        self.iter_mut().for_each(|subject| subject.resolve(folder));
    }

    fn name(&self, named: &mut Named) {
        self.iter().for_each(|subject| subject.name(named));
    }
}

/// Makes a relative path start from this folder.
pub(super) fn absolute(path: &mut PathBuf, folder: &Path) {
    // These two are refused by the check, with the text that was written.
    if !path.as_os_str().is_empty() && !path.starts_with("~") {
        // `components` drops `./`; `..` stays, since it is not ours to say where a symlink leads.
        *path = folder.join(path.components().as_path());
    }
}
