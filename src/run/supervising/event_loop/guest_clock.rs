//! The guest's clock, which stood still while the host slept: its agent sets it, if there is one.

use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::guest::Guest;
use crate::machine::Sign;
use crate::qemu::agent::{Agent, AgentError};
use crate::run::supervising::signs_of_life::agent_is_open;

/// How long QEMU may take to say whether there is an agent.
const QEMU: Duration = Duration::from_secs(1);
/// How long the agent may take over each of its answers: a guest that has just woken has much to do.
const LIMIT: Duration = Duration::from_secs(10);

/// A clock that is being set, beside all else that the event loop attends to.
pub(super) type Setting = Pin<Box<dyn Future<Output = Result<()>>>>;

impl Guest<'_> {
    /// Begins to set it, if a program in the guest listens. While a dead-man switch waits for the agent, nobody may use its channel.
    pub(super) async fn set_clock(&mut self) -> Option<Setting> {
        let waits = |sign| sign == Sign::GuestAgent && self.switch.is_some();
        if !self.plan.has_agent() || self.plan.give_back_unless.is_some_and(|switch| waits(switch.sign)) {
            return None;
        }
        let told = self.qmp.as_mut()?.execute_raw_within("query-chardev", json!({}), QEMU).await.ok()?;
        let socket = self.plan.paths.run.join("qga.sock");
        agent_is_open(&told).then(|| Box::pin(set(socket)) as Setting)
    }
}

async fn set(socket: PathBuf) -> Result<()> {
    Ok(Agent::connect(&socket, LIMIT).await?.set_clock(LIMIT).await?)
}

/// Waits until it is set; for ever if none is being set.
pub(super) async fn finished(setting: &mut Option<Setting>) -> Result<()> {
    match setting {
        Some(setting) => setting.as_mut().await,
        None => std::future::pending().await,
    }
}

/// Says how that went.
pub(super) fn tell(set: Result<()>) {
    match set {
        Ok(()) => tracing::info!("the guest's clock was set by its agent"),
        Err(error) if matches!(error.downcast_ref(), Some(AgentError::NoClock(_))) => tracing::warn!("{error:#}"),
        Err(error) => tracing::debug!("the guest's clock is its own affair: {error:#}"),
    }
}
