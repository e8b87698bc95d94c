//! A running launcher is asked for something.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use anyhow::{Result, bail};

use super::machines;
use crate::journal::{self, Journal};
use crate::run;
use crate::run::control::{Reply, Request, ask_with};
use crate::run::process::remedy_if_stopped;

/// The launcher's answer, unless it refuses. `file`: a descriptor that it gets a duplicate of; `then`: what is done once a
/// guest has a launcher again.
pub fn asked(name: &str, request: &Request, file: Option<BorrowedFd<'_>>, then: &str) -> Result<Reply> {
    let run_dir = supervised(name, then)?;
    // Of a sign of life the launcher takes note itself; for all else it asks QEMU, which would not answer it.
    if *request != Request::Alive {
        machines::refuse_stopped_qemu(name, &run_dir)?;
    }
    let Some(reply) = ask_with(&run_dir, request, file)? else {
        let records = Journal::read(&run_dir)?.unwrap_or_default();
        if journal::guest_ran(&records) && run::guest_runs(&run_dir) {
            bail!(
                "the launcher of {name} gave no answer: it starts the guest anew just now, or it is of an older version, which knows \
                 no such request"
            );
        }
        bail!("{name} is {}: no guest runs now", machines::state_without_answer(&run_dir, &records));
    };
    Ok(reply)
}

/// The answer of a launcher that has done what it was asked for.
pub fn done(name: &str, request: &Request, file: Option<BorrowedFd<'_>>, then: &str) -> Result<Reply> {
    let reply = asked(name, request, file, then)?;
    match &reply.refused {
        Some(why) => bail!("{why}"),
        None if !reply.done => bail!("the launcher of {name} is of another version, and knows no such request"),
        None => Ok(reply),
    }
}

/// The run directory of a machine whose launcher can be asked.
pub fn supervised(name: &str, then: &str) -> Result<PathBuf> {
    let run_dir = machines::run_dir(name)?;
    if let Some(owner) = run::Lock::owner(&run_dir) {
        // It would be waited for in vain.
        return match remedy_if_stopped(&format!("the launcher of {name}"), owner.pid) {
            Some(remedy) => bail!(remedy),
            None => Ok(run_dir),
        };
    }
    if run::guest_runs(&run_dir) {
        bail!("{name} runs without a launcher; `vfio-run recover --adopt {name}` takes it over, {then}");
    }
    bail!(machines::does_not_run(name))
}
