//! A libvirt domain, subject by subject. Each reader enters what it took; `rules` says what becomes of the rest, and what
//! nobody knows needs a person.

mod boot;
mod cores;
mod cpu;
mod disks;
mod extra;
mod family;
mod general;
mod hostdev;
mod input;
mod memory;
mod network;
mod parts;
mod pins;
mod power;
mod screen;
mod smbios;
mod sound;

use super::context::Context;
use super::rules;
use super::xml::{Node, child};

pub use disks::of_order as disk_of_order;
pub use extra::environment;
pub use family::{of as family, of_script as family_of_script};
pub use general::possible_name;
pub use hostdev::{USB_BY_NUMBER, is_of, together as cards};
pub use input::{add as event_device, toggle};
pub use memory::size;
pub use parts::{NEW_TPM, looking_glass, shared_folder};
pub use smbios::set as smbios_field;
pub use sound::server as sound_server;

/// Reads all of a domain.
pub fn read(cx: &mut Context, root: Node) {
    general::name(cx, root);
    general::read(cx, root);
    general::board(cx, root);
    general::old_windows(cx, root);
    general::enlightenments(cx, root);
    cpu::read(cx, root);
    pins::read(cx, root);
    memory::read(cx, root);
    memory::nodes(cx, root);
    boot::read(cx, root);
    smbios::read(cx, root);
    power::clock(cx, root);
    power::sleep(cx, root);
    let classes = boot::order(cx, root);
    let mut aliases = Default::default();
    if let Some(devices) = child(root, "devices") {
        aliases = hostdev::read(cx, devices);
        disks::read(cx, devices, &classes);
        network::read(cx, devices);
        input::read(cx, devices);
        screen::read(cx, devices);
        sound::read(cx, devices);
        parts::read(cx, devices);
    }
    extra::read(cx, root, aliases);
    hostdev::together(cx);
    rules::apply(cx, root);
    cx.account.enter_rest(root);
}
