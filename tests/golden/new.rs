//! What `vfio-run new` writes for captured hosts, and whether it can be planned there.

use std::path::{Path, PathBuf};

use vfio_run::host::Host;
use vfio_run::host::input::{EventDevice, Inputs as Events};
use vfio_run::host::pci::Names;
use vfio_run::host::usb::Plugged;
use vfio_run::import::new::{NewDisk, Proposed, Wishes, cards, installation_beside, propose};
use vfio_run::machine::{self, Display, Guest};
use vfio_run::units::Size;

use super::input::{self, Inputs};

/// Name of the snapshot, host, what is wished.
const CASES: &[(&str, &str, Guest, Wish)] = &[
    ("windows-on-the-second-card", "ryzen-3900x", Guest::Windows11, Wish { card: true, cds: true, ..NOTHING }),
    ("windows-on-the-only-card", "core-i7-13700k", Guest::Windows11, Wish { card: true, cds: true, ..NOTHING }),
    ("windows-on-a-small-host", "ryzen-1600af", Guest::Windows10, Wish { card: true, ..NOTHING }),
    ("windows-without-a-card", "laptop-4c", Guest::Windows11, Wish { cds: true, ..NOTHING }),
    ("windows-without-drivers", "laptop-4c", Guest::Windows11, Wish { setup: true, ..NOTHING }),
    ("linux-on-a-disk-of-the-host", "xeon-2numa", Guest::Linux, Wish { setup: true, device: true, ..NOTHING }),
    ("linux-with-a-usb-controller", "debian13-desktop", Guest::Linux, Wish { card: true, keys: true, ..NOTHING }),
    ("other-in-a-container", "container-2c", Guest::Other, NOTHING),
];

/// What is wished beside the guest.
struct Wish {
    /// The first card.
    card: bool,
    /// The installation's CD.
    setup: bool,
    /// That and the drivers'.
    cds: bool,
    /// A disk of the host, not a new image.
    device: bool,
    /// The host has a keyboard of its own beside those on USB.
    keys: bool,
}

const NOTHING: Wish = Wish { card: false, setup: false, cds: false, device: false, keys: false };

/// The host with what is plugged into it.
fn host(name: &str, keys: bool) -> Host {
    let mut host = input::host(name);
    let controller = host.pci.iter().flat_map(|pci| &pci.functions).find(|f| f.class >> 8 == 0x0c03);
    let controller = controller.map(|function| function.address);
    let plugged = |port: &str, ids: &str, name: &str| Plugged {
        port: port.parse().unwrap(),
        bus: 1,
        number: 2,
        ids: ids.parse().unwrap(),
        name: name.to_owned(),
        hub: false,
        configured: true,
        keyboard: name.contains("Keyboard"),
        controller,
        usable: Some(true),
        mounted: vec![],
        lease: None,
    };
    host.usb =
        Some(vec![plugged("1-1", "046d:c31c", "Logitech Keyboard"), plugged("1-2", "046d:c077", "Logitech Mouse")]);
    let event = |number: u8, name: &str, usb: Option<&str>| EventDevice {
        event: format!("event{number}"),
        input: format!("input{number}"),
        name: name.to_owned(),
        links: vec![],
        keyboard: name.contains("Keyboard") || name.starts_with("AT"),
        mouse: name.contains("Mouse"),
        seat: "seat0".to_owned(),
        usb: usb.map(|port| port.parse().unwrap()),
        usable: Some(true),
    };
    let mut devices = vec![event(3, "Logitech Keyboard", Some("1-1")), event(4, "Logitech Mouse", Some("1-2"))];
    if keys {
        devices.push(event(5, "AT Translated Set 2 keyboard", None));
    }
    host.input = Some(Events { devices, ..Events::default() });
    host
}

fn proposed(host: &Host, guest: Guest, wish: &Wish) -> Proposed {
    let names =
        Names::of(&vfio_run::host::Root::new("/nowhere"), &host.pci.as_ref().unwrap_or(&Default::default()).functions);
    let setup = if guest.is_windows() { "/machines/Win11_x64.iso" } else { "/machines/linux.iso" };
    let wishes = Wishes {
        name: "guest".to_owned(),
        guest,
        card: cards(host, &names).first().filter(|_| wish.card).map(|card| card.address),
        disk: match wish.device {
            true => NewDisk::There("/dev/disk/by-id/ata-EXAMPLE_SSD".into()),
            false => NewDisk::Create(Size::bytes(128 << 30)),
        },
        setup: (wish.setup || wish.cds).then(|| PathBuf::from(setup)),
        drivers: wish.cds.then(|| PathBuf::from("/machines/virtio-win.iso")),
        display: Display::Spice(Default::default()),
    };
    propose(&wishes, host, &names, Path::new("/machines/guest.ron")).unwrap()
}

#[test]
fn what_new_writes_is_as_reviewed_and_can_be_planned_where_it_was_made() {
    for (name, host_name, guest, wish) in CASES {
        let host = host(host_name, wish.keys);
        let Proposed { machine, installation } = proposed(&host, *guest, wish);
        let path = Path::new("/machines/guest.ron");
        let mut text = machine.clone();
        let mut sources = vec![machine::parse(path, &machine).unwrap()];
        if let Some(installation) = installation {
            let base = |_: &Path| Ok(machine.clone());
            sources.push(machine::parse_with(&installation_beside(path), &installation, &base).unwrap());
            text.push_str(&format!("\n{installation}"));
        }
        for qemu in ["7.2", "10.0"] {
            for source in &sources {
                let plan = Inputs::from(source.clone(), host.clone(), input::qemu(qemu)).plan();
                let file = source.path.file_name().unwrap().display().to_string();
                for finding in plan.findings.iter().filter(|finding| finding.blocks()) {
                    text.push_str(&format!("\n{file} with {qemu}: {}: {}", finding.key, finding.detail));
                }
            }
        }
        insta::with_settings!({
            snapshot_path => "new",
            prepend_module_to_snapshot => false,
            omit_expression => true,
        }, {
            insta::assert_snapshot!(*name, text);
        });
    }
}
