//! The table of knobs: fields of the machine file whose value is written to attributes of the host as it is.
//!
//! Each row becomes one change, so that the plan shows each field of the machine file with its line. They are undone from
//! the last to the first; if that matters, a comment at the row says so. Sources:
//! `Documentation/admin-guide/pm/cpufreq.rst` and `intel_pstate.rst`, `Documentation/admin-guide/sysctl/kernel.rst`,
//! `Documentation/admin-guide/mm/ksm.rst` and `transhuge.rst`, `Documentation/virt/kvm/halt-polling.rst`.

use std::path::Path;

use crate::change::{Compare, Knob};
use crate::host::WantedTuning;
use crate::machine::HostTuning;

/// A row of the table.
pub(super) struct Row {
    /// Its files, and why it is there.
    pub knob: Knob,
    /// What the machine file asks to write; `None`: nothing.
    pub asked: fn(&HostTuning) -> Option<String>,
    /// If what is written is the text of another attribute in the same folder: its name.
    pub same_as: Option<&'static str>,
    /// What the attribute takes.
    pub takes: Takes,
    /// What `{n}` in its files stands for.
    pub per: Per,
    /// If a value of it makes the kernel set another attribute of the same folder to that word, which not every driver sets
    /// back: that word, and the other's name.
    pub forces: Option<(&'static str, &'static str)>,
}

/// What a row has a file for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Per {
    /// Each policy of cpufreq.
    Policy,
    /// Each CPU that a vCPU may run on.
    GuestCpu,
}

