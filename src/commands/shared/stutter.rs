//! Shows the report of what made a guest stutter.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

use super::machines;
use crate::host::activity::Stutter;
use crate::{report, run};

/// Says it, and writes it to the end of the machine's log. The report of the run has the values.
pub fn show(name: &str, stutter: &Stutter) {
    let text = report::stutter(stutter, usize::MAX);
    let log = machines::log(name);
    let mut options = OpenOptions::new();
    let opened = options.append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(&log);
    if let Err(error) = opened.and_then(|mut log| writeln!(log, "{text}")) {
        tracing::warn!("what made the guest stutter is not in the log {}: {error}", log.display());
    }
    let shown = run::report_path(&log).display().to_string();
    tracing::info!(event = "report", file = shown.as_str(), "what happened on the guest's CPUs ({shown}):\n{text}");
}
