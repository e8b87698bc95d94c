//! Who holds a file open.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The processes that hold this file open, by number. Those of other users are seen by root alone.
pub fn holders(path: &Path) -> Vec<i32> {
    let Ok(wanted) = std::fs::metadata(path) else { return Vec::new() };
    let is_wanted = |m: &std::fs::Metadata| (m.dev(), m.ino()) == (wanted.dev(), wanted.ino());
    let own = std::process::id() as i32;
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != own)
        .filter(|pid| {
            let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            descriptors.filter_map(|fd| std::fs::metadata(fd.path()).ok()).any(|m| is_wanted(&m))
        })
        .collect()
}
