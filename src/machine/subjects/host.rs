//! What the host does for as long as the guest runs: what the kernel itself ends with QEMU, and what is tuned for the run
//! and restored after it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::machine::explicit_none;
use crate::machine::named::Named;
use crate::machine::problems::{Problems, consists_of};
use crate::machine::subject::Subject;

/// One second; no idle state takes that long to leave.
const MAX_LATENCY: u32 = 1_000_000;
/// With `0` the kernel would stop for good to sum up on a CPU; nobody needs figures that are older than an hour.
const STAT_INTERVAL: std::ops::RangeInclusive<u32> = 1..=3600;
/// The longest name of a group, which is a folder.
const MAX_NAME: usize = 255;
/// More levels than groups have.
const MAX_DEPTH: usize = 32;
/// Longer than any name of a governor or preference (`CPUFREQ_NAME_LEN` is 16).
const MAX_WORD: usize = 32;

/// What the host does for as long as the guest runs. Each field that is left out leaves the host as it is.
///
/// `cpu_latency_us` and `no_sleep` end with QEMU, whatever becomes of vfio-run. All other fields are written when the
/// machine starts and restored after it, also by `vfio-run recover`; they need root.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostTuning {
    /// The longest time in microseconds that a CPU of the host may take to wake from idle, `20` for example (PM QoS,
    /// `/dev/cpu_dma_latency`). Smaller values keep the CPUs from deep idle states: interrupts reach the guest sooner, and
    /// the host uses more power. With `0` idle CPUs do not sleep at all. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_latency_us: Option<u32>,
    /// Whether the host must not suspend or hibernate while the guest runs, as under `systemd-inhibit --what=sleep`.
    /// Default: `true` if PCI devices are passed through, since most do not survive it, else `false`: the guest is paused while
    /// the host sleeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_sleep: Option<bool>,
    /// `Desktop`: all fields below that help a guest whose vCPUs have CPUs of their own, and that no program of a desktop
    /// notices: `irqs`, `workqueues`, `kernel_threads` and `watchdog` are `Away`, `numa_balancing` and `ksm` `false`,
    /// `stat_interval` 10, `governor` `"performance"`. What the host does not have is left out, without a word. A field that
    /// is written beside it counts. `vfio-run man performance` says why the others are not among them. Default: only what is
    /// written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tune: Option<Tune>,
    /// Fields that `tune` leaves as they are on the host: `["governor", "ksm"]`. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<String>,
    /// How everything else of the host is kept off the CPUs of the vCPUs. `Partition`: they belong to a cpuset partition
    /// (`cpuset.cpus.partition`), which no program, no kernel thread that can move and no unbound work of the kernel
    /// enters. `Slices`: systemd keeps its slices at the top (`system.slice`, `user.slice`, `init.scope`, …) on the other
    /// CPUs (`AllowedCPUs=`), and the guest is in a slice of its own; the kernel's threads may come. `None`: other programs
    /// may run there, and delay the guest. Both need root, cgroup v2, and vCPUs with CPUs of their own; `Slices` needs systemd.
    /// Before Linux 6.7 a partition also needs systemd, and takes the CPUs of QEMU's other threads along: those of
    /// `cpu.emulator` and `cpu.iothreads`, or one that the program chooses. If `Partition` is written and cannot be had, as
    /// for a unit before Linux 6.7, `Slices` is taken if that can be had. The plan says so, or what is in the way. Default: a
    /// partition from Linux 6.7 on, if it can be made; the guest starts without if not.
    #[serde(default, deserialize_with = "explicit_none::written", skip_serializing_if = "Option::is_none")]
    pub isolate: Option<Isolate>,
    /// Groups of processes that stand still while the guest runs, `["docker.service", "user@1000.service/app.slice"]` for
    /// example (the cgroup freezer): they take no CPU time, keep their memory and go on afterwards. Each is a unit or a
    /// slice of systemd's, or a group below one; a path that begins with `/` starts from `/sys/fs/cgroup`. Connections of
    /// such programs to others may time out. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quiet: Vec<String>,
    /// The cpufreq governor of all CPUs, `"performance"` for example: one of those that
    /// `/sys/devices/system/cpu/cpufreq/policy0/scaling_available_governors` lists. With intel_pstate and amd-pstate these
    /// are only `performance` and `powersave`. A governor that raises the frequency step by step sees little load if the
    /// guest's work comes in short bursts, and the guest is slow then. Default: the governors stay as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub governor: Option<String>,
    /// The frequency that no CPU falls below. `Max`: the highest that its cpufreq policy allows (`scaling_max_freq`), so
    /// that no work of the guest waits for the CPU to speed up. Default: the limits stay as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frequency: Option<Frequency>,
    /// The energy preference of CPUs that choose their frequency themselves (intel_pstate and amd-pstate in active mode),
    /// `"performance"` for example: one of those in
    /// `/sys/devices/system/cpu/cpufreq/policy0/energy_performance_available_preferences`. Under the governor
    /// `performance` the drivers take no other preference. Default: the preferences stay as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy_preference: Option<String>,
    /// Whether the kernel moves memory to the NUMA node that uses it (`/proc/sys/kernel/numa_balancing`). For that it
    /// takes pages away to see who touches them, which interrupts the guest; with pinned vCPUs and memory on their node
    /// there is nothing to gain, so write `false`. Default: stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa_balancing: Option<bool>,
    /// Whether the kernel slows a program down that locks memory across two cache lines
    /// (`/proc/sys/kernel/split_lock_mitigate`). Some games do that, and all of the guest stutters. `false` ends the
    /// slowing down; a hostile program can then slow down the host's memory. Default: stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_lock_mitigate: Option<bool>,
    /// Whether the kernel searches for equal pages and merges them (KSM, `/sys/kernel/mm/ksm/run`). The search costs CPU
    /// time, and a guest that writes to a merged page waits for a copy. `false` ends the search; pages that are merged
    /// already stay so. Default: stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ksm: Option<bool>,
    /// When a program that touches memory for the first time waits for the kernel to make a huge page
    /// (`/sys/kernel/mm/transparent_hugepage/defrag`). It matters for a guest without `Huge` pages: with `Defer` or
    /// `Never` it does not wait. Default: stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thp_defrag: Option<ThpDefrag>,
    /// How long in nanoseconds KVM waits actively for an idle vCPU before it lets the CPU sleep
    /// (`/sys/module/kvm/parameters/halt_poll_ns`). Longer, `400000` for example: the vCPU wakes sooner, and the host uses
    /// more CPU time. `0` ends the waiting. It holds for all guests of the host. Default: stays as it is (200000).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halt_poll_ns: Option<u32>,
    /// Whether KVM answers a guest that reads or writes a register of the CPU (MSR) which it does not know as if there were
    /// one that reads as 0, in place of an exception (`/sys/module/kvm/parameters/ignore_msrs`). macOS and some programs in
    /// Windows stop at that exception. It holds for all guests of the host. Default: stays as it is (`false`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignore_msrs: Option<bool>,
    /// Whether the kernel's log gets a line for each such access (`/sys/module/kvm/parameters/report_ignored_msrs`), which
    /// some guests make thousands of times a second. Default: stays as it is (`true`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report_ignored_msrs: Option<bool>,
    /// How often in seconds the kernel sums its counters of memory up on each CPU that has changed some
    /// (`/proc/sys/vm/stat_interval`), `10` for example. Each time takes a moment of the guest's CPUs too. Figures of
    /// `/proc/vmstat` are as old as that. Default: stays as it is (1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stat_interval: Option<u32>,
    /// Whether timers move from idle CPUs to busy ones (`/proc/sys/kernel/timer_migration`), which those of the vCPUs are.
    /// With `false` a timer of the host's rings on the CPU that set it; idle CPUs then wake more often. Default: stays as it
    /// is (`true`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timer_migration: Option<bool>,
    /// As `cpu_latency_us`, but for the CPUs of the vCPUs alone (`power/pm_qos_resume_latency_us` of each): the rest of the
    /// host sleeps as deeply as ever. With `0` they do not sleep at all. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_cpu_latency_us: Option<u32>,
    /// `Away`: work that the kernel may do on any CPU (unbound workqueues) stays off the CPUs of the vCPUs. The vCPUs need
    /// CPUs of their own. Default: such work runs on all CPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workqueues: Option<Place>,
    /// `Away`: interrupts of the host's devices, and interrupts that devices ask for during the run, stay off the CPUs of
    /// the vCPUs. Interrupts that the kernel distributes itself (queues of NVMe disks, for example) refuse to move; they
    /// come to a CPU only if a program there uses the device. irqbalance, which would move them back, is stopped for the
    /// run if it is a unit of systemd's. The vCPUs need CPUs of their own. Default: interrupts stay where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub irqs: Option<Place>,
    /// `Away`: threads of the kernel that may run on any CPU stay off the CPUs of the vCPUs (kswapd, khugepaged, those of
    /// file systems; not those that belong to one CPU each). Threads that the kernel makes later start on all CPUs; those of
    /// the guest's first second are moved too. The vCPUs need CPUs of their own. Default: they run on all CPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_threads: Option<Place>,
    /// `Away`: the kernel does not watch the CPUs of the vCPUs for programs that never let go of them
    /// (`/proc/sys/kernel/watchdog_cpumask`): that watch takes a moment of each every four seconds. The vCPUs need CPUs of
    /// their own. Default: all CPUs are watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watchdog: Option<Place>,
    /// Which CPUs get the interrupts of the devices that are passed through. `Near`: those of the vCPUs, on the device's
    /// NUMA node if there are some, so that an interrupt need not wake a second CPU first. The guest's driver asks for them
    /// when it starts, and anew after each restart, and no event tells of that: vfio-run looks a few times in the minute
    /// after each, and then never again of its own. `Anywhere`: vfio-run leaves them where the kernel puts them. Default:
    /// `Near` if each vCPU has a CPU of its own and root starts the machine; it changes nothing of the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_irqs: Option<DevicePlace>,
}

