//! The vCPUs' CPUs are a partition of their own while the guest runs, and the host's again afterwards.

use anyhow::{Context as _, Result, ensure};

use super::program::{END, MACHINE, START, prepare};
use crate::kit::job::{Job, Output};
use crate::kit::lab::Lab;
use crate::kit::snapshot::Snapshot;
use crate::kit::thorough;

/// A host, and how it looked before any guest.
struct Host {
    lab: Lab,
    before: Snapshot,
    /// Its CPUs.
    all: &'static str,
}

#[test]
fn a_guest_has_its_cpus_for_itself() -> Result<()> {
    let lab = Lab::variant("numa", "debian13").start()?;
    prepare(&lab)?;
    lab.sh("touch /run/lab/other.log")?;
    let file = install(&lab, "tiny", "4-5")?;
    lab.run_for(&format!("/lab/bin/vfio-run check {file}"), START)?.ok()?;
    let before = lab.snapshot_of_host()?;
    let host = Host { lab, before, all: "0-7" };
    in_turn!(
        &host;
        a_partition_is_made_read_back_and_undone,
        two_guests_have_a_partition_each_and_cannot_share_cpus,
        a_unit_divides_its_own_group,
        whatever_record_was_the_last_the_host_comes_back,
        what_is_quiet_stands_still_and_goes_on,
    );
    host.lab.finish()
}

/// A machine with these CPUs, whose guest writes to a log of its own.
fn install(lab: &Lab, name: &str, cpus: &str) -> Result<String> {
    let machine = MACHINE.replace("vcpus: 2", &format!("pin: \"{cpus}\", emulator: \"1\""));
    // Asked for, so that a kernel that refuses is an error and no warning.
    let machine = machine.replace("shutdown_timeout", "host: (isolate: Partition), shutdown_timeout");
    let log = if name == "tiny" { "guest" } else { name };
    lab.install_machine(name, &machine.replace("guest.log", &format!("{log}.log")))
}

impl Host {
    fn start(&self, below: &str, name: &str) -> Result<Job<'_>> {
        let log = if name == "tiny" { "guest" } else { name };
        self.lab.sh(&format!(": >/run/lab/{log}.log"))?;
        self.lab.start(&format!("exec {below} /lab/bin/vfio-run -v /home/tester/machines/{name}.ron"))
    }

    fn runs(&self, job: &Job<'_>, name: &str) -> Result<()> {
        let log = if name == "tiny" { "guest" } else { name };
        job.wait_until(&format!("grep -q READY /run/lab/{log}.log"), START)
    }

    fn stop(&self, job: Job<'_>, name: &str) -> Result<Output> {
        self.lab.sh(&format!("/lab/bin/vfio-run stop {name}"))?;
        let ended = job.wait(END)?;
        ensure!(ended.status == 0, "{ended}");
        Ok(ended)
    }

    /// The CPUs that belong to no partition, as the kernel has it.
    fn effective(&self) -> Result<String> {
        self.lab.sh("cat /sys/fs/cgroup/cpuset.cpus.effective")
    }

    /// Nothing but QEMU's vCPUs runs on these CPUs, and each of these runs on its own.
    fn has_for_itself(&self, group: &str, cpus: [u32; 2], others: &str) -> Result<()> {
        let [first, second] = cpus;
        ensure!(self.effective()? == others, "{}", self.effective()?);
        let file = |name: &str| self.lab.sh(&format!("cat /sys/fs/cgroup/{group}/vcpus/{name}"));
        ensure!(file("cpuset.cpus.partition")? == "isolated", "{}", file("cpuset.cpus.partition")?);
        let threads = "for t in $(cat /sys/fs/cgroup/GROUP/vcpus/cgroup.threads); do \
             echo \"$(cat /proc/$t/comm)|$(sed -n 's/^Cpus_allowed_list:\\t//p' /proc/$t/status)\"; done | sort";
        let threads = self.lab.sh(&threads.replace("GROUP", group))?;
        ensure!(threads == format!("CPU 0/KVM|{first}\nCPU 1/KVM|{second}"), "{threads}");
        // All programs of the host, by the CPUs that they may run on.
        let foreign = format!(
            "for t in /proc/[0-9]*; do [ -e $t/exe ] && ! grep -q qemu $t/comm && \
               sed -n 's/^Cpus_allowed_list:\\t//p' $t/status; done | sort -u | grep -v '^{others}$' | cat"
        );
        let foreign = self.lab.sh(&foreign)?;
        ensure!(!foreign.lines().any(|list| list.contains(&first.to_string())), "on CPU {first} too: {foreign}");
        Ok(())
    }

    fn is_as_before(&self, when: &str, output: &Output) -> Result<()> {
        let left = self.before.diff(&self.lab.snapshot_of_host()?);
        ensure!(left.is_empty(), "left behind after {when}:\n{left}\n{output}");
        ensure!(self.effective()? == self.all, "{when}: {}", self.effective()?);
        Ok(())
    }
}

