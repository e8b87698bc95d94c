//! The machines that are watched: each look compares what has been counted since the one before.

use std::collections::BTreeMap;
use std::path::Path;
use std::task::Poll;

use anyhow::Result;
use tokio::time::Instant;

use super::cards::Card;
use super::monitor::{Disk, Monitor, Told};
use crate::commands::shared::machines::{about_unreadable, closed, names, run_dir, state_without_answer};
use crate::commands::shared::planned;
use crate::host::Root;
use crate::host::activity::{Activity, MemoryUse, Since, Traffic};
use crate::journal::{Journal, last_qemu};
use crate::report::{DiskRate, InterruptRate, MachineLoad, Top, VcpuLoad};
use crate::run;
use crate::run::control::{Answer, ask_status};
use crate::run::process::remedy_if_stopped;
use crate::units::{CpuSet, machine_state};

/// Those that were seen at the last look.
pub(super) struct Machines {
    root: Root,
    /// Only these, if there are any.
    only: Vec<String>,
    guests: BTreeMap<String, Guest>,
    last: Instant,
}

/// A guest that runs.
struct Guest {
    qemu: i32,
    /// The CPUs that are its own.
    cpus: Option<CpuSet>,
    cards: Vec<Card>,
    monitor: Monitor,
    counted: Option<Counted>,
}

/// What has been counted up to one moment.
struct Counted {
    at: Instant,
    activity: Activity,
    told: Option<Told>,
    traffic: Vec<Option<Traffic>>,
}

impl Machines {
    /// Those with these names; without any, all.
    pub(super) fn of(only: &[String]) -> Self {
        Self { root: planned::root(), only: only.to_vec(), guests: BTreeMap::new(), last: Instant::now() }
    }

    /// What they did since the last look, the busiest first. A machine that is seen for the first time has no numbers yet.
    pub(super) async fn look(&mut self) -> Result<Top> {
        let mut machines = Vec::new();
        let mut names = names()?;
        names.retain(|name| self.only.is_empty() || self.only.contains(name));
        names.extend(closed().into_iter().filter(|name| self.only.is_empty() || self.only.contains(name)));
        let mut guests = std::mem::take(&mut self.guests);
        // All at once, so that what one of them takes is what all take.
        let looks = names.iter().map(|name| look_at(&self.root, name, guests.remove(name)));
        for (name, looked) in names.iter().zip(together(looks).await) {
            let (guest, load) = looked.unwrap_or_else(|error| (None, Some(unreadable(name, &error))));
            self.guests.extend(guest.map(|guest| (name.clone(), guest)));
            machines.extend(load);
        }
        machines.sort_by(|a, b| {
            let load = |machine: &MachineLoad| machine.load.unwrap_or(-1.0);
            load(b).total_cmp(&load(a)).then_with(|| a.name.cmp(&b.name))
        });
        let now = Instant::now();
        let seconds = (now - std::mem::replace(&mut self.last, now)).as_secs_f64();
        Ok(Top { seconds: rounded(seconds), machines })
    }
}

/// A machine, with what was known of its guest. Without a load nothing of it runs.
async fn look_at(root: &Root, name: &str, known: Option<Guest>) -> Result<(Option<Guest>, Option<MachineLoad>)> {
    let run_dir = run_dir(name)?;
    let load = MachineLoad { name: name.to_owned(), ..MachineLoad::default() };
    let owner = run::Lock::owner(&run_dir);
    let stopped = |load: MachineLoad, what, pid| match remedy_if_stopped(what, pid) {
        Some(remedy) => MachineLoad { state: machine_state::SILENT.to_owned(), remedy: Some(remedy), ..load },
        None => load,
    };
    if !run::guest_runs(&run_dir) {
        let records = Journal::read(&run_dir)?;
        let load = owner.zip(records).map(|(owner, records)| {
            let state = state_without_answer(&run_dir, &records).to_owned();
            stopped(MachineLoad { state, ..load }, "its launcher", owner.pid)
        });
        return Ok((None, load));
    }
    let is_there = |guest: &Guest| root.path(format!("/proc/{}/task", guest.qemu)).is_dir();
    let mut guest = match known.filter(is_there) {
        Some(guest) => guest,
        // It has begun, or its QEMU was started anew.
        None => match Guest::of(root, &run_dir)? {
            Some(guest) => guest,
            None => return Ok((None, None)),
        },
    };
    let mut load = guest.look(root, &run_dir, load).await;
    if owner.is_none() {
        load.state = machine_state::UNSUPERVISED.to_owned();
    }
    let load = stopped(load, "QEMU", Some(guest.qemu));
    Ok((Some(guest), Some(load)))
}

/// A machine of which no more is known than why.
fn unreadable(name: &str, error: &anyhow::Error) -> MachineLoad {
    let state = machine_state::UNREADABLE.to_owned();
    let remedy = Some(about_unreadable(name, error));
    MachineLoad { name: name.to_owned(), state, remedy, ..MachineLoad::default() }
}

