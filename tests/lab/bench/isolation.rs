//! How long busy vCPUs wait for a CPU while the whole host is busy, with four settings side by side in one host. Counts of
//! the kernel's scheduler, so they mean something in an emulated host too.

use anyhow::{Context as _, Result};

use super::PATIENCE;
use crate::kit::lab::Lab;

/// Both vCPUs are busy once the guest is ready.
const MACHINE: &str = r#"(
    guest: Linux,
    accelerator: Kvm,
    cpu: (pin: "2-3", emulator: "1", features: ["-xsave"]),
    memory: (size: "256 MiB"),
    kernel: (image: "/lab/guests/vmlinux", initrd: "/lab/guests/initramfs",
             cmdline: "console=ttyS0 quiet mitigations=off init_on_alloc=0 guest.busy"),
    networks: [],
    serial: File("/run/lab/guest.log"),
    host: (HOST),
    shutdown_timeout: 60,
)"#;

/// A setting: its name, the machine's `host`, and what is done by hand once the guest runs. The slices come last, since
/// what is left of them keeps older kernels from making a partition.
const SETTINGS: [(&str, &str, &str); 4] = [
    (
        "no pinning",
        "isolate: None",
        "for t in /proc/$(pgrep -x qemu-system-x86)/task/*; do taskset -pc 0-3 ${t##*/}; done >/dev/null",
    ),
    ("pinning", "isolate: None", ":"),
    ("everything", "isolate: Partition, tune: Desktop", ":"),
    ("pinning and slices", "isolate: None", SLICES),
];

/// What hook scripts do. QEMU's scope lies in system.slice, so it is moved out of it, and its threads are pinned again.
const SLICES: &str = "mkdir /sys/fs/cgroup/bench; \
    for s in system.slice user.slice init.scope; do systemctl set-property --runtime $s AllowedCPUs=0-1; done; \
    echo $(pgrep -x qemu-system-x86) >/sys/fs/cgroup/bench/cgroup.procs; \
    for t in /proc/$(pgrep -x qemu-system-x86)/task/*; do \
      case $(cat $t/comm) in 'CPU 0/KVM') taskset -pc 2 ${t##*/};; 'CPU 1/KVM') taskset -pc 3 ${t##*/};; esac; done >/dev/null";

/// Sixteen programs that never wait, half of them a user's.
const LOAD: &str = "for s in system user; do systemd-run -q --unit load-$s --slice $s.slice \
    sh -c 'for i in 1 2 3 4 5 6 7 8; do while :; do :; done & done; wait'; done";
const NO_LOAD: &str = "systemctl stop load-system load-user";

/// Prints milliseconds of waiting, involuntary switches, and milliseconds of running of both vCPUs together.
const MEASURE: &str = "look() { for t in /proc/$(pgrep -x qemu-system-x86)/task/*; do case $(cat $t/comm) in \
      CPU*KVM) read -r run wait _ <$t/schedstat; \
        echo $wait $(sed -n 's/^nonvoluntary_ctxt_switches:\\t//p' $t/status) $run;; esac; done; }; \
    { look; sleep 15; echo; look; } | awk 'NF == 0 { after = 1; next } \
      { sign = after ? 1 : -1; w += sign * $1; s += sign * $2; r += sign * $3 } \
      END { printf \"%.3f %d %.0f\", w / 1e6, s, r / 1e6 }'";

/// Measures and prints.
///
/// # Errors
/// When a guest does not start, or the host cannot do what a setting is made of.
pub fn run(releases: &[&str]) -> Result<()> {
    for release in releases {
        let lab = Lab::variant("bare", release).start()?;
        lab.load_kvm()?;
        lab.sh("touch /run/lab/guest.log")?;
        let mut pinned = f64::NAN;
        println!("{release}: two busy vCPUs for 15 s on a host of 4 busy CPUs, both together:");
        println!("                          wait, ms     ratio  switched off  ran, ms");
        for (name, host, by_hand) in SETTINGS {
            let file = lab.install_machine("bench", &MACHINE.replace("HOST", host))?;
            lab.sh(": >/run/lab/guest.log")?;
            let job = lab.start(&format!("exec /lab/bin/vfio-run -v {file}"))?;
            job.wait_until("grep -q READY /run/lab/guest.log", PATIENCE)?;
            lab.run_for(by_hand, PATIENCE)?.ok()?;
            lab.run_for(LOAD, PATIENCE)?.ok()?;
            let measured = lab.run_for(MEASURE, PATIENCE)?.ok()?;
            let status = lab.run_for("/lab/bin/vfio-run status bench --json", PATIENCE)?.ok()?;
            lab.run_for(NO_LOAD, PATIENCE)?.ok()?;
            lab.run_for("/lab/bin/vfio-run stop bench", PATIENCE)?.ok()?;
            job.wait(PATIENCE)?;
            let values: Vec<f64> = measured.split_whitespace().filter_map(|word| word.parse().ok()).collect();
            let [wait, switches, ran] = values[..] else { anyhow::bail!("no three values: {measured}") };
            if name == "pinning" {
                pinned = wait;
            }
            let ratio = if pinned.is_nan() { "-".to_owned() } else { format!("1/{:.0}", pinned / wait) };
            println!("  {name:20} {wait:13.1} {ratio:>9} {switches:13.0} {ran:8.0}");
            println!("      {}", on_its_cpus(&status)?);
        }
        lab.finish().context("the host did not end")?;
    }
    Ok(())
}

/// Whom `status` has seen on the vCPUs' CPUs besides QEMU, with how often the scheduler put them there; and how many
/// interrupts of devices came.
fn on_its_cpus(status: &str) -> Result<String> {
    let status: serde_json::Value = serde_json::from_str(status)?;
    let list = |key: &str| status["activity"][key].as_array().cloned().context("the status has no activity");
    let foreign = list("foreign")?;
    let foreign = foreign.iter().map(|seen| format!("{} {}", seen["name"].as_str().unwrap_or("?"), seen["runs"]));
    let foreign: Vec<String> = foreign.collect();
    // Those of devices have numbers; the others are the processors' own, such as LOC and RES.
    let interrupts = list("interrupts")?;
    let of_devices = interrupts.iter().filter(|seen| seen["id"].as_str().is_some_and(|id| id.parse::<u32>().is_ok()));
    let count: u64 = of_devices.filter_map(|seen| seen["count"].as_u64()).sum();
    let foreign = if foreign.is_empty() { "nobody".to_owned() } else { foreign.join(", ") };
    Ok(format!("on their CPUs: {foreign}; device interrupts: {count}"))
}
