//! `vfio-run stop NAME` and `vfio-run alive NAME`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::{exit, status};
use crate::cli::{AliveArgs, OutputArgs, StopArgs};
use crate::run::control::{Request, ask};
use crate::run::process::start_time;
use crate::{report, run};

/// How long the launcher may take beyond the guest's own time: it ends helpers and puts the host back.
const GRACE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);

/// Asks the guest to power off and waits until the launcher has put the host back.
pub fn stop(args: &StopArgs, output: OutputArgs) -> Result<u8> {
    let run_dir = supervised(&args.name, "then stop it")?;
    let reply = ask(&run_dir, if args.force { Request::Force } else { Request::Stop })?;
    tracing::info!("waiting until {} has ended", args.name);
    // The launcher itself ends the guest when its time is up; this limit is for a launcher that hangs.
    let deadline = Instant::now() + status::shutdown_limit(&run_dir) + GRACE;
    while start_time(reply.launcher).is_some() && run::Lock::owner(&run_dir).is_some() {
        if Instant::now() > deadline {
            bail!("{} has not ended; see its log, or use `vfio-run stop --force {}`", args.name, args.name);
        }
        std::thread::sleep(POLL);
    }
    if run::Lock::owner(&run_dir).is_none() && run::is_run_dir(&run_dir) {
        let name = &args.name;
        tracing::error!("{name} has ended and not all of the host is as it was; `vfio-run recover {name}` tries again");
        return Ok(exit::NOT_RESTORED);
    }
    if output.json {
        report::json(&serde_json::json!({ "name": args.name, "stopped": true }))?;
    }
    Ok(exit::OK)
}

/// Tells the launcher that somebody sees the guest live.
pub fn alive(args: &AliveArgs, output: OutputArgs) -> Result<u8> {
    let name = &args.name;
    let reply = ask(&supervised(name, "and asks for a sign of life anew")?, Request::Alive)?;
    if output.json {
        report::json(&serde_json::json!({ "name": name, "state": reply.state }))?;
    } else {
        tracing::info!("{name} keeps its devices ({})", reply.state);
    }
    Ok(exit::OK)
}

/// The run directory of a machine whose launcher can be asked.
fn supervised(name: &str, then: &str) -> Result<PathBuf> {
    let run_dir = status::run_dir(name)?;
    if run::Lock::owner(&run_dir).is_some() {
        return Ok(run_dir);
    }
    if run::sockets::guest_lives(&run_dir) {
        bail!("{name} runs without a launcher; `vfio-run recover --adopt {name}` takes it over, {then}");
    }
    bail!("{name} does not run")
}
