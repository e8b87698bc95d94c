//! The clock, and the states of sleep.

use crate::import::account::ALL;
use crate::import::context::Context;
use crate::import::xml::{Node, child, children};
use crate::machine::Rtc;

/// Reads the clock.
pub fn clock(cx: &mut Context, root: Node) {
    let Some(clock) = child(root, "clock") else { return };
    let basis = if clock.attribute("basis") == Some("localtime") { Rtc::LocalTime } else { Rtc::Utc };
    let shown = match clock.attribute("offset") {
        Some("localtime") => Some(Rtc::LocalTime),
        Some("utc") => Some(Rtc::Utc),
        Some("variable") => Some(basis),
        _ => None,
    };
    match shown {
        Some(Rtc::Utc) if cx.is_windows() => {
            cx.machine.rtc = Some(Rtc::Utc);
            cx.comment("rtc", "Windows takes it for local time, unless its registry has `RealTimeIsUniversal`.");
            cx.taken(
                clock,
                &["offset", "basis"],
                "Windows takes UTC for local time, unless its registry has `RealTimeIsUniversal`",
            );
        }
        Some(shown) => {
            cx.machine.rtc = Some(shown);
            cx.take(clock, &["offset", "basis"]);
        }
        None if clock.attribute("offset") == Some("timezone") => {
            cx.machine.rtc = Some(Rtc::LocalTime);
            cx.comment("rtc", "It showed the time of a zone of its own; now it shows the host's.");
            let words = "the guest's clock shows the host's local time, which is this zone's if the host is in it too";
            cx.taken(clock, &["offset", "timezone"], words);
        }
        None if clock.attribute("offset") == Some("absolute") => {
            let words = "the guest's clock shows the host's time; a clock that starts at a fixed time is wrong after the first start";
            cx.improved(clock, &["offset", "start"], words);
        }
        None => {}
    }
    cx.left(clock, &["adjustment"], "the guest's clock is set from the host's at each start");
    for timer in children(clock, "timer") {
        match (timer.attribute("name"), timer.attribute("present")) {
            (Some("hpet"), Some("yes")) if cx.is_windows() => {
                cx.improved(
                    timer,
                    &[ALL],
                    "no HPET: Windows would take it for its clock, and each look at it leaves the guest",
                );
            }
            (Some("hypervclock"), Some("no")) if cx.is_windows() => {
                cx.improved(
                    timer,
                    &[ALL],
                    "Windows gets Hyper-V's clock: without it each look at the time leaves the guest",
                );
            }
            (Some("tsc"), _) => {
                if let Some(frequency) = timer.attribute("frequency").filter(|text| text.parse::<u64>().is_ok()) {
                    cx.machine.cpu.features.push(format!("tsc-frequency={frequency}"));
                    cx.take(timer, &["frequency"]);
                }
            }
            _ => {}
        }
    }
}

/// Reads the states of sleep that the guest may have.
pub fn sleep(cx: &mut Context, root: Node) {
    let Some(pm) = child(root, "pm") else { return };
    let passthrough = child(root, "devices").is_some_and(|devices| children(devices, "hostdev").next().is_some());
    for (name, s3) in [("suspend-to-mem", true), ("suspend-to-disk", false)] {
        let Some(node) = child(pm, name) else { continue };
        match node.attribute("enabled") {
            Some("yes") if passthrough => cx.improved(
                node,
                &["enabled"],
                "a guest with devices of the host does not sleep: few of them wake up again. `sleep: (s3: true)` allows it",
            ),
            Some(written @ ("yes" | "no")) => {
                let field = if s3 { &mut cx.machine.sleep.s3 } else { &mut cx.machine.sleep.s4 };
                *field = Some(written == "yes");
                cx.take(node, &["enabled"]);
            }
            _ => {}
        }
    }
}
