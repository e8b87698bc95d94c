//! What people press on a machine that runs: pause, reset, the power button, keys.

use anyhow::{Result, bail};
use qapi::qmp;
use serde_json::json;

use super::guest::{COMMAND_LIMIT, Guest};
use crate::qemu::{Qmp, QmpError};
use crate::run::supervising::control::Button;
use crate::units::machine_state;

impl Guest<'_> {
    /// Presses one, or says why that makes no sense now. Afterwards the guest's state is what came of it.
    pub(super) async fn press(&mut self, button: &Button) -> Result<()> {
        match button {
            Button::Pause => self.pause().await,
            Button::Resume => self.resume().await,
            Button::Reset => self.reset().await,
            Button::Power => self.power_button().await,
            Button::Keys { keys, hold } => self.keys(keys, *hold).await,
        }?;
        self.heed_events();
        Ok(())
    }

    /// Handles the events that have come already: QEMU sends those of a command before its answer.
    pub(super) fn heed_events(&mut self) {
        while let Some(event) = self.qmp.as_mut().and_then(Qmp::queued_event) {
            self.on_event(&event);
        }
    }

    async fn pause(&mut self) -> Result<()> {
        let name = &self.plan.name;
        match self.state.as_str() {
            _ if self.ending.requested() => bail!("{name} was asked to end, and would be continued for that"),
            machine_state::RUNNING => {}
            machine_state::PAUSED if self.paused_for_sleep => {
                self.paused_for_sleep = false;
                tracing::info!(
                    event = "pause",
                    "{name} stays paused after the host's sleep until `vfio-run resume {name}`"
                );
                return Ok(());
            }
            machine_state::SUSPENDED => bail!("{name} sleeps, so there is nothing to pause"),
            other => bail!("{name} is {other} already"),
        }
        if self.switch.is_some() {
            bail!(
                "the dead-man switch of {name} waits for a sign of life, and a paused guest shows none; see that it lives, \
                 then `vfio-run alive {name}`"
            );
        }
        // Even if QEMU has yet to pause it for the host's sleep.
        self.paused_for_sleep = false;
        self.command(qmp::stop {}).await?;
        tracing::info!(event = "pause", "{name} is paused until `vfio-run resume {name}`");
        Ok(())
    }

    async fn resume(&mut self) -> Result<()> {
        let name = &self.plan.name;
        match self.state.as_str() {
            machine_state::RUNNING if !self.paused_for_sleep => bail!("{name} runs already"),
            machine_state::SUSPENDED => self.command(qmp::system_wakeup {}).await?,
            // Paused by somebody, by a disk that failed, by a panic: QEMU says of which it cannot go on.
            _ => self.command(qmp::cont {}).await?,
        }
        tracing::info!(event = "resume", "{name} goes on");
        Ok(())
    }

    async fn reset(&mut self) -> Result<()> {
        let name = &self.plan.name;
        if self.ending.requested() {
            bail!("{name} was asked to end, and a guest that restarts would not");
        }
        let stands = self.state != machine_state::RUNNING;
        self.command(qmp::system_reset {}).await?;
        if stands || self.plan.relaunch {
            let Some(qmp) = &mut self.qmp else { return Err(QmpError::Closed.into()) };
            qmp.wait_for_event(|event| matches!(event.name.as_str(), "RESET" | "SHUTDOWN"), COMMAND_LIMIT).await?;
        }
        // A board that is reset runs. QEMU's would wait for `cont` as before its first instruction, and whoever takes it over would
        // believe just that. One that restarts in a new QEMU runs there.
        if stands && !self.plan.relaunch {
            self.command(qmp::cont {}).await?;
        }
        Ok(())
    }

    async fn power_button(&mut self) -> Result<()> {
        let name = &self.plan.name;
        if self.ending.forced() {
            bail!("{name} is being ended by force");
        }
        self.press_power_button().await?;
        tracing::info!(event = "power-button", "the power button of {name} was pressed");
        Ok(())
    }

    async fn keys(&mut self, keys: &[String], hold: u32) -> Result<()> {
        let name = &self.plan.name;
        // A key wakes a guest that sleeps.
        if !matches!(self.state.as_str(), machine_state::RUNNING | machine_state::SUSPENDED) {
            bail!("{name} is {}, and reads no keys; `vfio-run resume {name}` lets it go on", self.state);
        }
        let keys: Vec<_> = keys.iter().map(|key| json!({ "type": "qcode", "data": key })).collect();
        let Some(qmp) = &mut self.qmp else { return Err(QmpError::Closed.into()) };
        qmp.execute_raw_within("send-key", json!({ "keys": keys, "hold-time": hold }), COMMAND_LIMIT).await?;
        Ok(())
    }
}
