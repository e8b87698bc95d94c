//! What must be known of the host to tune it.

use super::away;
use super::knobs::{KNOBS, Row};
use crate::host::WantedTuning;
use crate::machine::HostTuning;

/// What the host is asked for this machine; `None` if it tunes nothing.
pub(in super::super) fn wanted(host: &HostTuning) -> Option<WantedTuning> {
    let host = &host.tuned();
    let rows = KNOBS.iter().filter(|row| (row.asked)(host).is_some());
    let kept_away = away::ATTRIBUTES.iter().filter(|(_, asked)| asked(host).is_some());
    let wanted = gather(rows, kept_away.flat_map(|(files, _)| *files), host.irqs.is_some());
    // What needs no attribute is decided all the same.
    (wanted != WantedTuning::default() || host.kernel_threads.is_some()).then_some(wanted)
}

/// What any machine may tune.
pub(in super::super) fn wanted_by_any() -> WantedTuning {
    gather(KNOBS.iter(), away::ATTRIBUTES.iter().flat_map(|(files, _)| *files), true)
}

fn gather<'r>(
    rows: impl Iterator<Item = &'r Row>,
    kept_away: impl Iterator<Item = &'r &'static str>,
    irqs: bool,
) -> WantedTuning {
    let files = rows.flat_map(Row::files).chain(kept_away.map(|file| (*file).to_owned()));
    WantedTuning { files: files.collect(), irqs }
}
