//! The screen as an object on a bus, which programs of the desktop show (QEMU's `ui/dbus-display1.xml`).

use serde_json::{Map, Value};

use super::{checks, rendering};
use crate::host::desktop::Answer;
use crate::machine::{DisplayBus, Rendering};
use crate::plan::Severity::Hard;
use crate::plan::draft::Draft;
use crate::units::{PciAddress, printable};

const KEY: &str = "display.bus";

/// The object of `-display`.
pub(super) fn object(
    draft: &mut Draft,
    bus: &DisplayBus,
    gl: Option<&Rendering>,
    given: &[PciAddress],
) -> Map<String, Value> {
    checks::known(draft, "dbus");
    let mut object = Map::from_iter([("type".to_owned(), Value::from("dbus"))]);
    // Always by its address: a session bus that GLib finds by itself takes QEMU along when it ends (`exit-on-close` of
    // GDBusConnection).
    object.extend(address(draft, bus).map(|address| ("addr".to_owned(), address.into())));
    if let Some(gl) = gl {
        object.extend(rendering::on_display(draft, gl, given));
    }
    object
}

/// The bus that lets QEMU in, as far as is known.
fn address(draft: &mut Draft, bus: &DisplayBus) -> Option<String> {
    let field = if bus.bus.is_some() { KEY } else { "display" };
    let root = draft.host.process.uid == 0;
    if root && matches!(draft.machine.user.as_deref(), None | Some("root" | "0")) {
        let detail = match &draft.account {
            // dbus-daemon drops users whose groups it cannot look up, whatever its configuration says.
            Some(account) => {
                format!("QEMU runs as user {}, and a bus lets in users alone that have an account", account.uid)
            }
            None => "QEMU runs as root, and a session bus lets in programs of its own user".to_owned(),
        };
        let remedy = "start the machine as the desktop's user, name that user in `user`, or use `display: Spice`";
        draft.no(KEY, Hard, detail, remedy);
        draft.about(field);
        return bus.bus.clone();
    }
    let Some(found) = draft.host.session_bus.clone() else {
        let detail =
            "no session bus can be found: neither $DBUS_SESSION_BUS_ADDRESS nor $XDG_RUNTIME_DIR names its place";
        draft.no(KEY, Hard, detail, "start the machine in a session of the desktop, or use `display: Spice`");
        draft.about(field);
        return bus.bus.clone();
    };
    let shown = printable(&found.address);
    match &found.answer {
        Answer::Accepts => draft.yes(KEY, Hard, format!("the bus at {shown} lets QEMU in")),
        Answer::Unknown => draft.unknown(KEY, Hard, format!("whether the bus at {shown} lets QEMU in is unknown")),
        Answer::Refuses(error) => {
            let detail = format!("QEMU cannot use the bus at {shown}: {error}");
            let remedy = match bus.bus {
                Some(_) => "correct `bus`, or leave it out for the session bus",
                None => "log in at the desktop first (`systemctl --user start dbus.socket`), or use `display: Spice`",
            };
            draft.no(KEY, Hard, detail, remedy);
            draft.about(field);
        }
    }
    Some(found.address)
}