const SCOPE: &str = "system.slice/vfio-run-tiny.scope";

fn a_partition_is_made_read_back_and_undone(host: &Host) -> Result<()> {
    let job = host.start("", "tiny")?;
    host.runs(&job, "tiny")?;
    host.has_for_itself(SCOPE, [4, 5], "0-3,6-7")?;
    let ended = host.stop(job, "tiny")?;
    host.is_as_before("a run", &ended)
}

fn two_guests_have_a_partition_each_and_cannot_share_cpus(host: &Host) -> Result<()> {
    install(&host.lab, "other", "6-7")?;
    let job = host.start("", "tiny")?;
    host.runs(&job, "tiny")?;
    let other = host.start("", "other")?;
    host.runs(&other, "other")?;
    host.has_for_itself(SCOPE, [4, 5], "0-3")?;
    host.has_for_itself("system.slice/vfio-run-other.scope", [6, 7], "0-3")?;
    host.stop(other, "other")?;
    host.has_for_itself(SCOPE, [4, 5], "0-3,6-7")?;
    // Another machine on the same CPUs is told, and has none for itself.
    let file = install(&host.lab, "other", "5-6")?;
    let told = host.lab.run(&format!("/lab/bin/vfio-run check {file}"))?;
    ensure!(told.to_string().contains("CPU 5, which another cpuset partition has"), "{told}");
    let ended = host.stop(job, "tiny")?;
    host.is_as_before("two runs", &ended)
}

fn a_unit_divides_its_own_group(host: &Host) -> Result<()> {
    let lab = &host.lab;
    let file = install(lab, "tiny", "4-5")?;
    lab.sh(&format!(": >/run/lab/guest.log; /lab/bin/vfio-run unit --install {file}"))?;
    let before = lab.snapshot_of_host()?;
    lab.run_for("systemctl start vfio-run-tiny || { journalctl -u vfio-run-tiny; false; }", START)?.ok()?;
    lab.wait_until("grep -q READY /run/lab/guest.log", START)?;
    host.has_for_itself("system.slice/vfio-run-tiny.service/guest", [4, 5], "0-3,6-7")?;
    // A daemon that is reloaded changes nothing.
    lab.sh("systemctl daemon-reload")?;
    host.has_for_itself("system.slice/vfio-run-tiny.service/guest", [4, 5], "0-3,6-7")?;
    lab.sh("systemctl stop vfio-run-tiny")?;
    let left = before.diff(&lab.snapshot_of_host()?);
    ensure!(left.is_empty(), "left behind:\n{left}");
    // Killed, systemd ends the guest, and `recover` gives the host back.
    lab.sh(": >/run/lab/guest.log")?;
    lab.run_for("systemctl start vfio-run-tiny", START)?.ok()?;
    lab.sh("kill -KILL $(systemctl show -P MainPID vfio-run-tiny)")?;
    lab.wait_until("[ $(systemctl show -P ActiveState vfio-run-tiny) = failed ]", END)?;
    lab.sh("systemctl reset-failed vfio-run-tiny")?;
    let left = before.diff(&lab.snapshot_of_host()?);
    ensure!(left.is_empty(), "left behind by a killed launcher:\n{left}");
    lab.sh("rm /etc/systemd/system/vfio-run-tiny.service; systemctl daemon-reload").map(drop)
}

fn whatever_record_was_the_last_the_host_comes_back(host: &Host) -> Result<()> {
    let job = host.start("", "tiny")?;
    host.runs(&job, "tiny")?;
    let journal = host.lab.sh("cat /run/vfio-run/tiny/journal")?;
    let ended = host.stop(job, "tiny")?;
    host.is_as_before("a run that nobody disturbed", &ended)?;
    let is_first = |record: &str| record.contains("cpuset_controller") || record.contains("affinities");
    let first = journal.lines().position(is_first);
    let first = first.context("no change of a cgroup in the journal")?;
    for (index, record) in journal.lines().enumerate().skip(first) {
        // The partition is not there yet, it may be there, and the threads are in it.
        let is_told =
            ["vcpu_group", "allowed_cpus", "{\"partition\"", "running"].iter().any(|word| record.contains(word));
        if !is_told && !thorough::is_on() {
            continue;
        }
        let when = format!("record {} was the last: {record}", index + 1);
        let below = format!("env LD_PRELOAD=/lab/bin/faults.so DIE_AT_SYNC={}", index + 1);
        let killed = host.start(&below, "tiny")?.wait(START)?;
        ensure!(killed.status == 137, "{when}: {killed}");
        let recovered = host.lab.run_for("/lab/bin/vfio-run recover -v", END)?;
        ensure!(recovered.status == 0, "{when}: {recovered}");
        host.is_as_before(&when, &recovered)?;
    }
    Ok(())
}

