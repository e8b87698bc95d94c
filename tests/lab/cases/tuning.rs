//! What a machine tunes on its host is so while the guest runs, and as it was before afterwards, also if the launcher dies or a
//! change fails, together with a handover of the only GPU.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::crash::{Desk, OBEDIENT, Rests, killed_at_each, killed_while_it_gives_back, records};
use super::failures::{fail_at, faults};
use super::linux_machine;
use super::passthrough::{SOON, machine, prepare};
use super::random::killed_at_any_moment;
use crate::kit::host::at;
use crate::kit::lab::Lab;
use crate::kit::stuck::is_stuck;
use crate::kit::thorough;

const GUEST_BOOT: Duration = Duration::from_secs(300);
const ENDS: Duration = Duration::from_secs(120);

/// The CPU of the guest's only vCPU, and the host's.
const GUEST: &str = "7";
const HOST: &str = "0-6";
const HOST_MASK: &str = "7f";

/// What it writes on the host; the guest's memory is on its CPU's node. The emulated processors do not say that their time
/// stamp counter is constant, and then KVM has it run at cpufreq's highest frequency (3.6 GHz, while it runs at 1 GHz): a
/// Linux guest's timers by that counter are late or never come. No host with KVM and frequencies to choose from is so.
const TUNED: &str = r#"cpu: (pin: "7", features: ["-xsave", "-tsc-deadline"]),
    host: (tune: Desktop, frequency: Max, guest_cpu_latency_us: 20, timer_migration: false, ignore_msrs: true)"#;

/// Each policy has something of its own to go back to.
const AS_IT_WAS: &str = "modprobe acpi-cpufreq && cd /sys/devices/system/cpu/cpufreq && \
    echo powersave >policy3/scaling_governor && echo schedutil >policy7/scaling_governor && \
    echo 2200000 >policy5/scaling_max_freq && echo 3 >/proc/sys/vm/stat_interval";

/// What files say, with equal lines once.
fn says(lab: &Lab, expected: &[(&str, &str)]) -> Result<()> {
    for (path, value) in expected {
        let found = lab.sh(&format!("cat {path} | sort -u"))?;
        ensure!(found == *value, "{path} says {found:?}, not {value:?}");
    }
    Ok(())
}

