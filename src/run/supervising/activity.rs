//! What happens on the guest's CPUs, from the guest's first second on: a first look, with which `status` compares a later one,
//! and a look each second if a report was asked for.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::host::Root;
use crate::host::activity::{Activity, Recorder, Stutter};
use crate::plan::Plan;
use crate::trusted;

/// The first look, in the run directory.
const FILE: &str = "activity.json";
/// More than all threads and interrupts of a large host.
const MAX_LENGTH: u64 = 16 << 20;
const SECOND: Duration = Duration::from_secs(1);

/// Keeps a first look. That of an earlier launcher of this run stays.
pub(super) fn keep_first_look(plan: &Plan, qemu: i32) {
    let path = plan.paths.run.join(FILE);
    if path.exists() {
        return;
    }
    let look = Activity::read(&Root::new("/"), qemu, plan.placement.guest_cpus().as_ref());
    let written = serde_json::to_vec(&look).map_err(std::io::Error::from).and_then(|text| {
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        std::io::Write::write_all(&mut &file, &text)
    });
    if let Err(error) = written {
        tracing::debug!("`status` will not tell what happened since the start: {error}");
    }
}

/// The first look of the run that has this run directory.
pub fn first_look(run_dir: &Path) -> Option<Activity> {
    serde_json::from_slice(&trusted::read(&run_dir.join(FILE), MAX_LENGTH).ok()?).ok()
}

/// A report in the making, with its clock.
pub(in crate::run) struct Recording {
    recorder: Recorder,
    /// When to look next.
    pub next: Instant,
}

impl Recording {
    /// Begins a report if the plan has one, or goes on with `this` and another QEMU.
    pub fn begin(this: &mut Option<Self>, plan: &Plan, qemu: i32) {
        match this {
            Some(recording) => recording.recorder.follow(qemu),
            None if plan.report => {
                let recorder = Recorder::begin(&Root::new("/"), qemu, plan.placement.guest_cpus());
                *this = Some(Self { recorder, next: Instant::now() + SECOND });
            }
            None => {}
        }
    }

    /// Looks, and sets the time of the next look.
    pub fn look(&mut self) {
        self.recorder.look();
        tracing::trace!("looked at the guest's threads");
        // Not from now on: the looks would drift. While QEMU is started anew there are none.
        self.next = (self.next + SECOND).max(Instant::now());
    }

    /// The report.
    pub fn end(self) -> Stutter {
        self.recorder.end()
    }
}
