//! The serial port, and the channels of guests that know virtio.

use std::path::Path;

use crate::host::FileKind;
use crate::machine::{Guest, SecondSerial, Serial, Sign};
use crate::plan::Severity::Hard;
use crate::plan::draft::{Draft, by_default};
use crate::plan::process::account::{self, Use};
use crate::plan::{Access, Opened};
use crate::qemu::command::{OptionValue, QemuOption};
use crate::qemu::device::Device;
use crate::units::Origin;

/// The first serial port.
pub(in crate::plan::command) fn serial(draft: &mut Draft) {
    let origin = draft.file("serial");
    match &draft.machine.serial {
        Serial::None => return,
        Serial::Console | Serial::Socket => {
            draft.listening_chardev("serial0", draft.paths.run.join("serial.sock"), origin.clone());
        }
        Serial::File(path) => file(draft, "serial", "serial0", path),
    }
    draft.device(Device::new("isa-serial", "com0").with("chardev", "serial0"), origin);
}

/// The second serial port, also if there is no first.
pub(in crate::plan::command) fn second_serial(draft: &mut Draft) {
    const FIELD: &str = "second_serial";
    match &draft.machine.second_serial {
        SecondSerial::None => return,
        SecondSerial::Socket => {
            draft.listening_chardev("serial1", draft.paths.run.join("serial-2.sock"), draft.file(FIELD));
        }
        SecondSerial::File(path) => file(draft, FIELD, "serial1", path),
    }
    // Without a number it would be the first.
    draft.device(Device::new("isa-serial", "com1").with("chardev", "serial1").with("index", 1), draft.file(FIELD));
}

/// A port's output in a file.
fn file(draft: &mut Draft, field: &str, chardev: &str, path: &Path) {
    reach_file(draft, field, path);
    let opened = Opened { path: path.to_owned(), access: Access::Append, direct: false };
    let set = draft.opened(opened, draft.file(field));
    let option = QemuOption::keys("-chardev", Some("file"), draft.file(field)).with("id", chardev);
    draft.push(option.with("path", set).with("append", "on"));
}

/// The launcher must be able to open the file. It makes one that is not there, unless it is root: who owns it then?
fn reach_file(draft: &mut Draft, field: &str, path: &Path) {
    let shown = path.display();
    let file = draft.host.files.get(path);
    let folder = path.parent().filter(|_| file.is_some_and(|file| file.no_folder));
    if let Some(folder) = folder.map(Path::display) {
        let detail = format!("the folder {folder} for the serial port's file does not exist");
        let remedy = format!("create it: `mkdir -p {folder}`, or name a file in another folder");
        draft.no(&format!("{field}.file"), Hard, detail, &remedy);
        return draft.about(field);
    }
    match file.map(|file| file.kind) {
        Some(Some(FileKind::Block | FileKind::Folder | FileKind::Other)) => {
            let detail = format!("{shown} is not a file that QEMU could append to");
            draft.no(&format!("{field}.file"), Hard, detail, "name a file");
            draft.about(field);
        }
        Some(None) if draft.host.process.uid == 0 => {
            let detail = format!("{shown} does not exist, and vfio-run makes no file there as root");
            draft.no(&format!("{field}.file"), Hard, detail, &format!("create it: `touch {shown}`"));
            draft.about(field);
        }
        Some(Some(_)) => {
            account::opened(draft, field, field, "the serial port's file", path, Use::Write);
        }
        Some(None) | None => {}
    }
}

/// Id of the chardev that the guest agent's channel ends in.
pub const AGENT: &str = "agent0";

/// A source of random numbers and the guest agent's channel.
pub(in crate::plan::command) fn agent(draft: &mut Draft) {
    let other = draft.machine.guest == Guest::Other;
    if !other {
        let origin = by_default("random numbers of the host, so that the guest does not wait for its own at boot");
        draft.object("rng-builtin", "rng0", [], origin.clone());
        draft.pcie_device(Device::new("virtio-rng-pci", "random0").with("rng", "rng0"), origin);
    }
    let wanted = draft.machine.give_back_unless.is_some_and(|switch| switch.sign == Sign::GuestAgent);
    if other && !wanted {
        return;
    }
    let origin = draft.file_or(wanted, "give_back_unless.sign", "the guest agent's channel, `qga.sock`");
    draft.listening_chardev(AGENT, draft.paths.run.join("qga.sock"), origin.clone());
    channel(draft, "agent-port", AGENT, "org.qemu.guest_agent.0", origin);
}

/// A channel between the guest and a chardev, under the name by which the guest's program looks for it. The controller of all
/// channels comes with the first.
pub(in crate::plan::command) fn channel(draft: &mut Draft, port: &str, chardev: &str, name: &str, origin: Origin) {
    const CONTROLLER: &str = "channels0";
    let is_there = draft.options.iter().any(|option| match &option.value {
        OptionValue::Json(object) => object.get("id").is_some_and(|id| id == CONTROLLER),
        _ => false,
    });
    if !is_there {
        draft.pcie_device(Device::new("virtio-serial-pci", CONTROLLER), origin.clone());
    }
    let port = Device::new("virtserialport", port).on(format!("{CONTROLLER}.0")).with("chardev", chardev);
    draft.device(port.with("name", name), origin);
}
