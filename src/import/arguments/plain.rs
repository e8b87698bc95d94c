//! Options of which always the same becomes: those that QEMU no longer has, those that vfio-run has itself, and those that are for
//! QEMU's developers.

use super::option::Members;
use super::state::Became;
use crate::import::account::Verdict;
use crate::import::context::Context;
use crate::machine::{Firmware, Numa, Watchdog, WatchdogDevice};

/// Reads an option; `None` if it is none of these.
pub fn read(cx: &mut Context, option: &str, value: &str) -> Option<Became> {
    match option {
        "realtime" => {
            cx.machine.memory.lock |= value.ends_with("mlock=on");
            Became::done("devices that are passed through, and huge pages, keep the guest's memory in place")
        }
        "sandbox" => Became::done("QEMU has a user id of its own and a sandbox (`vfio-run man security`)"),
        "no-quit"
        | "alt-grab"
        | "ctrl-grab"
        | "no-frame"
        | "full-screen"
        | "show-cursor"
        | "g"
        | "nodefconfig"
        | "curses"
        | "no-kvm-irqchip"
        | "no-kvm-pit"
        | "no-kvm-pit-reinjection"
        | "no-fd-bootchk"
        | "tdf"
        | "enable-fips"
        | "bt"
        | "enable-nesting"
        | "enable-hax"
        | "enable-hvf" => Became::left("QEMU no longer has this option, or needs it no more"),
        "tb-size" | "singlestep" | "s" | "gdb" | "trace" | "plugin" | "perfmap" | "seed" | "L" | "writeconfig"
        | "dump-vmstate" => Became::left("it is for QEMU's developers"),
        "fda" | "fdb" => floppy(),
        "sd" | "mtdblock" => Became::left("no PC has it"),
        "preconfig" | "incoming" | "only-migratable" | "loadvm" => {
            Became::left("the machine is not moved to another host")
        }
        "snapshot" => {
            let words = "what the guest writes is kept: for a guest that forgets it, name an image on top of each disk, made anew by a hook \
                         of `before`: `qemu-img create -f qcow2 -b BASE -F qcow2 TOP`";
            Some(Became(Verdict::NeedsYou, words.to_owned()))
        }
        "watchdog" if cx.is_windows() => Became::left("Windows has no driver for a watchdog, so it never barks"),
        "watchdog" => {
            let device = if value == "i6300esb" { WatchdogDevice::I6300esb } else { WatchdogDevice::Itco };
            cx.machine.watchdog = Some(Watchdog { device, ..Watchdog::default() });
            Became::taken()
        }
        "numa" => {
            cx.numa_nodes += usize::from(value.starts_with("node"));
            if cx.numa_nodes < 2 {
                return Became::done("a guest with one NUMA node need not say so");
            }
            cx.machine.memory.numa = Some(Numa::Guest);
            Some(Became(
                Verdict::TakenOver,
                "the guest sees the host's NUMA nodes that its vCPUs run on, each with the memory that is near"
                    .to_owned(),
            ))
        }
        "global" => global(cx, value),
        _ => None,
    }
}

/// A floppy drive.
pub fn floppy() -> Option<Became> {
    let words = "no field says a floppy drive: if the guest needs one, name its image by its whole path, `extra_args: [\"-fda\", \"/…\"]`";
    Some(Became(Verdict::NeedsYou, words.to_owned()))
}

/// A property of all devices of a kind.
fn global(cx: &mut Context, value: &str) -> Option<Became> {
    let members = Members::parse(value)?;
    let long = members.get("driver").zip(members.get("property")).zip(members.get("value"));
    let (driver, property, value) = match long {
        Some(((driver, property), value)) => (driver, property, value),
        None => {
            let (path, value) = value.split_once('=')?;
            let (driver, property) = path.split_once('.')?;
            (driver, property, value)
        }
    };
    let off = matches!(value, "1" | "on" | "true");
    match (driver, property) {
        ("ICH9-LPC" | "PIIX4_PM", "disable_s3") => cx.machine.sleep.s3 = Some(!off),
        ("ICH9-LPC" | "PIIX4_PM", "disable_s4") => cx.machine.sleep.s4 = Some(!off),
        ("cfi.pflash01", "secure") => {
            if let (Firmware::Uefi(uefi), true) = (&mut cx.machine.firmware, off) {
                // A build that needs system management mode, whatever its name.
                uefi.secure_boot = Some(true);
            }
            return Became::done("it follows from the firmware");
        }
        ("kvm-pit" | "mc146818rtc", "lost_tick_policy") => return Became::done("the family chooses the timers"),
        _ => return None,
    }
    Became::taken()
}
