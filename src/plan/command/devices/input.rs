//! Keyboards and mice of the host that the guest shares (evdev), and what the guest sees of them.

use std::path::Path;

use crate::change::NodeFolder;
use crate::host::FileKind;
use crate::host::input::{EventDevice, Inputs};
use crate::machine::{Guest, Input, InputDevice};
use crate::plan::Severity::{Hard, Soft};
use crate::plan::draft::{Draft, by_default, by_fact};
use crate::plan::{Late, LateDevice, LateInput, Severity};
use crate::qemu::device::Device;
use crate::units::{Origin, counted};

/// QEMU's object for an event device.
const OBJECT: &str = "input-linux";
/// The seat in front of the host's screen.
const SEAT: &str = "seat0";

/// An event device of the plan.
struct Shared {
    entry: InputDevice,
    /// Its field, if the file names it.
    field: Option<String>,
    origin: Origin,
}

/// Event devices, and the keyboard and mouse of virtio.
pub(in crate::plan::command) fn write(draft: &mut Draft) {
    let machine = draft.machine;
    let shared = match &machine.input {
        None => Vec::new(),
        Some(Input::Auto) => of_the_seat(draft),
        Some(Input::Devices(devices)) => named(draft, devices),
    };
    let virtio = machine.virtio_input.unwrap_or(machine.input.is_some() && machine.guest == Guest::Linux);
    if virtio {
        let why = "the guest family has the drivers, and keys and movements reach it faster than by PS/2";
        let origin = draft.file_or(machine.virtio_input.is_some(), "virtio_input", why);
        draft.pcie_device(Device::new("virtio-keyboard-pci", "keyboard0"), origin.clone());
        draft.pcie_device(Device::new("virtio-mouse-pci", "mouse0"), origin);
    }
    let leader = leader(&shared);
    if !machine.hooks.toggled.is_empty() && leader.is_none() {
        let detail = "no shared keyboard has a toggle that moves all devices, so the hooks of `toggled` never run";
        draft.no("input.toggled", Soft, detail, "share the keyboard: `input: Auto`, without `grab_all: false`");
        draft.about("hooks.toggled");
    }
    if shared.is_empty() {
        return;
    }
    draft.need_object(OBJECT);
    // QEMU opens an event device itself, so its account needs a node of its own.
    let folder = draft.account.is_some().then(|| NodeFolder::of(&machine.name));
    if let Some(folder) = &folder {
        draft.change(
            folder.clone(),
            by_default("QEMU's account may not open the host's event devices, so it has nodes of its own"),
        );
    }
    for (index, Shared { entry, field, origin }) in shared.into_iter().enumerate() {
        let Some((path, keyboard)) = entry.path() else { continue };
        check(draft, &entry, field.as_deref(), path, keyboard);
        let id = format!("input-{index}");
        let what = Late::Input(LateInput {
            path: path.clone(),
            node: folder.as_ref().map(|folder| folder.path.join(&id)),
            toggle: entry.toggle.unwrap_or_default().word().to_owned(),
            grab_all: leader == Some(index),
            repeat: entry.repeat.unwrap_or(keyboard),
        });
        draft.late.push(LateDevice { id, what, needed: entry.optional == Some(false), origin });
    }
}

/// The keyboard whose toggle moves all others: the one that says so, else the first that does not say no.
fn leader(shared: &[Shared]) -> Option<usize> {
    let is = |wanted: Option<bool>| {
        shared.iter().position(|shared| shared.entry.keyboard.is_some() && shared.entry.grab_all == wanted)
    };
    is(Some(true)).or_else(|| is(None))
}

/// Those that the file names.
fn named(draft: &mut Draft, devices: &[InputDevice]) -> Vec<Shared> {
    if !devices.is_empty() && !devices.iter().any(|device| device.keyboard.is_some()) {
        let detail = "no keyboard is among the devices in `input`, so no key press gives them back to the host";
        draft.no(
            "input.keyboard",
            Hard,
            detail,
            "add the keyboard to `input`: `(keyboard: \"/dev/input/by-id/…-event-kbd\")`",
        );
        draft.about("input");
    }
    let shared = devices.iter().enumerate().map(|(index, entry)| {
        let field = format!("input[{index}]");
        Shared { entry: entry.clone(), origin: draft.file(&field), field: Some(field) }
    });
    shared.collect()
}

