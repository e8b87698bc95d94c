//! The verbs that press something on a running machine: `pause`, `resume`, `reset`, `powerdown`, `send-key`.

use anyhow::Result;

use super::shared::asked::done;
use super::shared::guest_agent;
use super::shared::outcome::block_on;
use crate::cli::{MachineArgs, OutputArgs, SendKeyArgs};
use crate::qemu::agent::AgentError;
use crate::report;
use crate::run::control::{Button, Request};
use crate::units::exit;

/// Stops the guest's vCPUs.
pub fn pause(args: &MachineArgs, output: OutputArgs) -> Result<u8> {
    press(&args.name, Button::Pause, "paused", output)
}

/// Lets them go on.
pub fn resume(args: &MachineArgs, output: OutputArgs) -> Result<u8> {
    press(&args.name, Button::Resume, "resumed", output)?;
    // Its clock stood still, or its own went on alone.
    let set = block_on(async { Ok(guest_agent::connect(&args.name).await?.set_clock(guest_agent::LIMIT).await?) });
    match set {
        Ok(()) => tracing::info!("the guest's clock was set by its agent"),
        Err(error) if matches!(error.downcast_ref(), Some(AgentError::NoClock(_))) => tracing::warn!("{error:#}"),
        Err(error) => tracing::debug!("the guest's clock is its own affair: {error:#}"),
    }
    Ok(exit::OK)
}

/// Restarts the guest at once.
pub fn reset(args: &MachineArgs, output: OutputArgs) -> Result<u8> {
    press(&args.name, Button::Reset, "reset", output)
}

/// Presses the power button once.
pub fn powerdown(args: &MachineArgs, output: OutputArgs) -> Result<u8> {
    press(&args.name, Button::Power, "pressed", output)
}

/// Presses keys together.
pub fn send_key(args: &SendKeyArgs, output: OutputArgs) -> Result<u8> {
    press(&args.name, Button::Keys { keys: args.keys.0.clone(), hold: args.hold }, "sent", output)
}

fn press(name: &str, button: Button, word: &str, output: OutputArgs) -> Result<u8> {
    let what = match &button {
        Button::Keys { keys, .. } => keys.join("+"),
        Button::Power => format!("the power button of {name}"),
        _ => name.to_owned(),
    };
    let reply = done(name, &Request::Press(button), None, "and then it can be asked")?;
    if output.json {
        report::json(&serde_json::json!({ "name": name, "state": reply.state, word: true }))?;
    } else {
        tracing::info!("{word}: {what}; {name} is {}", reply.state);
    }
    Ok(exit::OK)
}
