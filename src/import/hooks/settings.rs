//! Files of the kernel's that hooks write, by `echo`, `tee` and `sysctl`.

use super::outcome::{Outcome, RESTORED, done, improved, left, taken};
use crate::import::context::Context;
use crate::machine::{Frequency, HostPlace, Pages, Rebar, ThpDefrag};
use crate::units::{PciAddress, Size};

/// What revives a card.
pub const SUSPENDS: &str =
    "`revive: [Reset, Bus, Suspend]` in `pci` has the host suspend if the card does not answer after the guest";

/// What becomes of a value that is written to a file. `starting`: it is on the way to the guest, not back.
pub fn written(cx: &mut Context, file: &str, value: &str, starting: bool) -> Option<Outcome> {
    let has = |parts: &[&str]| parts.iter().any(|part| file.contains(part));
    if has(&["vtconsole", "vtcon"]) {
        return done(
            "vfio-run takes the consoles off the card that is passed through, whichever they are, and puts them back",
        );
    }
    if has(&["efi-framebuffer", "simple-framebuffer", "vesa-framebuffer", "simplefb", "efifb"]) {
        return done(
            "vfio-run takes the firmware's frame buffer (efifb, simplefb, simpledrm) off the card; unbinding efi-framebuffer does nothing since Linux 5.17",
        );
    }
    if has(&["/sys/bus/pci/rescan", "/remove"]) && has(&["pci"]) {
        return done(
            "a card that does not answer after the guest is reset, then its bus; `revive: [Reset, Bus, Rescan]` also has the kernel look for it anew",
        );
    }
    if has(&["driver_override", "/unbind", "/bind", "new_id", "remove_id", "drivers_probe"])
        && (has(&["pci", "vfio"]) || file.contains('$'))
    {
        return done("vfio-run takes the devices in `pci` from their drivers, and gives them back");
    }
    if file.ends_with("/reset_method") && starting {
        let address: PciAddress = file.split('/').find_map(|part| part.parse().ok())?;
        let device = cx.machine.pci.iter_mut().find(|device| device.address.contains(address))?;
        device.reset_method = Some(value.trim().to_owned()).filter(|value| is_word(value));
        device.reset_method.as_ref()?;
        return taken("`reset_method` in `pci`; restored after the run");
    }
    if has(&["reset_method", "/reset"]) && has(&["pci", "devices"]) {
        return done("the kernel resets a device before and after the guest; `reset_method` in `pci` says how");
    }
    if file.ends_with("_resize") && has(&["/pci/", "/devices/"]) {
        return resize(cx, file, value, starting);
    }
    if file == "/sys/power/state" {
        return done(SUSPENDS);
    }
    if has(&["power/control", "d3cold_allowed", "power_state"]) {
        return done("VFIO keeps the device awake while the guest has it");
    }
    if has(&["nr_hugepages", "nr_overcommit_hugepages", "free_hugepages"]) {
        return huge_pages(cx, starting);
    }
    if has(&["drop_caches", "compact_memory"]) {
        return done("vfio-run makes room for huge pages itself, if they are scattered");
    }
    if has(&["cpuset", "cgroup.procs", "/tasks", "cpuset.cpus"]) && has(&["cgroup", "cset", "cpuset"]) {
        return done("everything else of the host is kept off the vCPUs' CPUs while the guest runs (`host.isolate`)");
    }
    knob(cx, file, value, starting)
}

/// A resizable memory range, whose size is written as a power of two in MiB.
fn resize(cx: &mut Context, file: &str, value: &str, starting: bool) -> Option<Outcome> {
    if !starting {
        return done(RESTORED);
    }
    let address: PciAddress = file.split('/').find_map(|part| part.parse().ok())?;
    let bytes = Size::MIB.checked_shl(value.trim().parse().ok().filter(|power| *power < 40)?)?;
    let device = cx.machine.pci.iter_mut().find(|device| device.address.contains(address))?;
    device.rebar = Some(Rebar::Size(Size::bytes(bytes)));
    taken("`rebar` in `pci`; restored after the run")
}

fn huge_pages(cx: &mut Context, starting: bool) -> Option<Outcome> {
    if starting && cx.machine.memory.pages == Pages::Normal {
        cx.machine.memory.pages = Pages::Auto;
        cx.comment("memory.pages", "A hook reserved huge pages, and the domain did not use them.");
        return improved("the domain did not use the huge pages that the hook reserved; it does now: `pages: Auto`");
    }
    done("vfio-run reserves the guest's huge pages for the run, and gives back no more than those")
}