/// What is tuned at one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Tune {
    /// What no program of a desktop notices.
    Desktop,
}

/// Which CPUs get the interrupts of devices that are passed through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DevicePlace {
    /// Those of the vCPUs.
    Near,
    /// Those that the kernel chooses.
    Anywhere,
}

/// How everything else of the host is kept off the CPUs of the vCPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Isolate {
    /// By a cpuset partition.
    Partition,
    /// By systemd, which keeps the host's slices on the other CPUs.
    Slices,
    /// Not at all.
    None,
}

/// The frequency that no CPU falls below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Frequency {
    /// The highest that its policy allows.
    Max,
}

/// Where something of the host runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Place {
    /// Not on the CPUs of the vCPUs.
    Away,
}

/// When a program waits for a transparent huge page (`Documentation/admin-guide/mm/transhuge.rst`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ThpDefrag {
    /// Every program waits.
    Always,
    /// None waits; the kernel makes huge pages in the background.
    Defer,
    /// As `Defer`, but programs that asked for huge pages wait, QEMU among them.
    DeferMadvise,
    /// Only programs that asked for huge pages wait, QEMU among them.
    Madvise,
    /// None waits, and nothing happens in the background.
    Never,
}

impl ThpDefrag {
    /// The kernel's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Defer => "defer",
            Self::DeferMadvise => "defer+madvise",
            Self::Madvise => "madvise",
            Self::Never => "never",
        }
    }
}

