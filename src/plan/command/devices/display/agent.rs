//! The channel of the SPICE agent, by which guest and host share the clipboard.

use crate::machine::{Display, Guest};
use crate::plan::Severity::Hard;
use crate::plan::command::devices::ports;
use crate::plan::draft::Draft;
use crate::qemu::command::QemuOption;

/// Id of the chardev that the channel ends in.
const CLIPBOARD: &str = "clipboard0";

/// The channel, if the viewer is to have it.
pub(in crate::plan::command) fn write(draft: &mut Draft) {
    let (chardev, written) = match &draft.machine.display {
        Display::Spice(listen) => {
            let wanted = listen.clipboard.unwrap_or(draft.machine.guest != Guest::Other);
            (wanted.then_some("spicevmc"), listen.clipboard)
        }
        // QEMU itself speaks with the agent.
        Display::Vnc(listen) => (listen.clipboard.unwrap_or(false).then_some("qemu-vdagent"), listen.clipboard),
        Display::DBus(bus) => (bus.clipboard.unwrap_or(false).then_some("qemu-vdagent"), bus.clipboard),
        Display::None | Display::Gtk(_) | Display::Sdl(_) | Display::EglHeadless => (None, None),
    };
    let Some(kind) = chardev else { return };
    let origin = draft.file_or(written.is_some(), "display.clipboard", "host and guest share the clipboard");
    let mut chardev =
        QemuOption::keys("-chardev", Some(kind), origin.clone()).with("id", CLIPBOARD).with("name", "vdagent");
    if kind == "qemu-vdagent" {
        if !draft.qemu.chardevs.contains(kind) {
            let detail =
                format!("{} can share the clipboard over SPICE alone: it has no `{kind}`", draft.qemu.binary.display());
            draft.no("display.clipboard", Hard, detail, "use `display: Spice`, or leave `clipboard` out");
            draft.about("display.clipboard");
        }
        // The pointer is the tablet's.
        chardev = chardev.with("clipboard", "on").with("mouse", "off");
    }
    draft.push(chardev);
    ports::channel(draft, "clipboard-port", CLIPBOARD, "com.redhat.spice.0", origin);
}
