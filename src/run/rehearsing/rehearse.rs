//! The handover there and back without a guest: the same plan, lock, leases, journal, changes and undoing as in a run,
//! round after round, with the time of each step and a look at the host on both sides that is compared with the round
//! before.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::snapshot::{Leak, Side};
use super::times::Step;

use super::snapshot::Look;
use super::times::{Round, Times};
use crate::change::Change;
use crate::host::Root;
use crate::host::pci::vfio;
use crate::journal::{Record, Took};
use crate::plan::{Plan, trial};
use crate::run::ending::finish::remove_run;
use crate::run::ending::restore::{RestoreStep, restore_host};
use crate::run::hooks;
use crate::run::kept::log::{self, Log};
use crate::run::outcome::{Outcome, REHEARSED};
use crate::run::signals::Signals;
use crate::run::starting::changes::{Making, make_changes};
use crate::run::starting::claim::{Claim, Claimed, claim};
use crate::run::starting::holders;
use crate::run::starting::trial::run_trial;
use crate::run::starting::{contents, display, memory};
use crate::units::{Stage, exit};

/// How long the host may take to come to rest after a handover: udev, consoles and units that follow by themselves.
const REST_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// What a rehearsal came to.
#[derive(Debug, Serialize)]
pub struct Rehearsal {
    /// The machine's name.
    pub name: String,
    /// Rounds that were asked for.
    pub rounds: u32,
    /// Rounds that went there and came back.
    pub completed: u32,
    /// The time of each step, in the order of the way there; in milliseconds, over the rounds that came back.
    pub steps: Vec<Step>,
    /// All steps of a round together.
    pub total: Step,
    /// The same without what drivers, modules, units, memory and hooks took themselves.
    pub own: Step,
    /// What was not as in the round before.
    pub leaks: Vec<Leak>,
    /// What stays by design: modules that are loaded for the first handover and left.
    pub stays: Vec<String>,
    /// Why it ended before the last round.
    pub failed: Option<String>,
    /// What could not be restored.
    pub left: Vec<String>,
    /// Hooks of the way back that failed.
    pub warnings: Vec<String>,
}

impl Rehearsal {
    /// The exit code: 0; 1 if a step failed and was undone; 5 if anything was left behind.
    pub fn exit_code(&self) -> u8 {
        match () {
            () if !self.left.is_empty() || !self.leaks.is_empty() => exit::NOT_RESTORED,
            () if self.failed.is_some() => exit::NOT_STARTED,
            () => exit::OK,
        }
    }
}

/// Hands over and takes back so many times. Without `with_hooks`, no hooks are run.
pub async fn rehearse(plan: &Plan, root: &Root, rounds: u32, with_hooks: bool) -> Result<Rehearsal> {
    let mut plan = plan.clone();
    if !with_hooks {
        plan.hooks.clear();
    }
    let mut stage = Rehearsing {
        root,
        signals: Signals::catch()?,
        times: Times::default(),
        home: None,
        there: None,
        result: Rehearsal {
            name: plan.name.clone(),
            rounds,
            completed: 0,
            steps: Vec::new(),
            total: Step::default(),
            own: Step::default(),
            leaks: Vec::new(),
            stays: Vec::new(),
            failed: None,
            left: Vec::new(),
            warnings: Vec::new(),
        },
        plan: &plan,
    };
    stage.all(rounds).await?;
    let Rehearsing { times, mut result, .. } = stage;
    result.steps = times.steps();
    result.total = times.total();
    result.own = times.own();
    Ok(result)
}

struct Rehearsing<'a> {
    plan: &'a Plan,
    root: &'a Root,
    signals: Signals,
    times: Times,
    /// The host as it should be, and as it should be while it is handed over.
    home: Option<Look>,
    there: Option<Look>,
    result: Rehearsal,
}