impl HostTuning {
    /// The kernel's interface for the wake-up latency of CPUs.
    pub const CPU_LATENCY_NODE: &str = "/dev/cpu_dma_latency";
    /// The fields of [`Tune::Desktop`].
    const DESKTOP: [&str; 8] =
        ["irqs", "workqueues", "kernel_threads", "watchdog", "numa_balancing", "ksm", "stat_interval", "governor"];

    /// Whether the machine file itself has this field of those that `tune` stands for, or of any other.
    pub fn writes(&self, field: &str) -> bool {
        !Self::DESKTOP.contains(&field)
            || match field {
                "irqs" => self.irqs.is_some(),
                "workqueues" => self.workqueues.is_some(),
                "kernel_threads" => self.kernel_threads.is_some(),
                "watchdog" => self.watchdog.is_some(),
                "numa_balancing" => self.numa_balancing.is_some(),
                "ksm" => self.ksm.is_some(),
                "stat_interval" => self.stat_interval.is_some(),
                _ => self.governor.is_some(),
            }
    }

    /// With what `tune` stands for written out.
    pub fn tuned(&self) -> Self {
        let mut tuned = self.clone();
        for field in Self::DESKTOP.iter().filter(|field| self.tune.is_some() && !self.keep.iter().any(|k| k == *field))
        {
            match *field {
                "irqs" => fill(&mut tuned.irqs, Place::Away),
                "workqueues" => fill(&mut tuned.workqueues, Place::Away),
                "kernel_threads" => fill(&mut tuned.kernel_threads, Place::Away),
                "watchdog" => fill(&mut tuned.watchdog, Place::Away),
                "numa_balancing" => fill(&mut tuned.numa_balancing, false),
                "ksm" => fill(&mut tuned.ksm, false),
                "stat_interval" => fill(&mut tuned.stat_interval, 10),
                _ => fill(&mut tuned.governor, "performance".to_owned()),
            }
        }
        tuned
    }
}

