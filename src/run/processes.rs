//! The processes of a run: QEMU and its helpers.

use std::process::ExitStatus;
use std::task::Poll;
use std::time::Duration;

use anyhow::Result;

use crate::journal::{Record, last_qemu};
use crate::run::kept::log::Log;
use crate::run::left_behind;
use crate::run::process::Watched;

/// How long a helper may take to exit after SIGTERM: swtpm writes its state.
const HELPER_LIMIT: Duration = Duration::from_secs(5);

/// What was started, and must have ended before the host is restored.
#[derive(Debug, Default)]
pub struct Processes {
    /// QEMU, once it was started.
    pub qemu: Option<Watched>,
    /// The helpers with their names.
    pub helpers: Vec<(String, Watched)>,
    /// QEMU's account, if that is not ours and this launcher started QEMU: what is left of it is ended.
    pub account: Option<u32>,
    /// The log from the helpers' start on, if this launcher started them.
    pub helpers_log: Option<Log>,
}

/// A helper that ended before the guest ran.
#[derive(Debug, thiserror::Error)]
#[error("{name} ended before the guest ran ({status}){words}")]
pub struct EarlyEnd {
    name: String,
    status: ExitStatus,
    words: String,
    /// Whether it failed, by its exit status.
    pub is_failure: bool,
}

impl Processes {
    /// Waits until a helper has ended; its index.
    pub(in crate::run) async fn first_helper_ended(&self) -> usize {
        std::future::poll_fn(|context| {
            let ended = self.helpers.iter().position(|(_, helper)| helper.poll_ended(context).is_ready());
            ended.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// A helper that has ended, while none should have; one that failed before one that did not.
    pub(in crate::run) fn early_end(&self) -> Option<EarlyEnd> {
        let ended = || self.helpers.iter().filter_map(|(name, helper)| Some((name, helper.reap()?)));
        let (name, status) = ended().find(|(_, status)| !status.success()).or_else(|| ended().next())?;
        let words = self.helpers_log.as_ref().map_or_else(String::new, Log::quote);
        Some(EarlyEnd { name: name.clone(), status, words, is_failure: !status.success() })
    }

    /// Kills QEMU if it still runs. Sends SIGTERM to the helpers, since swtpm has state to write, and kills those that do
    /// not exit. Returns a message for each process that not even SIGKILL ends.
    pub(in crate::run) async fn end_all(&self) -> Vec<String> {
        let mut stuck = Vec::new();
        if let Some(qemu) = &self.qemu {
            stuck.extend(qemu.end("QEMU").await.err());
            qemu.reap();
        }
        for (_, helper) in &self.helpers {
            helper.terminate();
        }
        for (name, helper) in &self.helpers {
            if tokio::time::timeout(HELPER_LIMIT, helper.ended()).await.is_err() {
                tracing::warn!("{name} did not exit within {} s of SIGTERM and was killed", HELPER_LIMIT.as_secs());
                stuck.extend(helper.end(name).await.err());
            }
            helper.reap();
        }
        let mut stuck: Vec<String> = stuck.iter().map(ToString::to_string).collect();
        if let Some(account) = self.account.filter(|_| stuck.is_empty()) {
            stuck = left_behind::end(account).await;
        }
        stuck
    }
}

/// QEMU as the journal recorded its start: `None` if it did not, `Some(None)` if that process has ended.
pub(in crate::run) fn recorded_qemu(records: &[Record]) -> Option<Result<Option<Watched>>> {
    last_qemu(records).map(|(pid, started)| Watched::adopt(pid, started))
}

/// The helpers that the journal recorded and that still run.
pub(in crate::run) fn recorded_helpers(records: &[Record]) -> Result<Vec<(String, Watched)>> {
    let mut helpers = Vec::new();
    for record in records {
        if let Record::Started { name, pid, start_time } = record
            && name != "qemu"
            && let Some(helper) = Watched::adopt(*pid, *start_time)?
        {
            helpers.push((name.clone(), helper));
        }
    }
    Ok(helpers)
}