/// What an attribute takes.
pub(super) enum Takes {
    /// Whatever the machine file can say.
    All,
    /// The words in another attribute of the same folder.
    WordsOf(&'static str),
    /// The words in it, of which the one in force is in brackets.
    ItsWords,
}

impl Row {
    /// All files that must be read to decide.
    pub fn files(&self) -> Vec<String> {
        let words = match self.takes {
            Takes::WordsOf(name) => Some(name),
            Takes::All | Takes::ItsWords => None,
        };
        let beside = |file: &str, name| Path::new(file).with_file_name(name).to_string_lossy().into_owned();
        let files = self.knob.files.iter().flat_map(|file| {
            let forced = self.forces.map(|(_, name)| name);
            let others = self.same_as.into_iter().chain(words).chain(forced).map(|name| beside(file, name));
            std::iter::once((*file).to_owned()).chain(others)
        });
        match self.per {
            Per::Policy => files.collect(),
            Per::GuestCpu => files.map(|file| file.replace("{n}", WantedTuning::EACH_CPU)).collect(),
        }
    }
}

const fn row(knob: Knob, asked: fn(&HostTuning) -> Option<String>) -> Row {
    Row { knob, asked, same_as: None, takes: Takes::All, per: Per::Policy, forces: None }
}

/// A switch of a module, as it reads back.
fn letter(switch: Option<bool>) -> Option<String> {
    switch.map(|on| if on { "Y" } else { "N" }.to_owned())
}

fn number(switch: Option<bool>) -> Option<String> {
    switch.map(|on| u8::from(on).to_string())
}

/// The knobs, in the order in which they are written.
pub(super) const KNOBS: &[Row] = &[
    // Before the governor, and so restored after it: under the governor `performance` the drivers refuse other
    // preferences (EBUSY), and have their own in force.
    Row {
        takes: Takes::WordsOf("energy_performance_available_preferences"),
        ..row(
            Knob {
                field: "host.energy_preference",
                files: &["/sys/devices/system/cpu/cpufreq/policy{n}/energy_performance_preference"],
                may_be_missing: true,
                may_refuse: &[libc::EBUSY],
                ..Knob::new(
                    "set the energy preference of the CPUs",
                    "CPUs that choose their frequency themselves weigh speed against energy",
                )
            },
            |host| host.energy_preference.clone(),
        )
    },
    Row {
        takes: Takes::WordsOf("scaling_available_governors"),
        // amd-pstate keeps that preference when the governor is set back (`amd_pstate_epp_update_limit`).
        forces: Some(("performance", "energy_performance_preference")),
        ..row(
            Knob {
                field: "host.governor",
                files: &["/sys/devices/system/cpu/cpufreq/policy{n}/scaling_governor"],
                ..Knob::new("set the governor of cpufreq", "a governor sees little load if work comes in short bursts")
            },
            |host| host.governor.clone(),
        )
    },
    // The kernel clamps it to the maximum and remembers the request, so it is restored also if it reads something between.
    Row {
        same_as: Some("scaling_max_freq"),
        ..row(
            Knob {
                field: "host.frequency",
                files: &["/sys/devices/system/cpu/cpufreq/policy{n}/scaling_min_freq"],
                compare: Compare::Number,
                paired: true,
                ..Knob::new(
                    "keep the CPUs at their highest frequency",
                    "no work of the guest waits for a CPU to speed up",
                )
            },
            |host| host.frequency.map(|_| String::new()),
        )
    },
    row(
        Knob {
            field: "host.numa_balancing",
            files: &["/proc/sys/kernel/numa_balancing"],
            compare: Compare::Number,
            may_be_missing: true,
            ..Knob::new(
                "set NUMA balancing",
                "to see who uses a page, the kernel takes it away, which interrupts the guest",
            )
        },
        |host| number(host.numa_balancing),
    ),
    row(
        Knob {
            field: "host.split_lock_mitigate",
            files: &["/proc/sys/kernel/split_lock_mitigate"],
            compare: Compare::Number,
            may_be_missing: true,
            ..Knob::new(
                "set the mitigation of split locks",
                "the kernel slows a guest down whose programs lock memory across two cache lines",
            )
        },
        |host| number(host.split_lock_mitigate),
    ),
    row(
        Knob {
            field: "host.ksm",
            files: &["/sys/kernel/mm/ksm/run"],
            compare: Compare::Number,
            may_be_missing: true,
            ..Knob::new("set the merging of equal pages (KSM)", "a guest that writes to a merged page waits for a copy")
        },
        |host| number(host.ksm),
    ),
    Row {
        takes: Takes::ItsWords,
        ..row(
            Knob {
                field: "host.thp_defrag",
                files: &["/sys/kernel/mm/transparent_hugepage/defrag"],
                compare: Compare::Choice,
                ..Knob::new("set who waits for huge pages", "memory that is touched first may wait for a huge page")
            },
            |host| host.thp_defrag.map(|when| when.word().to_owned()),
        )
    },
    row(
        Knob {
            field: "host.halt_poll_ns",
            files: &["/sys/module/kvm/parameters/halt_poll_ns"],
            compare: Compare::Number,
            ..Knob::new("set how long KVM polls for an idle vCPU", "a vCPU that KVM polls for wakes sooner")
        },
        |host| host.halt_poll_ns.map(|time| time.to_string()),
    ),
    row(
        Knob {
            field: "host.ignore_msrs",
            files: &["/sys/module/kvm/parameters/ignore_msrs"],
            ..Knob::new(
                "set what KVM does about unknown registers",
                "a guest that uses a register which KVM does not know gets an exception",
            )
        },
        |host| letter(host.ignore_msrs),
    ),
    row(
        Knob {
            field: "host.report_ignored_msrs",
            files: &["/sys/module/kvm/parameters/report_ignored_msrs"],
            ..Knob::new(
                "set whether KVM reports unknown registers",
                "each line that a guest's access writes to the kernel's log takes the vCPU's time",
            )
        },
        |host| letter(host.report_ignored_msrs),
    ),
    row(
        Knob {
            field: "host.stat_interval",
            files: &["/proc/sys/vm/stat_interval"],
            compare: Compare::Number,
            may_be_missing: true,
            ..Knob::new(
                "set how often counters of memory are summed up",
                "the kernel does so on each CPU, also on the vCPUs'",
            )
        },
        |host| host.stat_interval.map(|seconds| seconds.to_string()),
    ),
    row(
        Knob {
            field: "host.timer_migration",
            files: &["/proc/sys/kernel/timer_migration"],
            compare: Compare::Number,
            may_be_missing: true,
            ..Knob::new("set whether timers move to busy CPUs", "timers of the host's would ring on the vCPUs' CPUs")
        },
        |host| number(host.timer_migration),
    ),
    // `0` stands for no limit, and `n/a` for a latency of zero (`Documentation/ABI/testing/sysfs-devices-power`).
    Row {
        per: Per::GuestCpu,
        ..row(
            Knob {
                field: "host.guest_cpu_latency_us",
                files: &["/sys/devices/system/cpu/cpu{n}/power/pm_qos_resume_latency_us"],
                may_be_missing: true,
                ..Knob::new(
                    "keep the vCPUs' CPUs from deep sleep",
                    "a CPU that sleeps deeply takes long to wake for the guest",
                )
            },
            |host| host.guest_cpu_latency_us.map(|us| if us == 0 { "n/a".to_owned() } else { us.to_string() }),
        )
    },
];