fn fill<T>(field: &mut Option<T>, value: T) {
    field.get_or_insert(value);
}

impl Subject for HostTuning {
    fn check(&self, problems: &mut Problems) {
        for (i, field) in self.keep.iter().enumerate() {
            let path = format!("host.keep[{i}]");
            if self.tune.is_none() {
                problems
                    .add(path, "`host.keep` is for the fields of `tune`, which is not written")
                    .help("leave `keep` out: what is not written stays as it is on the host");
            } else if !Self::DESKTOP.contains(&&**field) {
                problems
                    .add(path, format!("`host.tune` has no field {field:?}"))
                    .allowed(Self::DESKTOP.map(|field| format!("{field:?}")).join(", "));
            }
        }
        for (index, group) in self.quiet.iter().enumerate() {
            let parts: Vec<&str> = group.trim_start_matches('/').split('/').collect();
            let is_name = |part: &&str| {
                !part.is_empty() && !part.starts_with('.') && part.len() <= MAX_NAME && !part.contains(char::is_control)
            };
            if !parts.iter().all(is_name) || parts.len() > MAX_DEPTH {
                problems
                    .add(format!("host.quiet[{index}]"), format!("`host.quiet` cannot have {group:?}"))
                    .allowed("a unit or a slice of systemd's, \"docker.service\" for example, or a group below one");
            }
        }
        for (field, latency) in
            [("host.cpu_latency_us", self.cpu_latency_us), ("host.guest_cpu_latency_us", self.guest_cpu_latency_us)]
        {
            if let Some(latency) = latency.filter(|latency| *latency > MAX_LATENCY) {
                problems
                    .add(field, format!("`{field}` cannot be {latency}"))
                    .allowed(format!("0 to {MAX_LATENCY} microseconds"));
            }
        }
        if let Some(seconds) = self.stat_interval.filter(|seconds| !STAT_INTERVAL.contains(seconds)) {
            problems.add("host.stat_interval", format!("`host.stat_interval` cannot be {seconds}")).allowed(format!(
                "{} to {} seconds",
                STAT_INTERVAL.start(),
                STAT_INTERVAL.end()
            ));
        }
        for (field, word) in [("host.governor", &self.governor), ("host.energy_preference", &self.energy_preference)] {
            let is_word = |word: &str| !word.is_empty() && word.len() <= MAX_WORD && consists_of(word, "_-");
            if let Some(word) = word.as_deref().filter(|word| !is_word(word)) {
                problems
                    .add(field, format!("`{field}` cannot be {word:?}"))
                    .allowed("one word of the kernel's, such as \"performance\"");
            }
        }
    }