/// A setting of the host's that a field has.
fn knob(cx: &mut Context, file: &str, value: &str, starting: bool) -> Option<Outcome> {
    let host = &mut cx.machine.host;
    let name = file.rsplit(['/', '.']).next().unwrap_or(file);
    let number = value.trim().parse::<u32>().ok();
    let on = match value.trim() {
        "1" | "Y" | "y" => Some(true),
        "0" | "N" | "n" | "2" => Some(false),
        _ => None,
    };
    let known = matches!(
        name,
        "scaling_governor"
            | "energy_performance_preference"
            | "scaling_min_freq"
            | "scaling_max_freq"
            | "stat_interval"
            | "numa_balancing"
            | "split_lock_mitigate"
            | "timer_migration"
            | "halt_poll_ns"
            | "ignore_msrs"
            | "report_ignored_msrs"
            | "watchdog"
            | "nmi_watchdog"
            | "soft_watchdog"
            | "watchdog_cpumask"
            | "cpumask"
            | "smp_affinity"
            | "smp_affinity_list"
            | "default_smp_affinity"
            | "defrag"
            | "energy_perf_bias"
            | "min_perf_pct"
    ) || file.ends_with("/ksm/run")
        || file.ends_with("transparent_hugepage/enabled");
    if known && !starting {
        return done(RESTORED);
    }
    match name {
        "scaling_governor" => return governor(cx, value),
        "energy_performance_preference" if is_word(value) => host.energy_preference = Some(value.to_owned()),
        "scaling_min_freq" | "min_perf_pct" => host.frequency = Some(Frequency::Max),
        "scaling_max_freq" => return left("the highest frequency is the processor's own"),
        "energy_perf_bias" => return left("the governor `performance` decides it"),
        "stat_interval" => host.stat_interval = Some(number.filter(|seconds| (1..=3600).contains(seconds))?),
        "numa_balancing" => host.numa_balancing = Some(on?),
        "split_lock_mitigate" => host.split_lock_mitigate = Some(on?),
        "timer_migration" => host.timer_migration = Some(on?),
        "halt_poll_ns" => host.halt_poll_ns = Some(number?),
        "ignore_msrs" => host.ignore_msrs = Some(on?),
        "report_ignored_msrs" => host.report_ignored_msrs = Some(on?),
        "watchdog" | "nmi_watchdog" | "soft_watchdog" | "watchdog_cpumask" => host.watchdog = Some(HostPlace::Away),
        "smp_affinity" | "smp_affinity_list" | "default_smp_affinity" => host.irqs = Some(HostPlace::Away),
        "cpumask" if file.contains("workqueue") => host.workqueues = Some(HostPlace::Away),
        "run" if file.ends_with("/ksm/run") => host.ksm = Some(on?),
        "defrag" if file.contains("transparent_hugepage") => host.thp_defrag = Some(defrag(value)?),
        "enabled" if file.ends_with("transparent_hugepage/enabled") => {
            return left(
                "the guest's memory is of huge pages if the file says so; those of others stay as the host has them",
            );
        }
        "dirty_ratio"
        | "dirty_background_ratio"
        | "dirty_writeback_centisecs"
        | "dirty_expire_centisecs"
        | "swappiness"
        | "laptop_mode" => {
            return left(
                "the guest's disks pass the page cache, and its memory is not swapped, so this does nothing for it",
            );
        }
        "max_map_count" | "hung_task_timeout_secs" | "sched_rt_runtime_us" | "sched_autogroup_enabled" => {
            return left("the vCPUs have CPUs of their own, so the scheduler has nothing to decide");
        }
        _ => return None,
    }
    taken(format!("the field of `host` that has this name ({name}); restored after the run"))
}

fn is_word(value: &str) -> bool {
    !value.is_empty() && value.len() <= 32 && value.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
}

/// The governor, if the value is one that a file can say.
pub fn governor(cx: &mut Context, value: &str) -> Option<Outcome> {
    if !is_word(value) {
        return improved(
            "the governor that is written could not be read from the script: `host: (governor: \"performance\")` sets one",
        );
    }
    cx.machine.host.governor = Some(value.to_owned());
    taken("`host.governor`; after the run each CPU has the one that it had")
}

fn defrag(value: &str) -> Option<ThpDefrag> {
    let all = [ThpDefrag::Always, ThpDefrag::Defer, ThpDefrag::DeferMadvise, ThpDefrag::Madvise, ThpDefrag::Never];
    all.into_iter().find(|defrag| defrag.word() == value)
}