/// All keyboards and mice of the seat in front of the screen, but for those that the guest is given whole.
fn of_the_seat(draft: &mut Draft) -> Vec<Shared> {
    let host = draft.host;
    let Some(inputs) = &host.input else {
        draft.unknown("input.seat", Hard, "this host was captured without its event devices");
        draft.remedy("capture the host anew with this vfio-run: `vfio-run host --json`");
        draft.about("input");
        return Vec::new();
    };
    let given: Vec<_> = draft.machine.usb.iter().flatten().collect();
    let is_given = |event: &EventDevice| {
        let port = event.usb.as_ref();
        let plugged = host.usb.iter().flatten().find(|device| Some(&device.port) == port);
        given.iter().any(|usb| {
            let by_port = usb.port.is_some() && usb.port.as_ref() == port && usb.id.is_none();
            by_port || usb.id.is_some_and(|id| plugged.is_some_and(|device| device.ids == id))
        })
    };
    // The first keyboard leads, so it should be the one that people type on: not a laptop's own if another is plugged in, and
    // not what a mouse with many buttons calls a keyboard, which is not its first interface (`-if01-event-kbd`).
    let behind = |event: &&EventDevice| {
        let path = event.path();
        (event.usb.is_none(), path.to_string_lossy().contains("-if"))
    };
    let of_seat = |event: &&EventDevice| event.seat == SEAT && (event.keyboard || event.mouse) && !is_given(event);
    let mut events: Vec<&EventDevice> = inputs.devices.iter().filter(of_seat).collect();
    events.sort_by_key(behind);
    let found: Vec<Shared> = events
        .into_iter()
        .map(|event| {
            let path = Some(event.path());
            let (keyboard, mouse) = if event.keyboard { (path, None) } else { (None, path) };
            let origin = by_fact(format!(
                "{} is {} of {SEAT}",
                event.name,
                if event.keyboard { "a keyboard" } else { "a mouse" }
            ));
            Shared { entry: InputDevice { keyboard, mouse, ..InputDevice::default() }, field: None, origin }
        })
        .collect();
    let keyboards = found.iter().filter(|shared| shared.entry.keyboard.is_some()).count();
    if keyboards == 0 {
        let detail = format!("no keyboard of {SEAT} is plugged in, so there is none to share");
        draft.no(
            "input.seat",
            Hard,
            detail,
            "plug it in, or name devices: `input: [(keyboard: \"/dev/input/by-id/…-event-kbd\")]`",
        );
        draft.about("input");
        return Vec::new();
    }
    let mice = found.len() - keyboards;
    draft.yes(
        "input.seat",
        Hard,
        format!(
            "the guest shares {} and {} of {SEAT}",
            counted(keyboards, "keyboard", "keyboards"),
            counted(mice, "mouse", "mice")
        ),
    );
    found
}

