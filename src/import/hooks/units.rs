//! `systemctl` and its like: which units are stopped, and what that was for.

use super::outcome::{Outcome, RESTORED, done, left, taken, together};
use crate::import::context::Context;
use crate::machine::{HostPlace, Isolate};

/// Display managers.
const DISPLAYS: [&str; 14] = [
    "display-manager",
    "gdm",
    "gdm3",
    "sddm",
    "lightdm",
    "lxdm",
    "xdm",
    "greetd",
    "ly",
    "slim",
    "nodm",
    "cosmic-greeter",
    "plasmalogin",
    "emptty",
];

/// What becomes of a call.
pub fn of(cx: &mut Context, program: &str, arguments: &[&str], starting: bool) -> Option<Outcome> {
    let user = arguments.iter().any(|word| *word == "--user" || word.starts_with("--machine") || *word == "-M");
    let mut words = arguments.iter().copied().filter(|word| !word.starts_with('-') && !word.ends_with('@'));
    let (verb, units): (&str, Vec<&str>) = if program == "systemctl" {
        (words.next()?, words.collect())
    } else {
        // `service NAME stop`, and `sv stop NAME`.
        let all: Vec<&str> = words.collect();
        let at = all.iter().position(|word| matches!(*word, "stop" | "start" | "restart" | "down" | "up"))?;
        let verb = match all[at] {
            "down" => "stop",
            "up" => "start",
            verb => verb,
        };
        (verb, all.iter().enumerate().filter(|(index, _)| *index != at).map(|(_, word)| *word).collect())
    };
    match verb {
        "isolate" => return done("vfio-run stops the display manager that has the card, and starts it again"),
        "set-property" => {
            let cpus = arguments.iter().any(|word| {
                word.contains("AllowedCPUs") || word.contains("AllowedMemoryNodes") || word.contains("CPUAffinity")
            });
            return if cpus { isolated(cx, starting) } else { None };
        }
        "daemon-reload" | "is-active" | "status" | "list-units" | "reset-failed" | "show" | "is-enabled"
        | "import-environment" => return left("it only looks"),
        "suspend" | "hibernate" => return done(super::settings::SUSPENDS),
        "stop" | "start" | "restart" | "kill" | "try-restart" | "reload" | "freeze" | "thaw" | "mask" | "unmask" => {}
        _ => return None,
    }
    together(units.into_iter().map(|unit| one(cx, verb, unit, user, starting)))
}

/// What becomes of a command that keeps other programs off the vCPUs' CPUs.
pub fn isolated(cx: &mut Context, starting: bool) -> Option<Outcome> {
    if !starting {
        return done(RESTORED);
    }
    cx.machine.host.isolate = Some(Isolate::Partition);
    taken("`host.isolate: Partition`: everything else of the host is kept off the vCPUs' CPUs while the guest runs")
}

/// Whether the name of a variable, or a command, speaks of a display manager.
fn speaks_of_display(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let mut words = name.split(|c: char| !c.is_ascii_alphanumeric());
    words.any(|word| word == "dm" || word == "dms" || word.starts_with("disp") || word.starts_with("greeter"))
}

fn one(cx: &mut Context, verb: &str, unit: &str, user: bool, starting: bool) -> Option<Outcome> {
    let plain = unit.trim_end_matches(".service");
    let (name, instance) = plain.split_once('@').unwrap_or((plain, ""));
    if DISPLAYS.contains(&name)
        || name == "graphical.target"
        || name.starts_with("getty")
        || name.ends_with("display-manager")
        || name.contains(['$', '`']) && speaks_of_display(name)
    {
        return done(
            "vfio-run stops the display manager that has the card, waits until it lets go, and starts it again",
        );
    }
    if matches!(
        name,
        "libvirtd" | "virtqemud" | "virtlogd" | "virtlockd" | "virtnetworkd" | "virtstoraged" | "virtproxyd"
    ) {
        return left("libvirt has no part in it any more");
    }
    if name.contains("nosleep") || name.contains("inhibit") {
        cx.machine.host.no_sleep = Some(true);
        return taken(format!(
            "`host.no_sleep` in place of {instance}{}: the host does not sleep while the guest runs",
            if instance.is_empty() { unit } else { "'s unit" }
        ));
    }
    if ["sleep", "suspend", "hibernate", "hybrid-sleep"].iter().any(|target| unit == format!("{target}.target")) {
        if !starting {
            return done(RESTORED);
        }
        cx.machine.host.no_sleep = Some(true);
        return taken("`host.no_sleep`: the host does not sleep while the guest runs");
    }
    if name == "irqbalance" {
        cx.machine.host.irqs = Some(HostPlace::Away);
        return taken(
            "`host.irqs: Away` keeps the host's interrupts off the vCPUs' CPUs, and stops irqbalance for the run",
        );
    }
    let stops = matches!(verb, "stop" | "kill" | "mask" | "freeze");
    let whole = if unit.contains('.') { unit.to_owned() } else { format!("{unit}.service") };
    match (starting, stops) {
        (true, true) => {
            let list = if user { &mut cx.machine.handover.user_units } else { &mut cx.machine.handover.units };
            // A pattern, or a name that only a run could tell, is no unit's.
            if !whole.chars().all(|c| c.is_ascii_alphanumeric() || "-_.@:\\".contains(c)) {
                return None;
            }
            if !list.contains(&whole) {
                list.push(whole);
            }
            let field = if user { "handover.user_units" } else { "handover.units" };
            taken(format!("`{field}` stops it, and starts it again after the run"))
        }
        (false, false) => {
            let handover = &cx.machine.handover;
            if handover.units.contains(&whole) || handover.user_units.contains(&whole) { done(RESTORED) } else { None }
        }
        // Units that run only with the guest are the user's own.
        _ => None,
    }
}
