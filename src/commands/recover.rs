//! `vfio-run recover [NAME]`.

use anyhow::{Result, bail};

use super::shared::outcome::{block_on, log_outcome};
use super::shared::{machines, planned};
use crate::cli::{OutputArgs, RecoverArgs};
use crate::journal::Journal;
use crate::plan::own_slice;
use crate::run::process::remedy_if_stopped;
use crate::run::transient_unit::end_own_slice;
use crate::run::{self, LastFailure, Orphan, Recovered};
use crate::units::exit;
use crate::{host, machine, report};

/// Puts back what dead launchers left behind, or supervises a guest that lost its own.
pub fn recover(args: &RecoverArgs, output: OutputArgs) -> Result<u8> {
    let names = match &args.name {
        Some(name) => vec![name.clone()],
        None => machines::names()?,
    };
    if let (true, Some(name)) = (args.adopt, &args.name) {
        return adopt(name, output);
    }
    if let (true, Some(name)) = (args.forget, &args.name) {
        return forget(name, output);
    }
    let mut code = exit::OK;
    let mut done = Vec::new();
    for name in &names {
        let run_dir = machines::run_dir(name)?;
        // One machine that cannot be recovered must not keep the others from it.
        let (word, its_code) = match block_on(run::recover(&run_dir, &planned::root(), Orphan::GoesOn)) {
            Ok(recovered) => log_recovered(name, &recovered),
            Err(error) => {
                tracing::error!("{name}: {error:#}");
                ("not-restored", exit::NOT_RESTORED)
            }
        };
        // As `ExecStopPost=` of a unit.
        end_own_slice(&own_slice(name));
        done.push(serde_json::json!({ "name": name, "result": word }));
        code = code.max(its_code);
    }
    run::sweep_leases(&host::run_dir());
    if output.json {
        report::json(&done)?;
    } else if names.is_empty() {
        report::say("nothing was left behind");
    }
    Ok(code)
}

pub(super) fn log_recovered(name: &str, recovered: &Recovered) -> (&'static str, u8) {
    match recovered {
        Recovered::Nothing => {
            // It may be misspelt.
            tracing::info!("{name} left nothing behind{}", machines::others(name, name));
            ("nothing", exit::OK)
        }
        Recovered::Restored { left } if left.is_empty() => {
            tracing::info!("{name}: the host is as it was");
            ("restored", exit::OK)
        }
        Recovered::Restored { left } => {
            for what in left {
                tracing::error!("{name}: the host is not as it was: {what}");
            }
            ("not-restored", exit::NOT_RESTORED)
        }
        Recovered::Supervised { launcher } => {
            match remedy_if_stopped(&format!("{name} runs, and its launcher"), *launcher) {
                Some(remedy) => tracing::warn!("{remedy}"),
                None => {
                    let pid = launcher.map_or_else(String::new, |pid| format!(" by process {pid}"));
                    tracing::info!("{name} runs and is supervised{pid}; nothing to recover");
                }
            }
            ("supervised", exit::OK)
        }
        Recovered::GuestRuns => {
            tracing::error!(
                "the guest of {name} runs without a launcher, and undoing the changes now would crash it; \
                 `vfio-run recover --adopt {name}` supervises it again, `vfio-run stop --force {name}` ends it"
            );
            ("guest-runs", exit::NOT_STARTED)
        }
    }
}

/// Forgets why the last start of this machine failed.
fn forget(name: &str, output: OutputArgs) -> Result<u8> {
    if !run::forget_failure(&machines::log(name))? {
        let known = LastFailure::names(&host::log_dir());
        let near = machine::nearest(name, &known.iter().map(String::as_str).collect::<Vec<_>>());
        let hint = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
        bail!("of {name} no start is known that failed{hint}");
    }
    if output.json {
        report::json(&[serde_json::json!({ "name": name, "result": "forgotten" })])?;
    } else {
        tracing::info!("why the last start of {name} failed is forgotten; its log stays");
    }
    Ok(exit::OK)
}

fn adopt(name: &str, output: OutputArgs) -> Result<u8> {
    let run_dir = machines::run_dir(name)?;
    if !run::is_run_dir(&run_dir) {
        bail!(machines::does_not_run(name));
    }
    let lock = match run::Lock::take(&run_dir)? {
        Ok(lock) => lock,
        Err(owner) => {
            let pid = owner.pid.map_or_else(String::new, |pid| format!(" by process {pid}"));
            let stopped = remedy_if_stopped(&format!("{name} is supervised already, and its launcher"), owner.pid);
            bail!(stopped.unwrap_or_else(|| format!("{name} is supervised already{pid}")));
        }
    };
    if !run::guest_runs(&run_dir) {
        // It ended, and its launcher with it, since the look above.
        if Journal::read(&run_dir)?.is_none() {
            lock.remove_folder()?;
            bail!(machines::does_not_run(name));
        }
        bail!("the guest of {name} does not run; `vfio-run recover {name}` restores the host");
    }
    machines::refuse_stopped_qemu(name, &run_dir)?;
    let report = block_on(run::adopt(lock, &run_dir, &planned::root(), !output.json))?;
    Ok(log_outcome(name, &report))
}