    fn name(&self, named: &mut Named) {
        named.groups.extend(self.quiet.iter().cloned());
        named.files.extend(self.cpu_latency_us.map(|_| Self::CPU_LATENCY_NODE.into()));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::machine::parse;

    #[test]
    fn what_no_host_can_do_is_refused() {
        for (written, refused) in [
            ("cpu_latency_us: 0", None),
            ("cpu_latency_us: 1000000", None),
            ("cpu_latency_us: 1000001", Some("`host.cpu_latency_us` cannot be 1000001")),
            ("governor: \"performance\", energy_preference: \"balance_power\"", None),
            ("governor: \"\"", Some("`host.governor` cannot be \"\"")),
            ("governor: \"performance powersave\"", Some("`host.governor` cannot be \"performance powersave\"")),
            ("energy_preference: \"../x\"", Some("`host.energy_preference` cannot be \"../x\"")),
            ("halt_poll_ns: -1", Some("halt_poll_ns")),
            ("frequency: Max, workqueues: Away, irqs: Away, thp_defrag: DeferMadvise", None),
            ("irqs: Near", Some("Near")),
            ("device_irqs: Near, kernel_threads: Away, watchdog: Away", None),
            ("guest_cpu_latency_us: 1000001", Some("`host.guest_cpu_latency_us` cannot be 1000001")),
            ("tune: Desktop, keep: [\"ksm\"], governor: \"powersave\"", None),
            ("tune: Desktop, keep: [\"KSM\"]", Some("`host.tune` has no field \"KSM\"")),
            ("keep: [\"ksm\"]", Some("`host.keep` is for the fields of `tune`")),
            ("stat_interval: 0", Some("`host.stat_interval` cannot be 0")),
            ("stat_interval: 3601", Some("1 to 3600 seconds")),
            ("isolate: Partition", None),
            ("isolate: Slices", None),
            ("isolate: None", None),
            ("quiet: [\"docker.service\", \"user@1000.service/app.slice\", \"/machine.slice\"]", None),
            ("quiet: [\"\"]", Some("`host.quiet` cannot have \"\"")),
            ("quiet: [\"a.slice/../b\"]", Some("`host.quiet` cannot have \"a.slice/../b\"")),
            ("quiet: [\"/\"]", Some("`host.quiet` cannot have \"/\"")),
        ] {
            let text = format!("(guest: Linux, memory: (size: \"1 GiB\"), host: ({written}))");
            let error = parse(Path::new("m.ron"), &text).err().map(|error| error.to_string());
            assert_eq!(error.is_some(), refused.is_some(), "{error:?}");
            assert!(error.is_none_or(|error| refused.is_some_and(|words| error.contains(words))));
        }
    }

    #[test]
    fn one_word_stands_for_all_its_fields_but_those_that_are_written_or_kept() {
        let host = HostTuning {
            tune: Some(Tune::Desktop),
            keep: vec!["irqs".to_owned()],
            ksm: Some(true),
            ..HostTuning::default()
        };
        let tuned = host.tuned();
        assert_eq!((tuned.irqs, tuned.ksm, tuned.numa_balancing), (None, Some(true), Some(false)));
        assert_eq!(tuned.governor.as_deref(), Some("performance"));
        for field in HostTuning::DESKTOP {
            let kept = HostTuning { keep: vec![field.to_owned()], ksm: None, ..host.clone() }.tuned();
            let json = serde_json::to_value(&kept).unwrap();
            assert!(json.get(field).is_none(), "{field}");
            assert_eq!(HostTuning::DESKTOP.iter().filter(|other| json.get(other).is_some()).count(), 7);
        }
        assert_eq!(HostTuning::default().tuned(), HostTuning::default());
    }
}
