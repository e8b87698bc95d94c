//! What must be known of the host to tune it.

use super::away;
use super::knobs::{KNOBS, Row};
use crate::host::WantedTuning;
use crate::machine::HostTuning;

/// What the host is asked for this machine; `None` if it tunes nothing.
pub(in super::super) fn wanted(host: &HostTuning) -> Option<WantedTuning> {
    let rows = KNOBS.iter().filter(|row| (row.asked)(host).is_some());
    let wanted = gather(rows, host.workqueues.is_some(), host.irqs.is_some());
    (wanted != WantedTuning::default()).then_some(wanted)
}

/// What any machine may tune.
pub(in super::super) fn wanted_by_any() -> WantedTuning {
    gather(KNOBS.iter(), true, true)
}

fn gather<'r>(rows: impl Iterator<Item = &'r Row>, workqueues: bool, irqs: bool) -> WantedTuning {
    let mut files: Vec<String> = rows.flat_map(Row::files).collect();
    if workqueues {
        files.extend([away::WORKQUEUES.files[0].to_owned(), away::REQUESTED.to_owned()]);
    }
    if irqs {
        files.extend(away::NEW_IRQS.files.iter().map(|file| (*file).to_owned()));
    }
    WantedTuning { files, irqs }
}