/// Whether the path leads to what the entry says, and the account may use it.
fn check(draft: &mut Draft, entry: &InputDevice, field: Option<&str>, path: &Path, keyboard: bool) {
    let host = draft.host;
    let Some(inputs) = &host.input else {
        return draft.unknown("input.present", Soft, "this host was captured without its event devices");
    };
    let (key, shown) = (format!("input.{}", path.display()), path.display());
    let severity = if entry.optional == Some(false) { Hard } else { Soft };
    let about = |draft: &mut Draft| {
        if let Some(field) = field {
            draft.about(&format!("{field}.{}", if keyboard { "keyboard" } else { "mouse" }));
        }
    };
    let found = inputs.at(path).or_else(|| inputs.devices.iter().find(|event| event.path() == path));
    let Some(event) = found else {
        absent(draft, &key, path, severity, keyboard, inputs);
        return about(draft);
    };
    let (is, what) = if keyboard { (event.keyboard, "keyboard") } else { (event.mouse, "mouse") };
    if !is {
        let really = match (event.keyboard, event.mouse) {
            (true, _) => "a keyboard",
            (_, true) => "a mouse",
            _ => "neither keyboard nor mouse",
        };
        let detail = format!("{shown} is no {what}: {} is {really}", event.name);
        draft.no(&format!("{key}.kind"), if keyboard { Hard } else { Soft }, detail, &known(inputs, keyboard));
        return about(draft);
    }
    draft.yes(&format!("{key}.present"), severity, format!("{shown} is {}", event.name));
    if draft.account.is_none() && event.usable == Some(false) {
        let detail = format!("you may not use {shown}: /dev/input/{} is not yours to write to", event.event);
        let remedy = "start as root, or join the group that owns it (`usermod -aG input $USER`, then log in anew); its members \
                      can read all that is typed on this host";
        draft.no(&format!("{key}.rights"), severity, detail, remedy);
        about(draft);
    }
    let whole = host.usb.iter().flatten().find(|device| Some(&device.port) == event.usb.as_ref());
    let taken = |usb: &crate::machine::UsbDevice| {
        whole.is_some_and(|device| {
            usb.id.is_none_or(|id| id == device.ids) && usb.port.as_ref().is_none_or(|port| *port == device.port)
        })
    };
    if let (Some(index), Some(device)) = (draft.machine.usb.iter().flatten().position(taken), whole) {
        let detail = format!("{shown} is {device}, which `usb[{index}]` gives to the guest whole");
        draft.no(
            &format!("{key}.shared"),
            Hard,
            detail,
            "name it in `input`, to share it, or in `usb`, to give it away, and not in both",
        );
        about(draft);
    }
}

/// Nothing is at the path, or no event device.
fn absent(draft: &mut Draft, key: &str, path: &Path, severity: Severity, keyboard: bool, inputs: &Inputs) {
    let shown = path.display();
    let fact = draft.host.files.get(path);
    if let Some(kind) = fact.and_then(|fact| fact.kind) {
        let what = if kind == FileKind::Character { "another device" } else { "no device" };
        let detail = format!("{shown} is no event device: it is {what}");
        return draft.no(&format!("{key}.kind"), Hard, detail, &known(inputs, keyboard));
    }
    let near = fact.and_then(|fact| fact.near.as_ref()).map(|near| format!("; did you mean {}?", near.display()));
    let detail = format!("{shown} is not there{}", near.unwrap_or_default());
    let remedy = match severity {
        Hard => format!("plug it in; {}", known(inputs, keyboard)),
        Soft => format!("the guest is given it when it is plugged in; {}", known(inputs, keyboard)),
    };
    draft.no(&format!("{key}.present"), severity, detail, &remedy);
}

