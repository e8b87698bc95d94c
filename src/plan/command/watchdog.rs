//! The guest's watchdog and panic device, and what QEMU does when they speak up.

use super::super::Severity::Soft;
use super::super::draft::Draft;
use crate::machine::{PanicAction, WatchdogAction, WatchdogDevice};
use crate::qemu::command::QemuOption;
use crate::qemu::device::Device;
use crate::qemu::pcie::WATCHDOG_ADDR;

/// Both, if the machine has them.
pub(super) fn write(draft: &mut Draft) {
    watchdog(draft);
    panic_device(draft);
}

fn watchdog(draft: &mut Draft) {
    let Some(watchdog) = draft.machine.watchdog else { return };
    if draft.machine.guest.is_windows() {
        let detail = "Windows has no driver for the watchdog, so nothing sets it and nothing happens";
        draft.no("watchdog.driver", Soft, detail, "leave `watchdog` out");
        draft.about("watchdog");
    }
    let origin = draft.file("watchdog");
    match watchdog.device {
        // The chipset has it anyway, with a strap that keeps it from doing anything.
        WatchdogDevice::Itco => draft.push(QemuOption::global("ICH9-LPC", "noreboot", "off", origin)),
        WatchdogDevice::I6300esb => {
            let device = Device::new("i6300esb", "watchdog0").on("pcie.0").with("addr", WATCHDOG_ADDR);
            draft.device(device, origin);
        }
    }
    let word = match watchdog.action {
        WatchdogAction::Reset => "reset",
        WatchdogAction::Shutdown => "shutdown",
        WatchdogAction::PowerOff => "poweroff",
        WatchdogAction::Pause => "pause",
        WatchdogAction::InjectNmi => "inject-nmi",
        WatchdogAction::None => "none",
    };
    action(draft, "watchdog", word, "watchdog");
}

fn panic_device(draft: &mut Draft) {
    let Some(panic) = draft.machine.panic_device else { return };
    // The one on the ISA bus, which more drivers know than the one on PCI.
    draft.device(Device::new("pvpanic", "panic0"), draft.file("panic_device"));
    let word = match panic.action {
        PanicAction::Shutdown => "shutdown",
        PanicAction::Pause => "pause",
        PanicAction::None => "none",
    };
    action(draft, "panic", word, "panic_device");
}

/// `-action`, whose options add up.
fn action(draft: &mut Draft, event: &str, word: &str, field: &str) {
    draft.push(QemuOption::keys("-action", None, draft.file(field)).with(event, word));
}

#[cfg(test)]
mod tests {
    use crate::plan::sample::{Shape, host, plan};

    fn words(fields: &str) -> String {
        let text = format!("(guest: Linux, memory: (size: \"1 GiB\"), firmware: Bios, {fields})");
        plan(&text, &host(Shape::simple(4, 1))).command.argv().join(" ")
    }

    #[test]
    fn a_watchdog_is_the_chipsets_or_a_device() {
        let chipset = words("watchdog: ()");
        assert!(chipset.contains("-global driver=ICH9-LPC,property=noreboot,value=off"), "{chipset}");
        assert!(chipset.contains("-action watchdog=reset"), "{chipset}");
        let device = words("watchdog: (device: I6300esb, action: InjectNmi), panic_device: (action: Pause)");
        assert!(device.contains(r#""driver":"i6300esb","id":"watchdog0","bus":"pcie.0","addr":"e.0""#), "{device}");
        assert!(device.contains("-action watchdog=inject-nmi"), "{device}");
        assert!(device.contains(r#""driver":"pvpanic""#) && device.contains("-action panic=pause"), "{device}");
        assert!(!device.contains("noreboot"), "{device}");
        assert!(!words("").contains("-action"));
    }
}
