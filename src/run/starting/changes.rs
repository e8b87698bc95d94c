//! Makes the plan's changes to the host.

use std::ops::{ControlFlow, Range};

use anyhow::{Context as _, Result, bail};

use crate::change::{Change, ChangeError, unattended};
use crate::host::Root;
use crate::journal::{Journal, MakeError, Took};
use crate::plan::Plan;
use crate::run::signals::{self, Signals};
use crate::run::systemd_notify;

/// Makes these of the plan's changes, in order, and calls `made` after each with its index and the time it took.
pub(in crate::run) async fn make_changes(
    plan: &Plan,
    which: Range<usize>,
    root: &Root,
    journal: &mut Journal,
    signals: &mut Signals,
    made: &mut dyn FnMut(usize, &Change, Took),
) -> Result<()> {
    for (index, planned) in plan.changes.iter().enumerate().take(which.end).skip(which.start) {
        let change = &planned.change;
        if let Some(signal) = signals.pending().await {
            bail!("{signal} came before all changes to the host were made");
        }
        tracing::debug!("{change}");
        let result = match change.nature().takes_long {
            true => signals::while_listening(|signal| make_long(root, journal, change, signal)),
            false => journal.make(root, change, &unattended),
        };
        if let Err(MakeError::Change(ChangeError::Stopped)) = result {
            let signal = signals.pending().await.unwrap_or("a signal");
            bail!("{signal} came before all changes to the host were made");
        }
        made(index, change, result.with_context(|| format!("could not {change}"))?);
    }
    Ok(())
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
