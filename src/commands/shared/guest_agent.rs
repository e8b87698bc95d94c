//! The guest agent of a running machine: whether it can be asked, and why not.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use serde_json::{Value, json};

use super::machines;
use crate::machine::Sign;
use crate::plan::AGENT;
use crate::qemu::agent::{Agent, AgentError};
use crate::qemu::qmp::Qmp;
use crate::run::control::{Request, ask};
use crate::run::{self, was_alive};
use crate::units::{machine_state, printable_up_to};

/// How long an ordinary command may take.
pub const LIMIT: Duration = Duration::from_secs(10);
/// How long the agent may take to answer at all.
pub const FIRST: Duration = Duration::from_secs(5);
/// How long QEMU may take to say whether there is one.
const QEMU: Duration = Duration::from_secs(2);
/// How much of a name that the guest gives is shown.
const NAME_LIMIT: usize = 64;

/// A network interface of the guest's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// As the guest calls it.
    pub name: String,
    /// Its hardware address, if it has one.
    pub mac: Option<String>,
    /// Its addresses, each with the length of its prefix.
    pub addresses: Vec<String>,
}

/// The agent of this machine, ready to be asked.
pub async fn connect(name: &str) -> Result<Agent> {
    let run_dir = machines::run_dir(name)?;
    if !run::guest_runs(&run_dir) {
        bail!(machines::does_not_run(name));
    }
    let plan = run::kept_plan(&run_dir)?;
    if !plan.has_agent() {
        bail!(
            "{name} has no channel to a guest agent: a machine of `guest: Other` has none. With `guest: Linux` or another \
             family in its file it has one from its next start on"
        );
    }
    // OVMF answers a client by opening the channel, which would be taken for the agent.
    let waits = plan.give_back_unless.is_some_and(|switch| switch.sign == Sign::GuestAgent) && !was_alive(&run_dir);
    if waits {
        bail!(
            "the dead-man switch of {name} waits for its agent, and nobody may use the channel meanwhile; if you see that the \
             guest lives, `vfio-run alive {name}`"
        );
    }
    if let Ok(Some(reply)) = ask(&run_dir, &Request::Status)
        && matches!(reply.state.as_str(), machine_state::PAUSED | machine_state::HOST_SLEEPS)
    {
        bail!("{name} is paused, and so is its agent; `vfio-run resume {name}` lets it go on");
    }
    machines::refuse_stopped_qemu(name, &run_dir)?;
    let open = is_open(&run_dir).await;
    if open == Some(false) {
        bail!(
            "no agent runs in {name}. Linux: install the package qemu-guest-agent there, or start the service of that name. \
             Windows: run virtio-win-guest-tools.exe from the virtio-win CD"
        );
    }
    match Agent::connect(&run_dir.join("qga.sock"), FIRST).await {
        Err(AgentError::Silent(_)) => {
            bail!("the agent in {name} does not answer: there is none, it is busy, or another program uses `qga.sock`")
        }
        other => other.with_context(|| format!("cannot reach the guest agent of {name}")),
    }
}

/// Whether a program in the guest has the channel open; `None` if QEMU cannot be asked, since another program uses its monitor.
async fn is_open(run_dir: &Path) -> Option<bool> {
    let stream = tokio::net::UnixStream::connect(run_dir.join("qmp.sock")).await.ok()?;
    let mut qmp = Qmp::negotiate(stream, QEMU).await.ok()?;
    let chardevs = qmp.execute_raw_within("query-chardev", json!({}), QEMU).await.ok()?;
    let ours = chardevs.as_array()?.iter().find(|chardev| chardev["label"] == AGENT)?;
    ours["frontend-open"].as_bool()
}

/// Whether no program in the guest has the channel open any more.
pub async fn has_ended(name: &str) -> Result<bool> {
    Ok(is_open(&machines::run_dir(name)?).await == Some(false))
}

/// This error, with what is to be done if the agent refused something because it has frozen the guest's file systems.
pub async fn explain(name: &str, agent: &mut Agent, error: anyhow::Error) -> anyhow::Error {
    let refused = matches!(error.downcast_ref(), Some(AgentError::Refused { .. }));
    match refused && agent.is_frozen(LIMIT).await == Some(true) {
        true => error.context(format!("the file systems of {name} are {}", until_thaw(name))),
        false => error,
    }
}

/// In which state those file systems are, and what ends it.
pub fn until_thaw(name: &str) -> String {
    format!("frozen until `vfio-run agent {name} thaw`")
}

/// The guest's network interfaces, and whether its file systems are frozen, when the agent tells of no interface.
pub async fn look(name: &str) -> Result<(Vec<Interface>, bool)> {
    let mut agent = connect(name).await?;
    match interfaces(&mut agent).await {
        Ok(interfaces) => Ok((interfaces, false)),
        Err(error) => match agent.is_frozen(LIMIT).await {
            Some(true) => Ok((Vec::new(), true)),
            _ => Err(error),
        },
    }
}

/// The guest's network interfaces.
pub async fn interfaces(agent: &mut Agent) -> Result<Vec<Interface>> {
    let answer = agent.execute("guest-network-get-interfaces", json!({}), LIMIT).await?;
    Ok(read_interfaces(&answer))
}

fn read_interfaces(answer: &Value) -> Vec<Interface> {
    let text = |value: &Value| value.as_str().map(|text| printable_up_to(text, NAME_LIMIT));
    let address = |address: &Value| {
        let shown = text(&address["ip-address"])?;
        Some(match address["prefix"].as_u64() {
            Some(prefix) => format!("{shown}/{prefix}"),
            None => shown,
        })
    };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let all = list(answer);
    let interface = |interface: &Value| {
        Some(Interface {
            name: text(&interface["name"])?,
            mac: text(&interface["hardware-address"]),
            addresses: list(&interface["ip-addresses"]).iter().filter_map(address).collect(),
        })
    };
    all.iter().filter_map(interface).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_read_and_what_is_none_is_passed_over() {
        let answer = json!([
            { "name": "lo", "ip-addresses": [{ "ip-address": "127.0.0.1", "prefix": 8, "ip-address-type": "ipv4" }] },
            { "name": "enp\u{1b}[2J", "hardware-address": "52:54:00:00:00:01" },
            { "name": 7 },
            "nonsense",
        ]);
        let shown: Vec<_> = read_interfaces(&answer)
            .into_iter()
            .map(|i| format!("{} {} {}", i.name, i.mac.unwrap_or_default(), i.addresses.join(",")))
            .collect();
        assert_eq!(shown, ["lo  127.0.0.1/8", "enp\u{fffd}[2J 52:54:00:00:00:01 "]);
        assert_eq!(read_interfaces(&json!({})), []);
    }
}