impl Rehearsing<'_> {
    async fn all(&mut self, rounds: u32) -> Result<()> {
        // What a dead launcher changed is undone before the first snapshot.
        let Some(claimed) = self.claim().await? else { return Ok(()) };
        self.release(claimed);
        self.look(0, Side::Home).await;
        for number in 1..=rounds {
            if let Some(signal) = self.signals.pending().await {
                self.result.failed = Some(format!("{signal} came after {} of {rounds} rounds", number - 1));
                break;
            }
            let mut round = Round::default();
            self.round(number, &mut round).await?;
            if self.result.failed.is_some() || !self.result.left.is_empty() {
                break;
            }
            let (there, back) = (round.total(Side::There), round.total(Side::Home));
            tracing::info!(
                event = "round",
                number,
                there = there.as_secs_f64() * 1000.0,
                back = back.as_secs_f64() * 1000.0,
                "round {number} of {rounds}: there in {} ms, back in {} ms",
                there.as_millis(),
                back.as_millis()
            );
            self.times.add(round);
            self.result.completed = number;
        }
        Ok(())
    }

    /// Claims the machine as a run does; `None`, with the reason in the result, if another launcher has it.
    async fn claim(&mut self) -> Result<Option<Claimed>> {
        let name = &self.plan.name;
        match claim(self.plan, self.root).await? {
            Claim::Claimed(claimed) => {
                log::put_aside(&self.plan.paths.log);
                return Ok(Some(claimed));
            }
            Claim::GuestRuns(_) => self.result.failed = Some(format!("the guest of {name} runs, without a launcher")),
            Claim::Refused(report) => {
                if let Outcome::NotStarted(why) = report.outcome {
                    self.result.failed = Some(format!("{why:#}"));
                }
                self.result.left = report.left;
            }
        }
        Ok(None)
    }

    fn release(&mut self, Claimed { leases, journal, lock }: Claimed) {
        remove_run(lock, journal, &self.plan.paths.display, &mut self.result.left);
        drop(leases);
    }

    async fn round(&mut self, number: u32, round: &mut Round) -> Result<()> {
        let clock = Instant::now();
        let Some(mut claimed) = self.claim().await? else { return Ok(()) };
        claimed.journal.append(Record::Rehearsal)?;
        round.note(0, "lock, leases and journal", Side::There, Took { whole: clock.elapsed(), ..Took::default() });
        match self.go(&mut claimed, round).await {
            Ok(()) => self.look(number, Side::There).await,
            Err(error) => self.result.failed = Some(format!("round {number}: {error:#}")),
        }
        self.come_back(&mut claimed, round).await;
        let clock = Instant::now();
        self.release(claimed);
        round.note(0, "", Side::Home, Took { whole: clock.elapsed(), ..Took::default() });
        // What was left is named already. It may be a driver that keeps its device locked for good, and a read of such a
        // device never returns (`change/locks.rs`).
        if self.result.left.is_empty() {
            self.look(number, Side::Home).await;
        }
        Ok(())
    }

    /// The way there, up to the point at which QEMU would be started.
    async fn go(&mut self, claimed: &mut Claimed, round: &mut Round) -> Result<()> {
        let (plan, journal) = (self.plan, &mut claimed.journal);
        let last = plan.changes.len() + 2;
        let clock = Instant::now();
        hooks::run_before_guest(plan, Stage::Before, journal, &mut self.signals).await?;
        hooks_took(round, plan, 1, "hooks of `before` and `restored`", Side::There, clock.elapsed());
        let mut made = |index: usize, change: &Change, making: Making| {
            if let Making::Made(took) = making {
                round.note(index + 2, &change.to_string(), Side::There, besides(change, took));
            }
        };
        let (first_taking, all) = (plan.first_taking(), plan.changes.len());
        make_changes(plan, 0..first_taking, self.root, journal, &mut self.signals, &mut made).await?;
        // QEMU's answer does not change from round to round.
        if self.result.completed == 0
            && let Some(mut trial) = trial(plan)
        {
            display::prepare(plan)?;
            // A rehearsal may come before the first start, and makes nothing of what that makes.
            let (mut contents, passing) = contents::make_before_first_start(self.root, plan)?;
            trial.buffered(&passing);
            contents.extend(memory::make(plan, &mut self.signals).await?);
            let log = Log::open(&plan.paths.log, &trial.command)?;
            run_trial(&trial, plan, &log, &contents, &mut self.signals).await?;
        }
        vfio::works(self.root, &plan.leases).context("the host keeps its devices, and nothing was stopped")?;
        holders::look(plan, self.root)?;
        make_changes(plan, first_taking..all, self.root, journal, &mut self.signals, &mut made).await?;
        vfio::ask(self.root, &plan.leases).context("the guest could not have its devices")?;
        let clock = Instant::now();
        hooks::run_before_guest(plan, Stage::Ready, journal, &mut self.signals).await?;
        hooks_took(round, plan, last, "hooks of `ready` and `ended`", Side::There, clock.elapsed());
        Ok(())
    }

    async fn come_back(&mut self, claimed: &mut Claimed, round: &mut Round) {
        let plan = self.plan;
        let last = plan.changes.len() + 2;
        let mut done = |part: RestoreStep<'_>| match part {
            RestoreStep::Hooks(stage, took) => {
                hooks_took(round, plan, if stage == Stage::Ended { last } else { 1 }, "", Side::Home, took);
            }
            RestoreStep::Undone(report) => {
                // Changes are numbered from 1 in the order of the plan.
                round.note(report.seq as usize + 1, "", Side::Home, besides(&report.change, report.took));
            }
        };
        let (left, warnings) = restore_host(&mut claimed.journal, self.root, Some(plan), REHEARSED, &mut done).await;
        self.result.left.extend(left);
        for warning in warnings {
            // Most say the same each round.
            if !self.result.warnings.contains(&warning) {
                self.result.warnings.push(warning);
            }
        }
    }

    /// Looks at the host, once it has come to rest, and notes what is not as at the last look from this side. What is
    /// different is named once: the next look is compared with this one.
    async fn look(&mut self, round: u32, side: Side) {
        let last = if side == Side::Home { &mut self.home } else { &mut self.there };
        let deadline = Instant::now() + REST_LIMIT;
        let now = loop {
            let late = Instant::now() > deadline;
            if late || udev_rests(self.root) {
                let now = Look::at(self.plan, self.root);
                let as_before = last.as_ref().is_none_or(|last| last.differences(&now).all(|d| d.stays()));
                if as_before || late {
                    break now;
                }
            }
            tokio::time::sleep(POLL).await;
        };
        if let Some(last) = last {
            for difference in last.differences(&now) {
                if difference.stays() {
                    self.result.stays.push(difference.what);
                } else {
                    let leak = Leak { round, side, difference };
                    tracing::warn!(event = "leak", round, "{leak}");
                    self.result.leaks.push(leak);
                }
            }
        }
        *last = Some(now);
    }
}

/// Of a change that makes others work, only what is besides their work is ours.
fn besides(change: &Change, took: Took) -> Took {
    if change.nature().makes_others_work { took } else { Took { change: Duration::ZERO, ..took } }
}

fn hooks_took(round: &mut Round, plan: &Plan, place: usize, name: &str, side: Side, took: Duration) {
    if !plan.hooks.is_empty() {
        round.note(place, name, side, Took { whole: took, change: took });
    }
}

/// Whether udev has nothing to do: it keeps this file as long as it has, which is what `udevadm settle` waits for.
fn udev_rests(root: &Root) -> bool {
    !root.path("/run/udev/queue").exists()
}
