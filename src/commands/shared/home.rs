//! Where `~` is.

use std::path::PathBuf;

use crate::host::Root;
use crate::import::MAX_TEXT;

/// The home of who calls, also by sudo.
pub fn home(root: &Root) -> Option<PathBuf> {
    let Some(user) = std::env::var_os("SUDO_USER") else { return std::env::var_os("HOME").map(PathBuf::from) };
    let accounts = root.text_up_to("/etc/passwd", MAX_TEXT)?;
    let entry = accounts.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = entry.into_iter().find(|entry| entry.first().is_some_and(|name| user == *name))?;
    found.get(5).map(PathBuf::from)
}
