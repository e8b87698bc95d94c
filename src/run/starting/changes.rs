//! Makes the plan's changes to the host.

use std::ops::{ControlFlow, Range};

use anyhow::{Context as _, Result};

use crate::change::{Change, ChangeError, unattended};
use crate::host::Root;
use crate::journal::{Journal, MakeError, Took};
use crate::plan::Plan;
use crate::run::signals::{self, Asked, Signals};
use crate::run::systemd_notify;

/// How far a change is.
#[derive(Debug, Clone, Copy)]
pub(in crate::run) enum Making {
    /// It is about to be made.
    Begins,
    /// It was made, in this time.
    Made(Took),
    /// It could not be made, and the guest starts without.
    GoesWithout,
}

/// Makes these of the plan's changes, in order, and calls `at` before and after each, with its index.
pub(in crate::run) async fn make_changes(
    plan: &Plan,
    which: Range<usize>,
    root: &Root,
    journal: &mut Journal,
    signals: &mut Signals,
    at: &mut dyn FnMut(usize, &Change, Making),
) -> Result<()> {
    for (index, planned) in plan.changes.iter().enumerate().take(which.end).skip(which.start) {
        let change = &planned.change;
        if let Some(signal) = signals.pending().await {
            return Err(stopped(signal));
        }
        tracing::debug!("{change}");
        at(index, change, Making::Begins);
        let result = match change.nature().takes_long {
            true => signals::while_listening(|signal| make_long(root, journal, change, signal)),
            false => journal.make(root, change, &unattended),
        };
        if let Err(MakeError::Change(ChangeError::Stopped)) = result {
            let signal = signals.pending().await.unwrap_or("a signal");
            return Err(stopped(signal));
        }
        match result {
            Err(MakeError::Change(error)) if planned.optional => {
                tracing::warn!("could not {change}; the guest starts without: {:#}", anyhow::Error::from(error));
                at(index, change, Making::GoesWithout);
                continue;
            }
            _ => {}
        }
        at(index, change, Making::Made(result.with_context(|| format!("could not {change}"))?));
    }
    Ok(())
}

fn stopped(signal: &'static str) -> anyhow::Error {
    Asked { signal, before: "all changes to the host were made" }.into()
}

/// Makes a change that takes long: shows its progress, and stops when a signal comes.
fn make_long(
    root: &Root,
    journal: &mut Journal,
    change: &Change,
    signal: &dyn Fn() -> Option<&'static str>,
) -> Result<Took, MakeError> {
    journal.make(root, change, &|done, of| {
        let text = format!("{change}: {done} of {of}");
        systemd_notify::status(&text);
        tracing::info!("{text}");
        if signal().is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
}
