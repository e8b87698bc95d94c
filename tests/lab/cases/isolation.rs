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
        the_slices_of_a_newer_host_leave_the_cpus,
    );
    host.lab.finish()
}

/// A machine with these CPUs, whose guest writes to a log of its own.
fn install(lab: &Lab, name: &str, cpus: &str) -> Result<String> {
    install_as(lab, name, cpus, "Partition")
}

fn install_as(lab: &Lab, name: &str, cpus: &str, isolate: &str) -> Result<String> {
    let machine = MACHINE.replace("vcpus: 2", &format!("pin: \"{cpus}\", emulator: \"1\""));
    // Asked for, so that a kernel that refuses is an error and no warning.
    let machine = machine.replace("shutdown_timeout", &format!("host: (isolate: {isolate}), shutdown_timeout"));
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
    // Somebody ends it, and the launcher makes it again.
    let file = format!("/sys/fs/cgroup/{SCOPE}/vcpus/cpuset.cpus.partition");
    host.lab.sh(&format!("echo member >{file}"))?;
    host.lab.wait_until(&format!("[ $(cat {file}) = isolated ]"), END)?;
    host.has_for_itself(SCOPE, [4, 5], "0-3,6-7")?;
    let ended = host.stop(job, "tiny")?;
    ensure!(ended.to_string().contains("were not its own for a moment"), "{ended}");
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
    // The first ends first: what it knows of the kernel's threads, which the kernel forgets, is known until the last ends.
    host.stop(job, "tiny")?;
    host.has_for_itself("system.slice/vfio-run-other.scope", [6, 7], "0-5")?;
    // Another machine on the same CPUs is told, and has none for itself.
    let file = install(&host.lab, "tiny", "5-6")?;
    let told = host.lab.run(&format!("/lab/bin/vfio-run check {file}"))?;
    ensure!(told.to_string().contains("CPU 6, which another cpuset partition has"), "{told}");
    let ended = host.stop(other, "other")?;
    install(&host.lab, "tiny", "4-5")?;
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
    // systemd switches a controller that no unit wants any more off when it comes to it.
    lab.wait_until("! grep -q cpuset /sys/fs/cgroup/cgroup.subtree_control", END)?;
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
        let is_told = ["vcpu_group", "allowed_cpus", "{\"partition\"", "narrow_slices", "running"]
            .iter()
            .any(|word| record.contains(word));
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

/// The host's slices leave the vCPUs' CPUs: for a scope, for a unit, for two machines at once.
#[test]
fn a_hosts_slices_leave_a_guests_cpus() -> Result<()> {
    let lab = Lab::variant("bare", "debian12").start()?;
    prepare(&lab)?;
    let file = install_as(&lab, "tiny", "2-3", "Slices")?;
    lab.run_for(&format!("/lab/bin/vfio-run check {file}"), START)?.ok()?;
    // Programs that somebody keeps on a CPU of the guest's, and on another: the kernel forgets both.
    for cpu in ["2", "1"] {
        let keeps = "cp /bin/sleep /run/lab/kept-CPU; systemd-run --unit kept-CPU.service taskset -c CPU /run/lab/kept-CPU infinity";
        lab.sh(&keeps.replace("CPU", cpu))?;
        lab.wait_until(&format!("pgrep -x kept-{cpu}"), END)?;
    }
    let before = lab.snapshot_of_host()?;
    let host = Host { lab, before, all: "0-3" };
    in_turn!(
        &host;
        slices_leave_the_cpus_and_masks_come_back,
        whatever_record_was_the_last_the_host_comes_back,
        a_unit_is_in_a_slice_of_its_own_and_shares_the_others,
    );
    if thorough::is_on() {
        in_turn!(&host; what_a_slice_had_comes_back);
    }
    host.lab.finish()
}

impl Host {
    fn cpus_of(&self, program: &str) -> Result<String> {
        self.lab.sh(&format!("sed -n 's/^Cpus_allowed_list:\\t//p' /proc/$(pgrep -x {program})/status"))
    }

    /// The CPUs of the groups at the top that the host's programs are in.
    fn slices_have(&self, cpus: &str) -> Result<()> {
        for unit in ["init.scope", "system.slice", "user.slice"] {
            let found = self.lab.sh(&format!("cat /sys/fs/cgroup/{unit}/cpuset.cpus.effective"))?;
            ensure!(found == cpus, "{unit}: {found}");
        }
        Ok(())
    }

    /// The CPUs of the threads of the QEMU of this machine that run vCPUs, and those that the rest may use.
    fn threads_of(&self, name: &str) -> Result<String> {
        let threads = "for t in /proc/$(pgrep -f 'qemu-system-x86_64.*guest=NAME')/task/*; do \
             echo \"$(cat $t/comm | grep CPU || echo other)|$(sed -n 's/^Cpus_allowed_list:\\t//p' $t/status)\"; done | sort -u";
        self.lab.sh(&threads.replace("NAME", name))
    }

    fn kept_programs_are_back(&self) -> Result<()> {
        for cpu in ["1", "2"] {
            let found = self.cpus_of(&format!("kept-{cpu}"))?;
            ensure!(found == cpu, "kept-{cpu} may run on {found}");
        }
        Ok(())
    }
}

fn slices_leave_the_cpus_and_masks_come_back(host: &Host) -> Result<()> {
    let job = host.start("", "tiny")?;
    host.runs(&job, "tiny")?;
    host.slices_have("0-1")?;
    let threads = host.threads_of("tiny")?;
    ensure!(threads == "CPU 0/KVM|2\nCPU 1/KVM|3\nother|1", "{threads}");
    // One has nowhere else to go, the other stays where it was.
    let kept = [host.cpus_of("kept-2")?, host.cpus_of("kept-1")?];
    ensure!(kept == ["0-1", "1"], "{kept:?}");
    // A slice that begins now leaves the CPUs too, and has what it had when the guest has ended.
    let lab = &host.lab;
    lab.sh("systemd-run --slice=late.slice --unit=late.service sleep infinity")?;
    let late =
        |cpus: &str| format!("[ \"$(cat /sys/fs/cgroup/late.slice/cpuset.cpus.effective 2>/dev/null)\" = {cpus} ]");
    job.wait_until(&late("0-1"), END)?;
    let ended = host.stop(job, "tiny")?;
    host.kept_programs_are_back()?;
    let back = lab.sh("systemctl show -P AllowedCPUs late.slice; sed -n 's/^Cpus_allowed_list:\\t//p' /proc/$(systemctl show -P MainPID late)/status; ls /run/systemd/system.control /run/systemd/transient | grep late.slice; true")?;
    ensure!(back.trim() == "0-3", "late.slice, its program's CPUs, and what systemd keeps: {back:?}");
    lab.sh("systemctl stop late.service late.slice")?;
    host.is_as_before("a run", &ended)
}

/// The guest of a unit, and a second one beside it.
fn a_unit_is_in_a_slice_of_its_own_and_shares_the_others(host: &Host) -> Result<()> {
    let lab = &host.lab;
    // On this kernel a unit cannot have a partition.
    let file = install(lab, "tiny", "2")?;
    install_as(lab, "other", "3", "Slices")?;
    lab.sh(&format!(": >/run/lab/guest.log; : >/run/lab/other.log; /lab/bin/vfio-run unit --install {file}"))?;
    let before = lab.snapshot_of_host()?;
    lab.run_for("systemctl start vfio-run-tiny || { journalctl -u vfio-run-tiny; false; }", START)?.ok()?;
    lab.wait_until("grep -q READY /run/lab/guest.log", START)?;
    host.slices_have("0-1,3")?;
    let other = host.start("", "other")?;
    host.runs(&other, "other")?;
    host.slices_have("0-1")?;
    let threads = host.threads_of("tiny")?;
    ensure!(threads == "CPU 0/KVM|2\nother|1", "{threads}");
    let launcher =
        lab.sh("sed -n 's/^Cpus_allowed_list:\\t//p' /proc/$(systemctl show -P MainPID vfio-run-tiny)/status")?;
    ensure!(launcher == "1", "{launcher}");
    lab.sh("systemctl daemon-reload")?;
    host.slices_have("0-1")?;
    // The first ends first: what it knows of the kept programs is known until the last ends.
    lab.sh("systemctl stop vfio-run-tiny")?;
    host.slices_have("0-2")?;
    let threads = host.threads_of("other")?;
    ensure!(threads == "CPU 0/KVM|3\nother|1", "{threads}");
    let ended = host.stop(other, "other")?;
    let is_as_before = |when: &str| -> Result<()> {
        lab.wait_until(&format!("[ ! -e /sys/fs/cgroup/{SLICE} ]"), END)?;
        host.kept_programs_are_back()?;
        let left = before.diff(&lab.snapshot_of_host()?);
        ensure!(left.is_empty(), "left behind by {when}:\n{left}\n{ended}");
        Ok(())
    };
    is_as_before("a unit and a second guest")?;
    if thorough::is_on() {
        lab.sh(": >/run/lab/guest.log")?;
        lab.run_for("systemctl start vfio-run-tiny", START)?.ok()?;
        lab.sh("kill -KILL $(systemctl show -P MainPID vfio-run-tiny)")?;
        lab.wait_until("[ $(systemctl show -P ActiveState vfio-run-tiny) = failed ]", END)?;
        lab.sh("systemctl reset-failed vfio-run-tiny")?;
        is_as_before("a launcher that was killed")?;
    }
    lab.sh("rm /run/lab/other.log /etc/systemd/system/vfio-run-tiny.service; systemctl daemon-reload").map(drop)
}

/// Somebody's own list, for the time until the next boot.
fn what_a_slice_had_comes_back(host: &Host) -> Result<()> {
    let lab = &host.lab;
    install_as(lab, "tiny", "2-3", "Slices")?;
    lab.sh("systemctl set-property --runtime user.slice AllowedCPUs=1-2")?;
    lab.wait_until("[ \"$(cat /sys/fs/cgroup/user.slice/cpuset.cpus)\" = 1-2 ]", END)?;
    let before = lab.snapshot_of_host()?;
    let job = host.start("", "tiny")?;
    host.runs(&job, "tiny")?;
    let narrow = lab.sh("cat /sys/fs/cgroup/user.slice/cpuset.cpus")?;
    ensure!(narrow == "1", "{narrow}");
    let ended = host.stop(job, "tiny")?;
    let left = before.diff(&lab.snapshot_of_host()?);
    let kept = "systemctl show -P AllowedCPUs user.slice; grep =1 /run/systemd/system.control/user.slice.d/*.conf";
    let kept = lab.sh(kept)?;
    ensure!(kept == "1-2\nAllowedCPUs=1-2", "{kept}");
    // The kernel forgets no list of a group with processes while the controller is on, so it has all CPUs instead.
    let left = left.except(&["cgroup system.slice", "cgroup init.scope"]);
    ensure!(left.is_empty(), "left behind:\n{left}\n{ended}");
    Ok(())
}

fn the_slices_of_a_newer_host_leave_the_cpus(host: &Host) -> Result<()> {
    install_as(&host.lab, "tiny", "4-5", "Slices")?;
    let before = host.lab.snapshot_of_host()?;
    let job = host.start("", "tiny")?;
    host.runs(&job, "tiny")?;
    host.slices_have("0-3,6-7")?;
    let threads = host.threads_of("tiny")?;
    ensure!(threads == "CPU 0/KVM|4\nCPU 1/KVM|5\nother|1", "{threads}");
    let ended = host.stop(job, "tiny")?;
    let left = before.diff(&host.lab.snapshot_of_host()?);
    ensure!(left.is_empty(), "left behind:\n{left}\n{ended}");
    // This kernel leaves programs on the CPUs that they had when it forgets a list.
    let journald = host.cpus_of("systemd-journal")?;
    ensure!(journald == "0-7", "{journald}");
    Ok(())
}
