//! What is kept of a machine's last run beside its log, for `vfio-run status` and `vfio-run report`.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::Serialize;

use super::folders::shared_folder;

/// Writes the value as JSON, whole or not at all: a user with a black screen may switch the power off next. Nobody but the
/// user who ran the machine can read it.
pub(in crate::run) fn write(path: &Path, value: &impl Serialize) -> std::io::Result<()> {
    // A start that fails early has no log yet, nor a folder for it.
    let folder = path.parent().unwrap_or(Path::new("/"));
    shared_folder(folder)?;
    let mut part = path.as_os_str().to_owned();
    part.push("-part");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&part)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    file.sync_all()?;
    std::fs::rename(&part, path)?;
    std::fs::File::open(folder)?.sync_all()
}

/// The names of the machines that have a file with this ending beside their logs in this folder, in order.
pub(in crate::run) fn names(log_dir: &Path, ending: &str) -> Vec<String> {
    let entries = std::fs::read_dir(log_dir).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        Some(name.strip_suffix(ending)?.strip_suffix('.')?.to_owned())
    });
    let mut names: Vec<String> = names.filter(|name| crate::machine::is_name(name)).collect();
    names.sort();
    names
}