fn what_is_quiet_stands_still_and_goes_on(host: &Host) -> Result<()> {
    let lab = &host.lab;
    lab.sh("systemd-run --unit busy.service sleep infinity")?;
    let machine = MACHINE.replace("shutdown_timeout", "host: (quiet: [\"busy.service\"]), shutdown_timeout");
    lab.install_machine("tiny", &machine)?;
    let frozen = |wanted: &str| -> Result<()> {
        let found = lab.sh("grep frozen /sys/fs/cgroup/system.slice/busy.service/cgroup.events")?;
        ensure!(found == format!("frozen {wanted}"), "{found}");
        Ok(())
    };
    let job = host.start("", "tiny")?;
    host.runs(&job, "tiny")?;
    frozen("1")?;
    // Its launcher is killed with its guest.
    lab.kill("vfio-run", "KILL")?;
    job.wait(END)?;
    lab.kill("qemu-system-x86", "KILL")?;
    lab.sh("/lab/bin/vfio-run recover")?;
    frozen("0")?;
    lab.sh("systemctl stop busy.service")?;
    Ok(())
}

/// Before Linux 6.7: a slice of the machine's own, with the CPUs of all of QEMU's threads.
#[test]
fn a_guest_on_an_older_kernel_has_its_slices_cpus_for_itself() -> Result<()> {
    let lab = Lab::variant("bare", "debian12").start()?;
    prepare(&lab)?;
    let file = install(&lab, "tiny", "2-3")?;
    lab.run_for(&format!("/lab/bin/vfio-run check {file}"), START)?.ok()?;
    // A program that somebody keeps on one of these CPUs: the kernel would forget it.
    lab.sh("cp /bin/sleep /run/lab/pinned; systemd-run --unit pinned.service taskset -c 2 /run/lab/pinned infinity")?;
    lab.wait_until("pgrep -x pinned", END)?;
    let before = lab.snapshot_of_host()?;
    let host = Host { lab, before, all: "0-3" };
    in_turn!(
        &host;
        a_slice_is_a_partition_and_masks_come_back,
        whatever_record_was_the_last_the_host_comes_back,
        cpus_that_the_kernel_lost_come_back,
    );
    host.lab.finish()
}

const SLICE: &str = "vfioruntiny.slice";

impl Host {
    fn slice_is_a_partition(&self) -> Result<()> {
        ensure!(self.effective()? == "0", "{}", self.effective()?);
        let partition = self.lab.sh(&format!("cat /sys/fs/cgroup/{SLICE}/cpuset.cpus.partition"))?;
        ensure!(partition == "isolated", "{partition}");
        let threads = "for t in /proc/$(pgrep -x qemu-system-x86)/task/*; do \
             echo \"$(cat $t/comm)|$(sed -n 's/^Cpus_allowed_list:\\t//p' $t/status)\"; done | grep CPU | sort";
        let threads = self.lab.sh(threads)?;
        ensure!(threads == "CPU 0/KVM|2\nCPU 1/KVM|3", "{threads}");
        let pinned = self.lab.sh("taskset -cp $(pgrep -x pinned)")?;
        ensure!(pinned.ends_with(": 0"), "{pinned}");
        Ok(())
    }
}

fn a_slice_is_a_partition_and_masks_come_back(host: &Host) -> Result<()> {
    let job = host.start("", "tiny")?;
    host.runs(&job, "tiny")?;
    host.slice_is_a_partition()?;
    let ended = host.stop(job, "tiny")?;
    let pinned = host.lab.sh("taskset -cp $(pgrep -x pinned)")?;
    ensure!(pinned.ends_with(": 2"), "{pinned}");
    host.is_as_before("a run", &ended)
}

/// Everybody is killed, and somebody has stopped the slice before `recover`.
fn cpus_that_the_kernel_lost_come_back(host: &Host) -> Result<()> {
    let job = host.start("", "tiny")?;
    host.runs(&job, "tiny")?;
    host.lab.kill("vfio-run", "KILL")?;
    job.wait(END)?;
    host.lab.kill("qemu-system-x86", "KILL")?;
    host.lab.sh(&format!("systemctl stop {SLICE}; systemctl daemon-reload"))?;
    let recovered = host.lab.run_for("/lab/bin/vfio-run recover -v", END)?;
    ensure!(recovered.status == 0, "{recovered}");
    host.is_as_before("a slice that somebody stopped", &recovered)
}
