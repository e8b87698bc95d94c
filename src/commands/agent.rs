//! `vfio-run agent NAME …`: what the program in the guest that knows QEMU (qemu-guest-agent) can tell and do.

use std::ffi::OsString;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::shared::guest_agent::{self, FIRST, LIMIT};
use super::shared::outcome::block_on;
use super::shared::programs;
use crate::cli::{AgentArgs, AgentVerb, OutputArgs};
use crate::qemu::agent::{Agent, AgentError};
use crate::report::{self, Table};
use crate::run::Signals;
use crate::units::{counted, exit, printable_up_to};

/// How long a guest may take to write what it has in memory: Windows has 60 seconds for it.
const FREEZE_LIMIT: Duration = Duration::from_secs(90);
const WORDS_LIMIT: usize = 200;

/// Asks the agent, and shows what it says.
pub fn agent(args: &AgentArgs, output: OutputArgs) -> Result<u8> {
    let name = args.name.as_str();
    if !args.command.is_empty() && args.verb != AgentVerb::Freeze {
        bail!(
            "a program after `--` goes with `freeze` alone, which runs it while the guest's file systems stand still"
        );
    }
    // Before anything is frozen for it.
    if let Some(program) = args.command.first().filter(|program| !programs::is_installed(program)) {
        bail!("there is no program {}; nothing is frozen", program.display());
    }
    block_on(async {
        let mut agent = guest_agent::connect(name).await?;
        match obey(args, &mut agent, output).await {
            Err(error) => Err(guest_agent::explain(name, &mut agent, error).await),
            done => done,
        }
    })
}

async fn obey(args: &AgentArgs, agent: &mut Agent, output: OutputArgs) -> Result<u8> {
    let name = args.name.as_str();
    let (value, text) = match args.verb {
        AgentVerb::Ping => ping(name, agent).await,
        AgentVerb::Info => info(agent).await?,
        AgentVerb::Addresses => addresses(agent).await?,
        AgentVerb::Time => time(agent).await?,
        AgentVerb::SetTime => {
            agent.set_clock(LIMIT).await?;
            (json!({ "set": true }), format!("the clock of {name} is the host's"))
        }
        AgentVerb::Freeze => return freeze(name, agent, &args.command, output).await,
        AgentVerb::Thaw => {
            let number = thaw(name, agent).await?;
            (json!({ "thawed": number }), format!("thawed: {}", file_systems(number)))
        }
    };
    show(name, value, &text, output)?;
    Ok(exit::OK)
}

/// Prints the value beside the machine's name, or the text.
fn show(name: &str, value: Value, text: &str, output: OutputArgs) -> Result<()> {
    if !output.json {
        report::say(&report::each_within(report::wrap_width(), text));
        return Ok(());
    }
    let mut all = json!({ "name": name });
    if let (Value::Object(all), Value::Object(value)) = (&mut all, value) {
        all.extend(value);
    }
    report::json(&all)
}

fn file_systems(number: u64) -> String {
    counted(number as usize, "file system", "file systems")
}

/// It answers already, or nobody could ask it.
async fn ping(name: &str, agent: &mut Agent) -> (Value, String) {
    let frozen = agent.is_frozen(LIMIT).await;
    let stand = match frozen {
        Some(true) => format!("; the guest's file systems are {}", guest_agent::until_thaw(name)),
        _ => String::new(),
    };
    let file_systems = frozen.map(|frozen| if frozen { "frozen" } else { "thawed" });
    (json!({ "answers": true, "file_systems": file_systems }), format!("the agent in {name} answers{stand}"))
}