/// What there is of the kind.
fn known(inputs: &Inputs, keyboard: bool) -> String {
    let of_kind = inputs.devices.iter().filter(|event| if keyboard { event.keyboard } else { event.mouse });
    let paths: Vec<String> = of_kind.take(4).map(|event| format!("{:?}", event.path())).collect();
    let word = if keyboard { "keyboard" } else { "mouse" };
    match paths.as_slice() {
        [] => format!("this host has no {word} now"),
        paths => format!("`{word}` takes one of: {}", paths.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::FileFact;
    use crate::machine::Toggle;
    use crate::plan::sample::{self, Shape, event_device, plugged};
    use crate::plan::{Finding, Plan, Verdict};

    /// A host with a keyboard, a mouse and a power button, as root or as a user sees it.
    fn with(fields: &str, uid: u32) -> Plan {
        let mut host = sample::host(Shape::simple(4, 1));
        host.process.uid = uid;
        let button = EventDevice { mouse: false, ..event_device("event0", "", false) };
        let usb = EventDevice { usb: "1-1".parse().ok(), ..event_device("event5", "usb-a-event-kbd", true) };
        let mouse = EventDevice { usable: Some(false), ..event_device("event7", "usb-b-event-mouse", false) };
        host.usb = Some(vec![plugged("1-1", "046d:c547")]);
        host.input = Some(Inputs { devices: vec![button, usb, mouse], ..Inputs::default() });
        let null = FileFact { kind: Some(FileKind::Character), ..FileFact::default() };
        host.files.insert("/dev/null".into(), null);
        sample::plan(&format!("(guest: Linux, memory: (size: \"1 GiB\"), firmware: Bios, {fields})"), &host)
    }

    fn no<'p>(plan: &'p Plan, key: &str) -> Option<&'p Finding> {
        plan.findings.iter().find(|finding| finding.key.contains(key) && finding.ok == Verdict::No)
    }

    const BOTH: &str = "input: [(mouse: \"/dev/input/by-id/usb-b-event-mouse\", toggle: ScrollLock), \
                        (keyboard: \"/dev/input/by-id/usb-a-event-kbd\")]";

    #[test]
    fn the_first_keyboard_leads_and_root_gives_qemu_nodes_of_its_own() {
        let inputs = |plan: &Plan| -> Vec<LateInput> {
            let inputs = plan.late.iter().filter_map(|late| match &late.what {
                Late::Input(input) => Some(input.clone()),
                Late::Usb(_) | Late::Disk(_) => None,
            });
            inputs.collect()
        };
        let plan = with(BOTH, 0);
        let shared = inputs(&plan);
        assert_eq!(shared.iter().map(|i| (i.grab_all, i.repeat)).collect::<Vec<_>>(), [(false, false), (true, true)]);
        assert_eq!((shared[0].toggle.as_str(), shared[1].toggle.as_str()), ("scrolllock", "ctrl-ctrl"));
        assert_eq!(shared[1].node.as_deref(), Some(Path::new("/dev/vfio-run/test/input-1")));
        assert!(plan.changes.iter().any(|c| c.change.to_string() == "make the folder /dev/vfio-run/test"));
        let argv = plan.command.argv().join(" ");
        assert!(argv.contains("virtio-keyboard-pci") && argv.contains("virtio-mouse-pci") && !argv.contains(OBJECT));
        assert!(!with(&format!("{BOTH}, virtio_input: false"), 0).command.argv().join(" ").contains("virtio-mouse"));
        let found = inputs(&with("input: Auto", 0));
        assert_eq!(found[0].path, Path::new("/dev/input/by-id/usb-a-event-kbd"));
        assert_eq!(found.len(), 2);
        // A user's QEMU opens the host's own node.
        let own = with(BOTH, 1000);
        assert!(inputs(&own).iter().all(|input| input.node.is_none()) && own.changes.is_empty());
        assert!(no(&own, "mouse.rights").is_some_and(|finding| finding.detail.contains("/dev/input/event7")));
    }

    #[test]
    fn what_is_no_keyboard_absent_or_given_whole_is_told() {
        let kbd = |path: &str| format!("input: [(keyboard: \"{path}\")]");
        for (fields, key, blocks, expected) in [
            (kbd("/dev/input/by-id/usb-x-event-kbd"), "usb-x-event-kbd.present", false, "is not there"),
            (
                "input: [(keyboard: \"/dev/input/by-id/x\", optional: false)]".to_owned(),
                "by-id/x.present",
                true,
                "is not there",
            ),
            (kbd("/dev/null"), "/dev/null.kind", true, "is no event device: it is another device"),
            (kbd("/dev/input/by-id/usb-b-event-mouse"), ".kind", true, "is no keyboard: Device of event7 is a mouse"),
            (
                "input: [(mouse: \"/dev/input/by-id/usb-b-event-mouse\")]".to_owned(),
                "input.keyboard",
                true,
                "no keyboard",
            ),
            (
                format!("usb: [\"046d:c547\"], {}", kbd("/dev/input/by-id/usb-a-event-kbd")),
                ".shared",
                true,
                "which `usb[0]` gives to the guest whole",
            ),
            ("usb: [\"1-1\"], input: Auto".to_owned(), "input.seat", true, "no keyboard of seat0 is plugged in"),
        ] {
            let plan = with(&fields, 0);
            let found = no(&plan, key).unwrap_or_else(|| panic!("{fields}: {:?}", plan.findings));
            assert!(found.detail.contains(expected) && found.blocks() == blocks, "{found:?}");
        }
    }

    #[test]
    fn virtio_input_is_there_for_those_who_ask() {
        let argv = with("virtio_input: true", 0).command.argv().join(" ");
        assert!(argv.contains("virtio-keyboard-pci"), "{argv}");
        assert!(!with("usb: []", 0).command.argv().join(" ").contains("virtio-keyboard-pci"));
        assert_eq!(Toggle::default().word(), "ctrl-ctrl");
    }
}
