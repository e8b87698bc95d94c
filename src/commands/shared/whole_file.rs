//! Writes a file whole or not at all.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Writes the content into a new file beside `path`, which then takes its place: nobody sees half of it, and what is at `path`
/// is replaced, also a link, never written through.
pub fn write(path: &Path, content: &[u8]) -> Result<()> {
    let name = path.file_name().with_context(|| format!("{} names no file", path.display()))?;
    let part = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let written = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&part)?;
        let done = file.write_all(content).and_then(|()| file.sync_all());
        done.and_then(|()| std::fs::rename(&part, path)).inspect_err(|_| drop(std::fs::remove_file(&part)))
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}