/// The agent's version, and what the guest says that it is. An agent that does not know of the latter says less.
async fn info(agent: &mut Agent) -> Result<(Value, String)> {
    let own = agent.execute("guest-info", json!({}), LIMIT).await?;
    let mut told = json!({ "version": own["version"] });
    let mut table = Table::default();
    let mut add = |key: &str, label: &str, value: &Value| {
        if let Some(text) = value.as_str() {
            let text = printable_up_to(text, WORDS_LIMIT);
            table.row([label.to_owned(), text.clone()]);
            told[key] = text.into();
        }
    };
    add("version", "agent", &own["version"]);
    if let Some(host) = known(agent.execute("guest-get-host-name", json!({}), LIMIT).await)? {
        add("host_name", "host name", &host["host-name"]);
    }
    if let Some(system) = known(agent.execute("guest-get-osinfo", json!({}), LIMIT).await)? {
        add("system", "system", &system["pretty-name"]);
        add("kernel", "kernel", &system["kernel-release"]);
    }
    Ok((told, table.within(report::wrap_width())))
}

/// The answer, unless the agent does not know the command, or was told not to obey it.
fn known(answer: Result<Value, AgentError>) -> Result<Option<Value>> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(AgentError::Refused { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn addresses(agent: &mut Agent) -> Result<(Value, String)> {
    let interfaces = guest_agent::interfaces(agent).await?;
    let mut table = Table::new(&["INTERFACE", "HARDWARE", "ADDRESSES"]);
    for interface in &interfaces {
        let mac = interface.mac.clone().unwrap_or_else(|| "-".to_owned());
        // One a line: an interface may have ten.
        let mut addresses = interface.addresses.iter();
        table.row([interface.name.clone(), mac, addresses.next().cloned().unwrap_or_else(|| "-".to_owned())]);
        addresses.for_each(|address| table.row(["", "", address.as_str()]));
    }
    Ok((json!({ "interfaces": interfaces }), table.within(report::wrap_width())))
}

async fn time(agent: &mut Agent) -> Result<(Value, String)> {
    let guest = agent.execute("guest-get-time", json!({}), LIMIT).await?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("the host's clock is before 1970")?;
    let guest = guest.as_i64().context("the guest agent tells no time")?;
    let shown = Timestamp::from_nanosecond(guest.into()).context("the guest agent tells no time")?;
    let behind = (now.as_nanos() as i128 - i128::from(guest)) as f64 / 1e9;
    let compared = compared(behind);
    let text = format!("the guest's clock: {}, {compared}", shown.strftime("%Y-%m-%d %H:%M:%S UTC"));
    Ok((json!({ "time": shown.to_string(), "behind_seconds": (behind * 1000.0).round() / 1000.0 }), text))
}

/// How the guest's clock is that is behind the host's by so many seconds.
fn compared(behind: f64) -> String {
    match behind {
        behind if behind.abs() < 0.5 => "as the host's".to_owned(),
        behind if behind > 0.0 => format!("{behind:.1} s behind the host's"),
        behind => format!("{:.1} s ahead of the host's", -behind),
    }
}

/// Freezes the guest's file systems: for good, or while a program runs. If anything comes between, they thaw.
async fn freeze(name: &str, agent: &mut Agent, command: &[OsString], output: OutputArgs) -> Result<u8> {
    let mut signals = Signals::catch()?;
    let frozen = tokio::select! {
        answer = agent.execute("guest-fsfreeze-freeze", json!({}), FREEZE_LIMIT) => {
            answer.and_then(|answer| count(&answer, "guest-fsfreeze-freeze")).map_err(anyhow::Error::from)
        }
        signal = signals.next() => Err(anyhow::anyhow!("{signal} came before the guest's file systems stood still")),
    };
    let number = match frozen {
        Ok(number) => number,
        Err(error) if error.downcast_ref().is_some_and(|error| matches!(error, AgentError::Refused { .. })) => {
            return Err(error);
        }
        Err(error) => {
            let thawed = thaw(name, agent).await.with_context(|| format!("`vfio-run agent {name} thaw` tries again"));
            return Err(match thawed {
                Ok(_) => error.context("nothing is frozen"),
                Err(still) => still.context(format!("{error:#}, and they may still be frozen")),
            });
        }
    };
    if number == 0 {
        tracing::warn!("the agent in {name} has frozen no file system: what the guest writes goes on");
    }
    let Some((program, arguments)) = command.split_first() else {
        let until = format!("{} {}", file_systems(number), guest_agent::until_thaw(name));
        show(name, json!({ "frozen": number }), &until, output)?;
        return Ok(exit::OK);
    };
    tracing::info!("{} frozen while {} runs", file_systems(number), program.display());
    let ran = run(program, arguments, &mut signals, output).await;
    let thawed = thaw(name, agent).await.with_context(|| {
        format!("the file systems of {name} are still frozen; `vfio-run agent {name} thaw` tries again")
    })?;
    let code = ran?;
    // Standard output is the program's, or the value's.
    match output.json {
        true => show(name, json!({ "frozen": number, "thawed": thawed, "code": code }), "", output)?,
        false => tracing::info!("thawed: {}", file_systems(thawed)),
    }
    if code != Some(0) {
        let how = code.map_or_else(|| "a signal ended it".to_owned(), |code| format!("exit code {code}"));
        tracing::error!("{} failed: {how}", program.display());
        return Ok(exit::NOT_STARTED);
    }
    Ok(exit::OK)
}

/// Runs a program to its end, or until a signal comes; its exit code. What it prints goes to standard error if a value is to be on
/// standard output.
async fn run(
    program: &OsString,
    arguments: &[OsString],
    signals: &mut Signals,
    output: OutputArgs,
) -> Result<Option<i32>> {
    let mut command = tokio::process::Command::new(program);
    if output.json {
        command.stdout(std::io::stderr().as_fd().try_clone_to_owned()?);
    }
    let mut child = command
        .args(arguments)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    tokio::select! {
        status = child.wait() => Ok(status?.code()),
        signal = signals.next() => {
            if let Some(pid) = child.id() {
                // It may have ended just now.
                let _ = kill(Pid::from_raw(pid as i32), Signal::SIGTERM);
            }
            bail!("{signal} came while {} ran; it was asked to end, and the guest goes on", program.display())
        }
    }
}

/// Lets all file systems go on; how many that were. The agent may be busy. One that was started again meanwhile knows what the
/// last one froze.
async fn thaw(name: &str, agent: &mut Agent) -> Result<u64> {
    let deadline = Instant::now() + FREEZE_LIMIT;
    while let Err(error) = agent.synchronise(FIRST).await {
        match error {
            AgentError::Silent(_) if guest_agent::has_ended(name).await? => {
                bail!("the agent in {name} has ended; start it again there")
            }
            AgentError::Silent(_) if Instant::now() < deadline => {}
            AgentError::Silent(_) => return Err(AgentError::Silent(FREEZE_LIMIT).into()),
            other => return Err(other.into()),
        }
    }
    let answer = agent.execute("guest-fsfreeze-thaw", json!({}), FREEZE_LIMIT).await?;
    Ok(count(&answer, "guest-fsfreeze-thaw")?)
}

/// How many file systems the agent tells of in its answer.
fn count(answer: &Value, command: &str) -> Result<u64, AgentError> {
    answer.as_u64().ok_or_else(|| AgentError::Unexpected(command.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_no_number_of_file_systems_is_an_error() {
        assert_eq!(count(&json!(2), "c").unwrap(), 2);
        for answer in [json!({}), json!("wat"), json!(-3), json!(null), json!(1.5)] {
            assert!(count(&answer, "c").is_err(), "{answer}");
        }
    }

    #[test]
    fn a_clock_is_behind_or_ahead() {
        for (behind, words) in
            [(0.2, "as the host's"), (2.0, "2.0 s behind the host's"), (-3.25, "3.2 s ahead of the host's")]
        {
            assert_eq!(compared(behind), words);
        }
    }
}
