//! The host comes back whatever happens: the launcher is killed at each record of its journal.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::kit::job::{Job, Output};
use crate::kit::lab::Lab;
use crate::kit::snapshot::Snapshot;
use crate::kit::thorough;

pub const GUEST_BOOT: Duration = Duration::from_secs(180);
pub const SOON: Duration = Duration::from_secs(120);
pub const RUN_DIR: &str = "/run/vfio-run/only";
pub const FILE: &str = "/home/tester/machines/only.ron";

/// Prints QEMU's process number.
pub const QEMU: &str = r#"sed -n 's/.*"started":{"name":"qemu","pid":\([0-9]*\).*/\1/p' /run/vfio-run/only/journal"#;

/// A desktop on the only GPU: a unit that holds the screen's node and, as display managers do, starts again when it fails. And a function that may sleep, as on a laptop.
const DESKTOP: &str = "
modprobe vfio-pci; udevadm settle
: >/run/lab/guest.log; chmod 666 /run/lab/guest.log /dev/kvm
printf '[Unit]\\nStartLimitIntervalSec=0\\n[Service]\\nRestart=always\\nRestartSec=1\\nExecStart=/bin/sh -c \"exec sleep infinity 7</dev/dri/card0\"\\n' >/etc/systemd/system/desktop.service
ln -sf /etc/systemd/system/desktop.service /etc/systemd/system/display-manager.service
systemctl start desktop.service
echo auto >/sys/bus/pci/devices/0000:01:00.1/power/control";

/// A guest on the only GPU, with a change of nearly each kind that a handover knows.
pub fn machine(more: &str) -> String {
    format!(
        "(guest: Other, accelerator: Kvm, memory: (size: \"64 MiB\", pages: Huge(\"2 MiB\")),
          cpu: (vcpus: 1, features: [\"-xsave\"]), networks: [], serial: File(\"/run/lab/guest.log\"), {more})"
    )
}

/// The guest obeys, and has the whole card.
pub const OBEDIENT: &str = r#"kernel: (image: "/lab/guests/tiny"), shutdown_timeout: 30, pci: ["01:00.*"]"#;

/// A lab host with a desktop, and how it looked before anybody took anything.
pub struct Desk {
    pub lab: Lab,
    before: Snapshot,
    rests: Rests,
}

/// When a host can be compared with what it was.
#[derive(Clone, Copy)]
pub struct Rests {
    /// What succeeds once the kernel is done with what came back.
    pub when: &'static str,
    /// What differs each time, by the beginnings of names.
    pub except: &'static [&'static str],
}

impl Desk {
    pub fn new(release: &str) -> Result<Self> {
        // Begun by UEFI, as desktops are: the consoles are taken off the card by hand there.
        Self::with("uefi", release, &machine(OBEDIENT), Rests { when: "true", except: &[] })
    }

    /// A desktop on a host of this variant, and a machine.
    pub fn with(variant: &str, release: &str, machine: &str, rests: Rests) -> Result<Self> {
        Self::on(Lab::variant(variant, release).start()?, machine, rests)
    }

    /// A desktop on this host, and a machine.
    pub fn on(lab: Lab, machine: &str, rests: Rests) -> Result<Self> {
        lab.load_kvm()?;
        lab.sh(DESKTOP)?;
        Self { before: Snapshot::default(), lab, rests }.with_machine(machine)
    }

    /// The same with another machine.
    pub fn with_machine(mut self, machine: &str) -> Result<Self> {
        self.lab.install_machine("only", machine)?;
        // Asks QEMU what it can do, which all runs find in the cache.
        self.lab.run_for(&format!("/lab/bin/vfio-run check {FILE}"), GUEST_BOOT)?.ok()?;
        self.before = self.lab.snapshot_of_host()?;
        Ok(self)
    }

    /// Whether the host is as it was, nothing more and nothing less.
    pub fn is_as_before(&self, when: &str, output: &Output) -> Result<()> {
        self.lab.wait_until(self.rests.when, SOON)?;
        let left = self.before.diff(&self.lab.snapshot_of_host()?).except(self.rests.except);
        ensure!(left.is_empty(), "left behind after {when}:\n{left}\n{output}");
        ensure!(self.lab.run(&format!("[ -e {RUN_DIR} ]"))?.status != 0, "{when}: the run directory is still there");
        Ok(())
    }

    /// Starts the program on a machine, below another program that is named before it.
    pub fn run(&self, below: &str, file: &str) -> Result<Job<'_>> {
        self.lab.sh(": >/run/lab/guest.log")?;
        self.lab.start(&format!("exec {below} /lab/bin/vfio-run -v {file}"))
    }

    /// Starts a machine and waits until its guest runs.
    pub fn start(&self, file: &str) -> Result<Job<'_>> {
        let job = self.run("", file)?;
        job.wait_until("grep -q READY /run/lab/guest.log", GUEST_BOOT)?;
        Ok(job)
    }

    /// After `recover` nothing must be left.
    pub fn recover(&self, when: &str) -> Result<()> {
        let recovered = self.lab.run_for("/lab/bin/vfio-run recover -v", SOON)?;
        ensure!(recovered.status == 0, "{when}: {recovered}");
        self.is_as_before(when, &recovered)
    }
}

/// Kills what follows by SIGKILL as it syncs its journal for the `n`th time: record `n` is written, and nothing that comes
/// after it is done.
fn killed_at(n: usize) -> String {
    format!("env LD_PRELOAD=/lab/bin/faults.so DIE_AT_SYNC={n}")
}