/// What all of these come to, in their order, with none waiting for another.
async fn together<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut all: Vec<_> = all.map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|context| {
        for (one, done) in &mut all {
            if done.is_none()
                && let Poll::Ready(value) = one.as_mut().poll(context)
            {
                *done = Some(value);
            }
        }
        if all.iter().all(|(_, done)| done.is_some()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    all.into_iter().filter_map(|(_, done)| done).collect()
}

impl Guest {
    fn of(root: &Root, run_dir: &Path) -> Result<Option<Self>> {
        let Some(records) = Journal::read(run_dir)? else { return Ok(None) };
        let Some((qemu, _)) = last_qemu(&records) else { return Ok(None) };
        // A plan of another version may not be readable.
        let plan = run::kept_plan(run_dir).ok();
        let cpus = plan.as_ref().and_then(|plan| plan.placement.guest_cpus());
        let cards = plan.map(|plan| Card::all(root, &plan, qemu)).unwrap_or_default();
        Ok(Some(Self { qemu, cpus, cards, monitor: Monitor::default(), counted: None }))
    }

    async fn look(&mut self, root: &Root, run_dir: &Path, mut load: MachineLoad) -> MachineLoad {
        // One that was stopped by a signal would be waited for in vain.
        let asked = match remedy_if_stopped("QEMU", Some(self.qemu)) {
            Some(why) => Err(why),
            None => self.monitor.ask(&run_dir.join("qmp.sock")).await,
        };
        let now = Counted {
            at: Instant::now(),
            activity: Activity::glance(root, self.qemu, self.cpus.as_ref()),
            traffic: self.cards.iter().map(|card| card.traffic(root)).collect(),
            told: asked.as_ref().ok().cloned(),
        };
        load.qemu = Some(self.qemu);
        load.memory = Some(MemoryUse::counted(root, self.qemu));
        // The launcher is asked only if QEMU does not tell: it sleeps otherwise. QEMU says `prelaunch` of each guest that waits for
        // `cont`: of one that starts, and of one that was reset while it was paused.
        let state = now.told.as_ref().and_then(|told| told.state.clone()).filter(|state| state != "prelaunch");
        load.state = match state {
            Some(state) => state,
            None => launchers_word(run_dir).await,
        };
        if load.state == machine_state::SILENT {
            let launcher = run::Lock::owner(run_dir).and_then(|owner| owner.pid);
            load.remedy = remedy_if_stopped("its launcher", launcher);
        }
        if self.cpus.is_none() {
            load.unknown.insert("interrupts", "the guest has no CPUs of its own (`cpu.pin`)".to_owned());
        }
        match (&asked, &self.monitor.no_exits) {
            (Err(why), _) => {
                load.unknown.insert("disks", why.clone());
                load.unknown.insert("exits", why.clone());
            }
            (Ok(_), Some(why)) => drop(load.unknown.insert("exits", why.clone())),
            (Ok(_), None) => {}
        }
        if let Some(before) = &self.counted {
            let seconds = (now.at - before.at).as_secs_f64().max(f64::EPSILON);
            self.compare(before, &now, seconds, &mut load);
        }
        self.counted = Some(now);
        load
    }

    /// Fills in what happened between two moments.
    fn compare(&self, before: &Counted, now: &Counted, seconds: f64, load: &mut MachineLoad) {
        let since = now.activity.since(&before.activity);
        add_threads(&since, seconds, load);
        if self.cpus.is_some() {
            let rate = |count| rounded(count as f64 / seconds);
            let all = since.interrupts.into_iter();
            let all = all.map(|one| InterruptRate { rate: rate(one.count), id: one.id, name: one.name });
            load.interrupts = Some(all.collect());
        }
        load.networks = self
            .cards
            .iter()
            .zip(before.traffic.iter().zip(&now.traffic))
            .map(|(card, (before, now))| card.rate(*before, *now, seconds))
            .collect();
        if let (Some(before), Some(now)) = (&before.told, &now.told) {
            let rate = |before: u64, now: u64| rounded(now.saturating_sub(before) as f64 / seconds);
            let disk = |(id, now): (&String, &Disk)| {
                // One that was attached meanwhile had nothing to do before.
                let before = before.disks.get(id).copied().unwrap_or_default();
                DiskRate {
                    id: id.clone(),
                    read_bytes: rate(before.read_bytes, now.read_bytes).round(),
                    written_bytes: rate(before.written_bytes, now.written_bytes).round(),
                    reads: rate(before.reads, now.reads),
                    writes: rate(before.writes, now.writes),
                }
            };
            load.disks = Some(now.disks.iter().map(disk).collect());
            let exits =
                now.exits.iter().filter_map(|(name, now)| Some((name.clone(), rate(*before.exits.get(name)?, *now))));
            load.exits = Some(exits.collect::<BTreeMap<_, _>>()).filter(|exits| !exits.is_empty());
        }
    }
}

fn add_threads(since: &Since, seconds: f64, load: &mut MachineLoad) {
    let share = |ms: f64| ms / 1e3 / seconds;
    let vcpus = || since.threads.iter().filter(|thread| thread.is_vcpu());
    let sum = |values: &mut dyn Iterator<Item = f64>| Some(rounded(share(values.sum())));
    load.load = sum(&mut vcpus().map(|thread| thread.run_ms));
    load.wait = sum(&mut vcpus().map(|thread| thread.wait_ms));
    load.others = sum(&mut since.threads.iter().filter(|thread| !thread.is_vcpu()).map(|thread| thread.run_ms));
    let vcpu = |name: &str| match name.strip_prefix("CPU ") {
        Some(rest) => rest.split('/').next().unwrap_or(rest).to_owned(),
        None => "all".to_owned(),
    };
    let each = vcpus().map(|thread| VcpuLoad {
        vcpu: vcpu(&thread.name),
        cpu: thread.cpu,
        load: rounded(share(thread.run_ms)),
        wait: rounded(share(thread.wait_ms)),
    });
    load.vcpus = each.collect();
    // Their threads come in the order in which QEMU made them, which after a hot-plug may not be that of their numbers.
    load.vcpus.sort_by_key(|vcpu| vcpu.vcpu.parse::<u32>().unwrap_or(u32::MAX));
}

/// What the launcher says of a guest that runs.
async fn launchers_word(run_dir: &Path) -> String {
    let run_dir = run_dir.to_owned();
    // In a thread: the user may leave meanwhile.
    let asked = tokio::task::spawn_blocking(move || match ask_status(&run_dir) {
        Answer::Of(reply) => reply.state,
        Answer::Silent => machine_state::SILENT.to_owned(),
        Answer::NotThere => {
            let records = Journal::read(&run_dir).ok().flatten().unwrap_or_default();
            state_without_answer(&run_dir, &records).to_owned()
        }
    });
    asked.await.unwrap_or_else(|_| machine_state::RUNNING.to_owned())
}

/// To three places.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::host::activity::SinceThread;
    use crate::run::control;

    #[tokio::test]
    async fn all_machines_are_asked_before_one_has_answered() {
        let asked = std::cell::RefCell::new(std::collections::BTreeSet::new());
        let look = |number: u32| {
            let asked = &asked;
            std::future::poll_fn(move |context| {
                asked.borrow_mut().insert(number);
                context.waker().wake_by_ref();
                if asked.borrow().len() == 3 { Poll::Ready(number) } else { Poll::Pending }
            })
        };
        let all = tokio::time::timeout(Duration::from_secs(30), together((0..3).map(look))).await;
        assert_eq!(all.unwrap(), [0, 1, 2]);
    }

    #[tokio::test]
    async fn a_launcher_that_is_silent_is_called_so_and_keeps_nobody_waiting() {
        let run_dir = tempfile::tempdir().unwrap();
        let _listens = std::os::unix::net::UnixListener::bind(control::path(run_dir.path())).unwrap();
        let qemu = std::process::id() as i32;
        let mut guest = Guest { qemu, cpus: None, cards: Vec::new(), monitor: Monitor::default(), counted: None };
        let root = Root::new("/");
        let mut look = std::pin::pin!(guest.look(&root, run_dir.path(), MachineLoad::default()));
        // Who waits for something else beside it gets that at once.
        tokio::select! {
            biased;
            _ = look.as_mut() => panic!("it waited for the launcher"),
            () = tokio::time::sleep(Duration::from_millis(1)) => {}
        }
        assert_eq!(look.await.state, machine_state::SILENT);
    }

    #[test]
    fn the_load_is_that_of_the_vcpus_and_what_else_qemu_does_stands_beside_it() {
        let thread =
            |name: &str, run_ms, wait_ms| SinceThread { name: name.to_owned(), run_ms, wait_ms, ..Default::default() };
        let threads = vec![
            thread("CPU 10/KVM", 500.0, 0.0),
            thread("CPU 2/KVM", 1500.0, 20.0),
            thread("qemu-system-x86", 100.0, 7.0),
        ];
        let mut load = MachineLoad::default();
        add_threads(&Since { threads, ..Since::default() }, 2.0, &mut load);
        assert_eq!((load.load, load.wait, load.others), (Some(1.0), Some(0.01), Some(0.05)));
        let vcpus: Vec<_> = load.vcpus.iter().map(|vcpu| (vcpu.vcpu.as_str(), vcpu.load)).collect();
        assert_eq!(vcpus, [("2", 0.75), ("10", 0.25)]);
        add_threads(&Since { threads: vec![thread("ALL CPUs/TCG", 900.0, 0.0)], ..Since::default() }, 1.0, &mut load);
        assert_eq!((load.vcpus[0].vcpu.as_str(), load.load), ("all", Some(0.9)));
    }
}
