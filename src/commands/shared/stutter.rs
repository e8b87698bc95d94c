//! Shows and keeps the report of what made a guest stutter.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

use super::machines;
use crate::host::activity::Stutter;
use crate::report;

/// Says it, writes it to the end of the machine's log, and as JSON beside that.
pub fn show(name: &str, stutter: &Stutter) {
    let text = report::stutter(stutter);
    let log = machines::log(name);
    let file = log.with_extension("report.json");
    let open = || {
        let mut options = OpenOptions::new();
        options.mode(0o600).custom_flags(libc::O_NOFOLLOW);
        options
    };
    let written = open().append(true).create(true).open(&log).and_then(|mut log| writeln!(log, "{text}"));
    let written = written.and_then(|()| {
        let mut file = open().write(true).create(true).truncate(true).open(&file)?;
        file.write_all(&serde_json::to_vec_pretty(stutter)?)
    });
    let shown = file.display().to_string();
    if let Err(error) = written {
        tracing::warn!("the report could not be kept in {shown}: {error}");
    }
    tracing::info!(event = "report", file = shown.as_str(), "what happened on the guest's CPUs ({shown}):\n{text}");
}