/// What a machine with [`TUNED`] has set.
fn is_tuned(lab: &Lab) -> Result<()> {
    says(
        lab,
        &[
            ("/proc/irq/default_smp_affinity", HOST_MASK),
            ("/sys/devices/virtual/workqueue/cpumask", HOST_MASK),
            ("/proc/sys/kernel/watchdog_cpumask", HOST),
            ("/proc/sys/kernel/numa_balancing", "0"),
            ("/proc/sys/kernel/timer_migration", "0"),
            ("/proc/sys/vm/stat_interval", "10"),
            ("/sys/module/kvm/parameters/ignore_msrs", "Y"),
            ("/sys/devices/system/cpu/cpufreq/policy*/scaling_governor", "performance"),
            ("/sys/devices/system/cpu/cpufreq/policy[0-46-7]/scaling_min_freq", "3600000"),
            ("/sys/devices/system/cpu/cpufreq/policy5/scaling_min_freq", "2200000"),
            ("/sys/devices/system/cpu/cpu7/power/pm_qos_resume_latency_us", "20"),
            ("/sys/devices/system/cpu/cpu[0-6]/power/pm_qos_resume_latency_us", "0"),
        ],
    )?;
    let threads = lab
        .sh("awk 'FNR == 1 { name = $2 } /^Cpus_allowed_list/ { print name, $2 }' /proc/[0-9]*/status | \
         grep -E '^(kthreadd|kswapd|kcompactd|khugepaged|oom_reaper)'")?;
    ensure!(
        threads.lines().count() >= 5 && threads.lines().all(|line| !line.ends_with(GUEST)),
        "a thread of the kernel may run on CPU {GUEST}:\n{threads}"
    );
    // Of those that have a handler, only managed ones may still go to it: NVMe's queues and those of virtio disks.
    let stay = lab.sh(&format!(
        "for irq in /proc/irq/[0-9]*; do
             actions=$(cat /sys/kernel/irq/${{irq##*/}}/actions)
             case \"$actions\" in ''|timer|cascade|vfio*|nvme*|*virtio*) continue; esac
             grep -qE '(^|[-,]){GUEST}$' $irq/smp_affinity_list && echo \"$actions\"
         done; true"
    ))?;
    ensure!(stay.is_empty(), "these interrupts may go to CPU {GUEST}:\n{stay}");
    Ok(())
}

#[test]
fn a_tuned_host_is_tuned_for_the_run_and_restored_after_it() -> Result<()> {
    for release in thorough::releases() {
        let lab = Lab::variant("numa", release).nvme().start()?;
        prepare(&lab)?;
        lab.sh(AS_IT_WAS)?;
        in_turn!(
            &lab;
            messages_of_the_guests_device_go_to_its_cpu_also_after_a_restart,
            irqbalance_stands_still_for_the_run,
            a_vcpu_in_real_time_is_so_and_its_guest_ends_as_others_do,
        );
        lab.finish()?;
    }
    Ok(())
}

#[test]
fn a_tuned_host_that_gives_its_gpu_gets_all_back_wherever_its_launcher_dies() -> Result<()> {
    on_tuned_desks(a_killed_launchers_tuning_is_undone)
}

#[test]
fn a_tuned_host_that_gives_its_gpu_gets_all_back_whichever_change_fails() -> Result<()> {
    on_tuned_desks(a_change_that_fails_has_all_before_it_undone)
}

/// Plays it on each release, once more if the emulator loses a processor meanwhile.
fn on_tuned_desks(play: fn(&Desk) -> Result<()>) -> Result<()> {
    for release in thorough::releases() {
        let mut hosts = 0;
        loop {
            let desk = tuned_desk(release)?;
            hosts += 1;
            match play(&desk) {
                Err(error) if hosts < 3 && is_stuck(&desk.lab) => {
                    eprintln!("an emulated processor is stuck, so all of it once more: {error:#}");
                }
                result => {
                    result?;
                    desk.lab.finish()?;
                    break;
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_tuned_host_that_gives_its_gpu_gets_all_back_whenever_its_launcher_dies() -> Result<()> {
    for release in thorough::releases() {
        let (mut left, mut hosts) = (thorough::rounds(100, 6), 0);
        while left > 0 {
            let desk = tuned_desk(release)?;
            hosts += 1;
            match killed_at_any_moment(&desk, &mut left) {
                // What waits for that processor waits for good: the test goes on where it was, on another host.
                Err(error) if hosts < MOST_HOSTS && is_stuck(&desk.lab) => {
                    eprintln!("an emulated processor is stuck, {left} rounds are left: {error:#}");
                }
                result => {
                    result?;
                    desk.lab.finish()?;
                }
            }
        }
    }
    Ok(())
}

/// How many hosts a series of kills may use up.
const MOST_HOSTS: u32 = 20;

fn messages_of_the_guests_device_go_to_its_cpu_also_after_a_restart(lab: &Lab) -> Result<()> {
    let more = format!(r#"{TUNED}, memory: (size: "256 MiB", pages: Huge("2 MiB")), pci: ["{}"]"#, at::NVME);
    let file = lab.install_machine("tuned", &linux_machine("", &more))?;
    lab.run_for(&format!("/lab/bin/vfio-run check {file}"), GUEST_BOOT)?.ok()?;
    let before = lab.snapshot_of_host()?;
    let job = lab.start(&format!("exec /lab/bin/vfio-run -v {file}"))?;
    job.wait_until("grep -q READY /run/lab/guest.log", GUEST_BOOT)?;
    is_tuned(lab)?;
    let pages =
        "for node in 0 1; do cat /sys/devices/system/node/node$node/hugepages/hugepages-2048kB/surplus_hugepages; done";
    ensure!(lab.sh(pages)? == "0\n128", "pages by node:\n{}", lab.sh(pages)?);
    let all_are_near = format!(
        "[ \"$(for irq in /sys/bus/pci/devices/{}/msi_irqs/*; do
              cat /proc/irq/${{irq##*/}}/smp_affinity_list; done 2>/dev/null | sort -u)\" = {GUEST} ]",
        at::NVME
    );
    // Where the guest boots slowly, its driver asks for them after the last of the launcher's own looks.
    let something_happens = r#"echo '{"execute": "qmp_capabilities"} {"execute": "stop"} {"execute": "cont"}' |
        socat -t 1 - UNIX-CONNECT:/run/vfio-run/tuned/qmp.sock >/dev/null"#;
    job.wait_until(&format!("{all_are_near} || {{ {something_happens}; {all_are_near}; }}"), SOON)?;
    the_launcher_sleeps(lab)?;
    // A second boot costs as much as all of the rest.
    if thorough::is_on() {
        // The guest's driver asks for its messages anew, which go to the default CPUs then.
        lab.sh(r#"echo '{"execute": "qmp_capabilities"} {"execute": "system_reset"}' |
               socat -t 2 - UNIX-CONNECT:/run/vfio-run/tuned/qmp.sock"#)?;
        job.wait_until("[ $(grep -c READY /run/lab/guest.log) = 2 ]", GUEST_BOOT)?;
        job.wait_until(&format!("{all_are_near} || {{ {something_happens}; {all_are_near}; }}"), SOON)?;
    }
    lab.sh("/lab/bin/vfio-run stop tuned")?;
    let ended = job.wait(ENDS)?;
    ensure!(ended.status == 0, "{ended}\n{}", lab.sh("tail -n 30 /run/lab/guest.log; cat /proc/interrupts")?);
    lab.wait_until("head -c 1 /dev/nvme0n1 >/dev/null && udevadm settle", SOON)?;
    let left = before.diff(&lab.snapshot_of_host()?).except(&["dev /dev/disk/by-diskseq/"]);
    ensure!(left.is_empty(), "left behind:\n{left}\n{ended}");
    Ok(())
}

/// Once its looks at the device's interrupts are over, nothing wakes the launcher for 30 seconds.
fn the_launcher_sleeps(lab: &Lab) -> Result<()> {
    let switches = "sed -n 's/^voluntary_ctxt_switches:\t//p' /proc/$(pgrep -o -x vfio-run)/status";
    let counted = lab.run_for(
        &format!(
            "exec 9<> <(:); [ $(ls /proc/$(pgrep -o -x vfio-run)/task | wc -l) = 1 ] || exit 1
             until [ $(ps -o etimes= -C qemu-system-x86) -gt 65 ]; do read -r -t 1 -u 9; done
             before=$({switches}); read -r -t 30 -u 9; echo $(( $({switches}) - before ))"
        ),
        // A minute until it looks no more, and half a minute that is counted.
        2 * SOON,
    )?;
    ensure!(counted.status == 0, "the launcher has more threads than one: {counted}");
    ensure!(counted.stdout.trim() == "0", "the launcher woke {} times in 30 s of an idle guest", counted.stdout.trim());
    Ok(())
}

/// It moves interrupts by itself before and after the run, so where those are is not compared.
fn irqbalance_stands_still_for_the_run(lab: &Lab) -> Result<()> {
    lab.sh("rm /etc/systemd/system/irqbalance.service; systemctl daemon-reload; systemctl start irqbalance")?;
    let text = machine("host: (irqs: Away)").replace("vcpus: 1", &format!("pin: \"{GUEST}\""));
    let file = lab.install_machine("balanced", &text)?;
    let before = lab.snapshot_of_host()?;
    lab.sh(": >/run/lab/guest.log")?;
    let job = lab.start(&format!("exec /lab/bin/vfio-run -v {file}"))?;
    job.wait_until("grep -q READY /run/lab/guest.log", GUEST_BOOT)?;
    ensure!(lab.run("systemctl is-active irqbalance")?.status != 0, "irqbalance still runs");
    lab.kill("vfio-run", "KILL")?;
    job.wait(SOON)?;
    lab.kill("qemu-system-x86", "KILL")?;
    let recovered = lab.run("/lab/bin/vfio-run recover -v")?;
    ensure!(recovered.status == 0, "{recovered}");
    // systemd makes irqbalance's sandbox in a folder with a name of its own, and removes it when it comes to it.
    let left =
        before.diff(&lab.snapshot_of_host()?).except(&["irq ", "run /run/irqbalance/", "run /run/systemd/namespace-"]);
    ensure!(left.is_empty(), "left behind:\n{left}\n{recovered}");
    lab.sh("systemctl stop irqbalance").map(drop)
}

/// On a CPU that a partition gives it; QEMU's other threads are as always.
fn a_vcpu_in_real_time_is_so_and_its_guest_ends_as_others_do(lab: &Lab) -> Result<()> {
    // Before Linux 6.7 nothing is isolated that the file does not ask for.
    let text =
        machine("host: (isolate: Partition)").replace("vcpus: 1", &format!("pin: \"{GUEST}\", scheduler: Fifo(3)"));
    let file = lab.install_machine("real-time", &text)?;
    lab.sh(": >/run/lab/guest.log")?;
    let job = lab.start(&format!("exec /lab/bin/vfio-run -v {file}"))?;
    job.wait_until("grep -q READY /run/lab/guest.log", GUEST_BOOT)?;
    let threads = lab.sh("for thread in /proc/$(pgrep -x qemu-system-x86)/task/*; do
             echo $(<$thread/comm): $(chrt -p ${thread##*/} | sed 's/.*: //')
         done | sort -u")?;
    let (real, others): (Vec<&str>, Vec<&str>) = threads.lines().partition(|line| line.contains("FIFO"));
    ensure!(real == ["CPU 0/KVM: SCHED_FIFO|SCHED_RESET_ON_FORK 3"], "{threads}");
    ensure!(!others.is_empty() && others.iter().all(|line| line.contains(": SCHED_OTHER 0")), "{threads}");
    lab.sh("/lab/bin/vfio-run stop real-time")?;
    let ended = job.wait(ENDS)?;
    ensure!(ended.status == 0, "{ended}");
    Ok(())
}

/// A host with a desktop, and a tuned machine that has its only GPU.
fn tuned_desk(release: &str) -> Result<Desk> {
    let lab = Lab::variant("numa", release).start()?;
    lab.sh(AS_IT_WAS)?;
    Desk::on(lab, &tuned_machine(), Rests { when: "true", except: &[] })
}

fn tuned_machine() -> String {
    let tuned = TUNED.replace("host: (", "host: (isolate: Partition, ");
    format!(
        r#"(guest: Other, accelerator: Kvm, memory: (size: "64 MiB", pages: Huge("2 MiB")), networks: [],
            serial: File("/run/lab/guest.log"), {tuned}, {OBEDIENT})"#
    )
}

fn a_killed_launchers_tuning_is_undone(desk: &Desk) -> Result<()> {
    let records = records(desk)?;
    eprintln!("{} records", records.len());
    for kind in ["writes", "kernel_threads", "huge_pages", "bind_driver"] {
        ensure!(records.iter().any(|record| record.contains(kind)), "no {kind}: {records:#?}");
    }
    // Threads of the kernel that are new are moved within the guest's first second: up to two looks, each with two records.
    let running = records.iter().position(|record| record == "\"running\"").context("no guest")?;
    killed_at_each(desk, &records[..=running], 8)?;
    killed_while_it_gives_back(desk, running + 5, 12)
}

fn a_change_that_fails_has_all_before_it_undone(desk: &Desk) -> Result<()> {
    let mut faults = faults(desk)?;
    if !thorough::is_on() {
        // The last of what is done for a partition, and two of the tuning's.
        let some = ["default_smp_affinity", "scaling_min_freq", "partition "];
        faults.retain(|fault| some.iter().any(|part| fault.change.contains(part)));
        let named: Vec<_> = faults.iter().map(|fault| &fault.change).collect();
        ensure!(faults.len() == some.len(), "not one of each: {named:?}");
    }
    fail_at(desk, &faults)
}
