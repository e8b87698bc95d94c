//! The trial alone: whether QEMU accepts a machine's command line. Nothing of the host is changed but a folder and a lock,
//! which go again, and nothing that the first start makes is made.

use anyhow::{Result, anyhow, bail};

use crate::host::Root;
use crate::journal::Journal;
use crate::plan::{Cgroup, Inherited, Plan, trial_of_any};
use crate::run::ending::finish::remove_run;
use crate::run::kept::lock::Lock;
use crate::run::kept::log::Log;
use crate::run::signals::Signals;
use crate::run::starting::claim::{Claim, Claimed, claim};
use crate::run::starting::trial::run_trial;
use crate::run::starting::{contents, display, memory};

/// Starts QEMU for a moment, as a run does before it takes anything.
///
/// # Errors
/// If QEMU refuses, in its words; if the machine runs, or left something behind; with [`Asked`](crate::run::Asked) in it, if
/// a signal came.
pub async fn try_out(plan: &Plan, root: &Root) -> Result<()> {
    let name = &plan.name;
    if let Some(owner) = Lock::owner(&plan.paths.run) {
        let by = owner.pid.map_or_else(String::new, |pid| format!(", launched by process {pid}"));
        bail!("{name} runs{by}, so its disks cannot be opened for a trial");
    }
    if Journal::read(&plan.paths.run)?.is_some_and(|records| !records.is_empty()) {
        bail!("{name} was left behind; `vfio-run recover {name}` restores the host first");
    }
    // The launcher's own group is there; the one of the run would have to be made.
    let plan = &Plan { cgroup: Cgroup::Ours, ..plan.clone() };
    let mut trial = trial_of_any(plan).ok_or_else(|| anyhow!("the plan has no monitor"))?;
    let mut signals = Signals::catch()?;
    let Claimed { leases, journal, lock } = match claim(plan, root).await? {
        Claim::Claimed(claimed) => claimed,
        Claim::GuestRuns(_) | Claim::Refused(_) => {
            bail!("{name} was started meanwhile, or another machine has its devices")
        }
    };
    let tried = async {
        display::prepare(plan)?;
        let (mut contents, passing) = contents::make_before_first_start(root, plan)?;
        trial.buffered(&passing);
        for descriptor in &plan.descriptors {
            if let Inherited::Memory(memory) = &descriptor.what {
                // Without pages: nobody touches it. Huge ones would be reserved when it is mapped.
                let normal = crate::plan::GuestMemory { pages: None, ..memory.clone() };
                contents.push((descriptor.fd, memory::create(&normal, plan.account.as_ref())?));
            }
        }
        // That of the machine's starts stays as it is.
        let log = Log::passing(&trial.command)?;
        run_trial(&trial, plan, &log, &contents, &mut signals).await
    };
    let tried = tried.await;
    let mut left = Vec::new();
    remove_run(lock, journal, &plan.paths.display, &mut left);
    drop(leases);
    left.iter().for_each(|what| tracing::warn!("{what}"));
    tried
}