/// What a record is about, without what differs from run to run: process numbers, the pages that are free.
fn kind_of(record: &str) -> String {
    match serde_json::from_str(record).unwrap_or_default() {
        serde_json::Value::Object(fields) => {
            fields.iter().map(|(kind, what)| format!("{kind} {} {}", what["seq"], what["name"])).collect()
        }
        other => other.to_string(),
    }
}

/// The records of a whole run up to the guest's first instruction, each as its line.
pub fn records(desk: &Desk) -> Result<Vec<String>> {
    let job = desk.start(FILE)?;
    let journal = desk.lab.sh(&format!("cat {RUN_DIR}/journal"))?;
    desk.lab.sh("/lab/bin/vfio-run stop only")?;
    let ended = job.wait(SOON)?;
    ensure!(ended.status == 0, "{ended}");
    desk.is_as_before("a run that nobody disturbed", &ended)?;
    Ok(journal.lines().map(str::to_owned).collect())
}

#[test]
fn a_launcher_that_is_killed_leaves_nothing_behind() -> Result<()> {
    for release in thorough::releases() {
        let desk = Desk::new(release)?;
        let since = Instant::now();
        let records = records(&desk)?;
        eprintln!("{release}: {} records; a run takes {:.0} s", records.len(), since.elapsed().as_secs_f32());
        ensure!(records.iter().any(|record| record.contains("leave_console")), "no consoles to take off: {records:#?}");
        // Of those by which anything is decided, every second.
        killed_at_each(&desk, &records, 2)?;
        killed_while_it_gives_back(&desk, records.len(), 4)?;
        who_gives_back_is_succeeded_by_the_next(&desk)?;
        desk.lab.finish()?;
    }
    Ok(())
}

/// Kills a launcher at each of its records up to the guest's first instruction; usually at one of so many of those by which
/// anything is decided.
pub fn killed_at_each(desk: &Desk, records: &[String], one_of: usize) -> Result<()> {
    let since = Instant::now();
    ensure!(records.last().is_some_and(|last| last.contains("running")), "{records:#?}");
    let mut points = 0;
    for (index, record) in records.iter().enumerate() {
        // Nothing is decided by `done`: what stands after it stands at the next record too.
        if !thorough::is_on() && (kind_of(record).starts_with("done") || index / 2 % one_of != 1) {
            continue;
        }
        points += 1;
        let when = format!("record {} of {}, {record}", index + 1, records.len());
        let killed = desk.run(&killed_at(index + 1), FILE)?.wait(GUEST_BOOT)?;
        ensure!(killed.status == 137, "{when}: {killed}");
        let journal = desk.lab.sh(&format!("tail -n 1 {RUN_DIR}/journal"))?;
        ensure!(kind_of(&journal) == kind_of(record), "killed at {journal}, which is not {when}");
        desk.recover(&when)?;
        eprintln!("{:4.0} s: {}", since.elapsed().as_secs_f32(), kind_of(record));
    }
    eprintln!("killed at {points} records, {:.0} s", since.elapsed().as_secs_f32());
    Ok(())
}

/// How many records a launcher writes while it gives back: what it takes at least, and far more than it takes.
const GIVING_BACK: std::ops::RangeInclusive<usize> = 8..=60;

/// Kills a launcher at each record of its way back; usually at one of so many.
pub fn killed_while_it_gives_back(desk: &Desk, to_the_guest: usize, one_of: usize) -> Result<()> {
    let since = Instant::now();
    let (mut points, mut written) = (0, 0);
    for record in 1..=*GIVING_BACK.end() {
        // What is done at a record and the next is seldom of two kinds.
        if !thorough::is_on() && record % one_of != 1 {
            continue;
        }
        let when = format!("record {record} after the guest's first instruction");
        let job = desk.run(&killed_at(to_the_guest + record), FILE)?;
        job.wait_until("grep -q READY /run/lab/guest.log", GUEST_BOOT)?;
        // It waits for the end, which the launcher may not live to tell.
        desk.lab.run_for("/lab/bin/vfio-run stop only", SOON)?;
        let ended = job.wait(SOON)?;
        if ended.status == 0 {
            desk.is_as_before("a run that outlived its records", &ended)?;
            written = record - 1;
            break;
        }
        points += 1;
        ensure!(ended.status == 137, "{when}: {ended}");
        let journal = desk.lab.sh(&format!("tail -n 1 {RUN_DIR}/journal"))?;
        desk.recover(&format!("{when}, {journal}"))?;
        eprintln!("{:4.0} s: {}", since.elapsed().as_secs_f32(), kind_of(&journal));
    }
    ensure!(GIVING_BACK.contains(&written), "{written} records while it gave back");
    eprintln!("killed at {points} records while it gave back, {:.0} s", since.elapsed().as_secs_f32());
    Ok(())
}

fn who_gives_back_is_succeeded_by_the_next(desk: &Desk) -> Result<()> {
    let job = desk.start(FILE)?;
    desk.lab.kill("vfio-run", "KILL")?;
    ensure!(job.wait(SOON)?.status == 137);
    // A QEMU that has not quite ended still has the card.
    desk.lab.sh(&format!("kill -KILL $({QEMU})"))?;
    desk.lab.wait_until(&format!("[ ! -e /proc/$({QEMU}) ]"), SOON)?;
    let mut deaths = 0;
    loop {
        let recovered = desk.lab.run_for(&format!("exec {} /lab/bin/vfio-run recover -v", killed_at(1)), SOON)?;
        match recovered.status {
            137 => deaths += 1,
            0 => break desk.is_as_before("deaths while giving back", &recovered)?,
            _ => bail!("{recovered}"),
        }
        ensure!(deaths < 100, "recover gets nowhere: {recovered}");
    }
    ensure!(deaths >= 8, "only {deaths} deaths while giving back");
    eprintln!("killed {deaths} times while giving back");
    Ok(())
}
