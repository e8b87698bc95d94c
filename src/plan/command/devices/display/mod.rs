//! The emulated screen: how it is shown, the graphics card behind it, and what a viewer offers to the guest.

mod agent;
mod card;
mod checks;
mod dbus;
mod rendering;
mod server;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use crate::machine::{Display, Video, Window};
use crate::plan::draft::Draft;
use crate::qemu::command::QemuOption;
use crate::units::PciAddress;

pub(in crate::plan::command) use agent::write as agent;

/// Display, card, pointer, and the devices that a client redirects. `given` are the functions that the guest is given.
pub(in crate::plan::command) fn write(draft: &mut Draft, given: &[PciAddress]) {
    let machine = draft.machine;
    let shown = machine.display != Display::None;
    let origin = draft.file_or(shown, "display", "no display asked for");
    let gl = match &machine.video {
        Some(Video::VirtioGl(rendering)) => Some(rendering),
        _ => None,
    };
    checks::gl(draft, gl.is_some());
    let shows_nothing = || Map::from_iter([("type".to_owned(), Value::from("none"))]);
    let (object, server) = match &machine.display {
        Display::None => (shows_nothing(), None),
        Display::Gtk(window) => (window_of(draft, "gtk", window, gl.is_some()), None),
        Display::Sdl(window) => (window_of(draft, "sdl", window, gl.is_some()), None),
        Display::DBus(bus) => (dbus::object(draft, bus, gl, given), None),
        Display::EglHeadless => (rendering::headless(draft, gl, given), None),
        Display::Vnc(listen) => {
            let server = server::vnc(draft, listen, origin.clone());
            (gl.map_or_else(shows_nothing, |_| rendering::headless(draft, gl, given)), Some(server))
        }
        Display::Spice(listen) => {
            let server = server::spice(draft, listen, origin.clone());
            match gl {
                None => (shows_nothing(), Some(server)),
                // A client on this host shows what the GPU rendered without a copy.
                Some(gl) if listen.port.is_none() => {
                    (shows_nothing(), Some(rendering::shared(draft, gl, given, server)))
                }
                Some(_) => (rendering::headless(draft, gl, given), Some(server)),
            }
        }
    };
    draft.push(QemuOption::json("-display", object, origin));
    server.into_iter().for_each(|server| draft.push(server));
    card::write(draft, shown);
}

/// The object of `-display` for a window.
fn window_of(draft: &mut Draft, kind: &str, window: &Window, needs_gl: bool) -> Map<String, Value> {
    checks::window(draft, kind);
    let mut object = Map::from_iter([("type".to_owned(), Value::from(kind))]);
    if window.gl.unwrap_or(needs_gl) {
        object.insert("gl".to_owned(), "on".into());
    }
    object
}
