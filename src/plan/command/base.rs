//! QEMU as a process: its names, its sandbox, its messages and its monitors.

use super::super::draft::{Draft, by_default};
use super::super::{Inherited, Severity};
use crate::machine::{Audio, OnReboot};
use crate::qemu::command::QemuOption;

/// Name, UUID, sandbox, messages; and nothing that QEMU would add by itself.
pub(super) fn process(draft: &mut Draft) {
    let machine = draft.machine;
    let named = draft.file_or(draft.line("name"), "name", "the file's name");
    let mut name = QemuOption::keys("-name", None, named).with("guest", &*machine.name);
    // Gives vCPU and I/O threads names that `top -H` shows.
    name.set_from("debug-threads", "on", by_default("threads have names"));
    draft.push(name);
    let origin = draft.file_or(machine.uuid.is_some(), "uuid", "derived from the name, so it stays the same");
    draft.push(QemuOption::text("-uuid", machine.uuid().to_string(), origin));
    draft.push(QemuOption::flag("-nodefaults", by_default("the plan names every device")));
    draft.push(QemuOption::flag("-no-user-config", by_default("no other file adds to the plan")));
    draft.push(QemuOption::flag("-S", by_default("no vCPU runs before its thread is placed")));
    if machine.on_reboot == OnReboot::Relaunch {
        relaunch(draft);
    }
    sandbox(draft);
    let origin = by_default("log lines with time and machine");
    draft.push(QemuOption::keys("-msg", None, origin).with("timestamp", "on").with("guest-name", "on"));
}

/// QEMU ends when the guest restarts, so that the launcher can start it anew.
fn relaunch(draft: &mut Draft) {
    const FIELD: &str = "on_reboot";
    if !draft.option_has("action", "reboot") {
        let detail = format!("{} cannot end when the guest restarts (`-action reboot=`)", draft.qemu.binary.display());
        draft.no("qemu.action", Severity::Hard, detail, "leave `on_reboot` out, or use QEMU 6.0 or newer");
        return draft.about(FIELD);
    }
    draft.push(QemuOption::keys("-action", None, draft.file(FIELD)).with("reboot", "shutdown"));
}

fn sandbox(draft: &mut Draft) {
    if !draft.qemu.options.contains_key("sandbox") {
        let detail = format!("{} has no seccomp sandbox", draft.qemu.binary.display());
        draft.no("qemu.sandbox", Severity::Soft, detail, "use a QEMU that is built with libseccomp");
        return;
    }
    let mut sandbox = QemuOption::keys("-sandbox", Some("on"), by_default("a guest that takes QEMU over gains little"));
    for class in ["obsolete", "elevateprivileges", "spawn", "resourcecontrol"] {
        // The library of JACK's clients wants a thread of real time, and fails without one.
        let needed = class == "resourcecontrol" && matches!(draft.machine.audio, Audio::Jack(_));
        if !needed && draft.option_has("sandbox", class) {
            sandbox.set(class, "deny");
        }
    }
    draft.push(sandbox);
}

/// The launcher's own QMP connection, one for the user's tools, and one for a launcher that takes the machine over.
pub(super) fn monitors(draft: &mut Draft) {
    let fd = draft.inherit(Inherited::Qmp);
    let origin = by_default("the launcher's own connection");
    draft.push(
        QemuOption::keys("-chardev", Some("socket"), origin.clone()).with("id", "qmp").with("fd", fd.to_string()),
    );
    draft.push(QemuOption::keys("-mon", None, origin).with("chardev", "qmp").with("mode", "control"));
    let others = [
        ("qmp-tools", "qmp.sock", "QMP for the user's tools"),
        ("qmp-adopt", "adopt.sock", "QMP for a launcher that takes over when this one was killed"),
    ];
    for (id, socket, why) in others {
        draft.listening_chardev(id, draft.paths.run.join(socket), by_default(why));
        draft.push(QemuOption::keys("-mon", None, by_default(why)).with("chardev", id).with("mode", "control"));
    }
}
