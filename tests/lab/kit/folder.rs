//! The folder of one run: gone when all went well, kept with its evidence when not.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::fcntl::Flock;
use tempfile::TempDir;

use super::cache;

const PREFIX: &str = "vfio-run-lab-";

/// The folder of one run.
pub struct Folder {
    dir: Option<TempDir>,
    path: PathBuf,
    _alive: Flock<File>,
}

impl Folder {
    /// Makes one under the folder for temporary files, after removing those that killed processes left there.
    pub fn new() -> Result<Self> {
        sweep();
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir().context("cannot make a folder for a lab run")?;
        let path = dir.path().to_owned();
        let alive = cache::try_lock(&path.join("alive")).context("somebody else holds a fresh folder")?;
        Ok(Self { dir: Some(dir), path, _alive: alive })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps it for a human. What is large and says nothing is removed.
    pub fn keep(&mut self) {
        let Some(dir) = self.dir.take() else { return };
        drop(dir.keep());
        drop(fs::remove_file(self.path.join("disk.qcow2")));
        drop(File::create(self.path.join("kept")));
    }
}

/// Removes folders that were not kept on purpose and whose process is gone.
fn sweep() {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        // One that is being made has no `alive` yet.
        if is_ours
            && path.join("alive").exists()
            && !path.join("kept").exists()
            && cache::try_lock(&path.join("alive")).is_some()
        {
            drop(fs::remove_dir_all(&path));
        }
    }
}
