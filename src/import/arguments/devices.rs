//! `-device`, `-object` and what they refer to.

use super::option::Members;
use super::state::{Became, State};
use super::{cards, drives};
use crate::import::account::Verdict;
use crate::import::context::Context;
use crate::import::domain::{USB_BY_NUMBER, event_device, looking_glass, shared_folder, sound_server, toggle};
use crate::machine::{
    AppleSmc, Audio, Emulated, Guest, Pages, PciDevice, Property, Rendering, ShareKind, Sound, SoundCard, Tpm,
    UsbDevice, Video, Vsock, Watchdog, WatchdogDevice,
};
use crate::units::{PciAddress, Size, UsbIds};

const CONTROLLERS: &str = "vfio-run makes the controllers that the devices need";
const PLACES: &str = "vfio-run chooses the guest's addresses and puts functions of one card into one slot";
const MEMORY: &str = "Looking Glass's and Scream's memory is made by vfio-run";

/// `-device`.
pub fn device(cx: &mut Context, state: &mut State, members: &Members) -> Option<Became> {
    let driver = members.driver()?;
    let became = known(cx, state, driver, members)?;
    if became.1 == CONTROLLERS {
        state.controllers.extend(members.get("id").map(str::to_owned));
    }
    Some(became)
}

fn known(cx: &mut Context, state: &mut State, driver: &str, members: &Members) -> Option<Became> {
    match driver {
        "ivshmem-plain" | "ivshmem" => {
            let memory = state.named.get(members.get("memdev")?)?;
            let path = memory.get("mem-path").unwrap_or_default();
            let size = size(memory.get("size")?)?;
            if path.starts_with("/dev/kvmfr") || path.contains("looking-glass") {
                looking_glass(cx, size);
            } else if path.contains("scream") {
                cx.machine.scream = true;
            } else {
                return None;
            }
            Became::taken()
        }
        // macOS has no driver for PS/2.
        "usb-kbd" | "usb-mouse" | "usb-tablet" if state.script && cx.machine.guest == Guest::Other => {
            // The controller that they are on.
            cx.machine.usb.get_or_insert_default();
            None
        }
        "usb-kbd" | "usb-mouse" | "usb-tablet" => {
            Became::done("every machine has a keyboard and a mouse, and a tablet comes with a screen")
        }
        "virtio-keyboard-pci" | "virtio-mouse-pci" | "virtio-keyboard" | "virtio-mouse" => {
            cx.machine.virtio_input = Some(true);
            Became::taken()
        }
        "qemu-xhci" | "nec-usb-xhci" | "ich9-usb-ehci1" => Became::done(CONTROLLERS),
        "ioh3420" | "pcie-root-port" | "virtio-serial-pci" | "virtio-serial" | "ahci" | "ich9-ahci"
        | "virtio-rng-pci" => Became::done(CONTROLLERS),
        "ich9-intel-hda" | "intel-hda" | "hda-duplex" | "hda-micro" | "hda-output" | "AC97" | "usb-audio" => {
            card(cx, driver);
            Became::taken()
        }
        "usb-ccid" => {
            cx.machine.usb.get_or_insert_default();
            None
        }
        "usb-hub" | "piix4-ide" | "piix3-ide" | "sysbus-ahci" | "pci-ohci" | "piix4-usb-uhci" => {
            Became::done(CONTROLLERS)
        }
        "usb-host" if members.get("hostport").is_some() => {
            let (bus, port) = members.get("hostbus").zip(members.get("hostport"))?;
            let port = format!("{bus}-{port}").parse().ok()?;
            cx.machine.usb.get_or_insert_default().push(UsbDevice { port: Some(port), ..UsbDevice::default() });
            Became::taken()
        }
        "usb-host" if members.get("hostaddr").or(members.get("hostdevice")).is_some() => by_number(),
        "usb-host" => {
            let id = members.get("vendorid").zip(members.get("productid"));
            let hex = |text: &str| u16::from_str_radix(text.trim_start_matches("0x"), 16).ok();
            let (vendor, product) = id?;
            let ids = UsbIds { vendor: hex(vendor)?, product: hex(product)? };
            cx.machine.usb.get_or_insert_default().push(UsbDevice { id: Some(ids), ..UsbDevice::default() });
            Became::taken()
        }
        "isa-applesmc" => apple(cx, members),
        "isa-debugcon" => Became::left("the firmware's own messages are for its developers"),
        "vfio-pci" | "vfio-pci-nohotplug" => function(state, members),
        "pci-assign" | "kvm-pci-assign" => assigned(state, members),
        "i6300esb" | "itco_wdt" if cx.is_windows() => {
            Became::left("Windows has no driver for a watchdog, so it never barks")
        }
        "i6300esb" => {
            cx.machine.watchdog = Some(Watchdog { device: WatchdogDevice::I6300esb, ..Watchdog::default() });
            Became::taken()
        }
        "vhost-user-fs-pci" => {
            let tag = members.get("tag").unwrap_or("data");
            state.used.extend(members.get("chardev").map(str::to_owned));
            let words = format!(
                "vfio-run starts virtiofsd: write the folder that it shared, `shares: [(tag: {tag:?}, folder: \"…\")]`"
            );
            Some(Became(Verdict::NeedsYou, words))
        }
        "tpm-tis" | "tpm-crb" => tpm(cx, state, members),
        "qxl-vga" | "qxl" | "VGA" | "virtio-vga" | "virtio-gpu-pci" | "virtio-gpu" | "virtio-vga-gl"
        | "virtio-gpu-gl-pci" | "virtio-gpu-gl" | "vmware-svga" | "cirrus-vga" | "bochs-display" | "ramfb" => {
            cx.machine.video = Some(match driver {
                "VGA" | "vmware-svga" | "bochs-display" | "ramfb" => Video::Std,
                "cirrus-vga" => Video::Cirrus,
                "qxl-vga" | "qxl" => Video::Qxl,
                gl if gl.contains("-gl") => Video::VirtioGl(Rendering::default()),
                _ => Video::Virtio,
            });
            if driver == "vmware-svga" {
                return Became::improved(
                    "`Std`, which every guest knows, in place of VMware's card, which has no field",
                );
            }
            Became::taken()
        }
        "virtio-balloon-pci" | "virtio-balloon" => {
            Became::left("devices that are passed through pin all memory, so there is no balloon")
        }
        "virtserialport" | "virtconsole" => {
            let name = members.get("name")?;
            let known = name.starts_with("com.redhat.spice") || name == "org.qemu.guest_agent.0";
            let id = members.get("chardev")?;
            known.then(|| state.used.insert(id.to_owned()))?;
            Became::done("the channels of the guest agent and of SPICE's clipboard are there")
        }
        "usb-redir" | "ich9-usb-uhci1" | "ich9-usb-uhci2" | "ich9-usb-uhci3" | "usb-ehci" | "piix3-usb-uhci"
        | "virtio-scsi-pci" | "virtio-scsi" | "pcie-pci-bridge" | "pci-bridge" | "i82801b11-bridge" | "pxb-pcie"
        | "x3130-upstream" | "xio3130-downstream" => {
            if let Some(id) = members.get("chardev") {
                state.used.insert(id.to_owned());
            }
            Became::done(CONTROLLERS)
        }
        "vhost-vsock-pci" => {
            cx.machine.vsock = Vsock::Cid(members.get("guest-cid")?.parse().ok()?);
            Became::taken()
        }
        _ => drives::device(state, driver, members).or_else(|| cards::device(cx, state, driver, members)),
    }
}

/// A USB device that is named by what changes with each plug.
pub fn by_number() -> Option<Became> {
    Some(Became(Verdict::NeedsYou, USB_BY_NUMBER.to_owned()))
}

fn tpm(cx: &mut Context, state: &mut State, members: &Members) -> Option<Became> {
    let id = members.get("tpmdev")?;
    let backend = state.named.get(id)?;
    cx.machine.tpm = match backend.driver()? {
        "passthrough" => Tpm::Passthrough(backend.get("path").unwrap_or("/dev/tpm0").into()),
        _ => Tpm::V2(Emulated::default()),
    };
    state.used.extend([Some(id), backend.get("chardev")].into_iter().flatten().map(str::to_owned).collect::<Vec<_>>());
    Became::taken()
}

/// The sound card that QEMU's driver is.
pub fn card(cx: &mut Context, driver: &str) {
    let card = match driver {
        "AC97" => SoundCard::Ac97,
        "usb-audio" => SoundCard::Usb,
        _ => SoundCard::Ich9,
    };
    if let Audio::None = cx.machine.audio {
        cx.machine.audio = Audio::Auto(Sound::default());
    }
    let sound = match &mut cx.machine.audio {
        Audio::None => return,
        Audio::Auto(sound)
        | Audio::PipeWire(sound)
        | Audio::Pulse(sound)
        | Audio::Jack(sound)
        | Audio::Alsa(sound)
        | Audio::Spice(sound) => sound,
    };
    if card != SoundCard::Ich9 {
        sound.card = card;
    }
    sound.microphone |= matches!(driver, "hda-duplex" | "hda-micro");
}

/// Apple's controller. Its key is in no machine file, since other users can read that.
fn apple(cx: &mut Context, members: &Members) -> Option<Became> {
    let key = members.get("osk").filter(|key| key.len() as u64 == AppleSmc::KEY && key.is_ascii());
    if let (Some(key), Some(file)) = (key, cx.key_file.clone()) {
        cx.machine.apple_smc = Some(AppleSmc { key_file: file });
        cx.key = Some(key.to_owned());
        let words = "Apple's key is written into a file beside the machine file, which others cannot read, so that no list of processes \
                     shows it";
        return Some(Became(Verdict::TakenOver, words.to_owned()));
    }
    let file = format!("/etc/vfio-run/{}.osk", cx.machine.name);
    cx.machine.apple_smc = Some(AppleSmc { key_file: file.clone().into() });
    let words = format!(
        "Apple's key is read from a file, so that no list of processes shows it: write the 64 characters of your own Mac's into {file}; \
         `-o FILE` does it if the script or domain has them"
    );
    cx.comment("apple_smc", words.clone());
    Some(Became(Verdict::NeedsYou, words))
}

fn function(state: &mut State, members: &Members) -> Option<Became> {
    let address: PciAddress = members.get("host")?.parse().ok()?;
    let mut device = PciDevice::at(address.into());
    for (key, value) in members.rest() {
        match key {
            "host" | "id" | "bus" | "addr" | "multifunction" | "driver" | "display" | "ramfb" => {}
            "romfile" => device.rom = Some(value.into()),
            "x-vga" => device.x_vga = Some(value == "on"),
            "bootindex" => device.boot = value.parse().ok(),
            _ => drop(device.properties.insert(key.to_owned(), property(value))),
        }
    }
    state.functions.push((address, device));
    Became::taken()
}

/// A device that QEMU's old way of passing through had, before VFIO.
pub fn assigned(state: &mut State, members: &Members) -> Option<Became> {
    let address: PciAddress = members.get("host")?.parse().ok()?;
    state.functions.push((address, PciDevice::at(address.into())));
    Became::improved("VFIO is what passes a device through; QEMU no longer has the way before it")
}

/// `-virtfs`: a folder of the host's, by 9p.
pub fn folder(cx: &mut Context, members: &Members) -> Option<Became> {
    let (path, tag) = members.get("path").zip(members.get("mount_tag"))?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !path.starts_with('/') || tag.is_empty() || tag.len() > 31 || !tag.chars().all(allowed) {
        return None;
    }
    let mut share = shared_folder(tag.to_owned(), path.into());
    share.kind = ShareKind::NineP;
    share.read_only = members.on("readonly") == Some(true);
    cx.machine.shares.push(share);
    Became::taken()
}

/// A property's value of its kind.
pub fn property(value: &str) -> Property {
    match value {
        "on" | "yes" | "true" => Property::Switch(true),
        "off" | "no" | "false" => Property::Switch(false),
        _ => {
            let hex = value.strip_prefix("0x").or(value.strip_prefix("0X"));
            let number = hex.map_or_else(|| value.parse().ok(), |digits| i64::from_str_radix(digits, 16).ok());
            number.map_or_else(|| Property::Text(value.to_owned()), Property::Number)
        }
    }
}

/// The size of the huge pages of a folder, by its name.
pub fn page_of(path: &str) -> Size {
    let large = path.contains("1G") || path.contains("1048576");
    Size::bytes(if large { Size::GIB } else { 2 * Size::MIB })
}

/// `-object`.
pub fn object(cx: &mut Context, state: &mut State, members: &Members) -> Option<Became> {
    match members.driver()? {
        "input-linux" => {
            let all = members.on("grab_all").or(members.on("grab-all")).filter(|all| *all);
            let keys = members.get("grab-toggle").and_then(toggle);
            event_device(cx, members.get("evdev")?, all, members.on("repeat"), keys);
            Became::taken()
        }
        "memory-backend-file" | "memory-backend-memfd" | "memory-backend-ram" => {
            let path = members.get("mem-path").unwrap_or_default();
            let huge = path.contains("hugepages") || members.on("hugetlb") == Some(true);
            if let Some(nodes) = members.get("host-nodes").and_then(|nodes| nodes.parse().ok()) {
                cx.machine.memory.nodes = Some(nodes);
            }
            if huge {
                let page = members.get("hugetlbsize").and_then(size);
                cx.machine.memory.pages = Pages::Huge(page.unwrap_or_else(|| page_of(path)));
                return Became::taken();
            }
            if path.starts_with("/dev/kvmfr") || path.contains("looking-glass") || path.contains("scream") {
                return Became::done(MEMORY);
            }
            state.shared_memory |= members.on("share") == Some(true);
            Became::done("memory comes from the kernel (memfd), and is shared with what needs it")
        }
        "iothread" => Became::done("each virtio disk has an I/O thread of its own"),
        "rng-random" | "rng-builtin" => Became::done("every guest gets random numbers of the host's"),
        _ => None,
    }
}

/// `-chardev`: of a monitor, or of the firmware's messages.
pub fn socket(state: &State, members: &Members) -> Option<Became> {
    let path = members.get("path").unwrap_or_default();
    let id = members.get("id").unwrap_or_default();
    if path.contains("qmp") || id.starts_with("mon") || id.contains("qmp") {
        return Became::done("QMP for your own tools is `qmp.sock` in the run directory");
    }
    if state.used.contains(id) {
        return Became::done(
            "the channels of the guest agent and of SPICE's clipboard are there, and the TPM's socket too",
        );
    }
    (id.contains("seabios") || id.contains("debug"))
        .then(|| Became::left("the firmware's own messages are for its developers"))
        .flatten()
}

/// `-audiodev`.
pub fn audio(cx: &mut Context, members: &Members) -> Option<Became> {
    let server = members.driver()?;
    if server == "none" {
        return Became::left("a sound card that nothing plays is left out");
    }
    let audio = sound_server(server)?;
    let before = match &cx.machine.audio {
        Audio::None => Sound::default(),
        known => known.sound().map(|(_, sound)| sound.clone()).unwrap_or_default(),
    };
    // In microseconds; what the guest's card plays waits there.
    let buffer = members.get("out.latency").or(members.get("out.buffer-length"));
    let latency = buffer.and_then(|us| us.parse::<u32>().ok()).map(|us| us / 1000).filter(|ms| (2..=1000).contains(ms));
    let part = |side: &str| {
        let key = match server {
            "jack" => "connect-ports",
            "alsa" => "dev",
            _ => "name",
        };
        members.get(&format!("{side}.{key}")).filter(|name| !name.is_empty() && name.len() <= 200).map(str::to_owned)
    };
    let (output, input) = (part("out"), part("in"));
    cx.machine.audio = audio(Sound {
        latency_ms: latency.filter(|_| server != "jack").or(before.latency_ms),
        output: output.or(before.output),
        input: input.filter(|_| before.microphone).or(before.input),
        ..before
    });
    Some(Became(
        Verdict::TakenOver,
        "the sound goes to the server of the user whose desktop it is; vfio-run finds its socket".to_owned(),
    ))
}

/// `-set device.ALIAS.PROPERTY=VALUE`.
pub fn set(cx: &mut Context, state: &State, value: &str) -> Option<Became> {
    let (path, value) = value.split_once('=')?;
    let mut parts = path.split('.');
    let (Some("device"), Some(alias), Some(name), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    if name == "rotation_rate" {
        return Became::done("a disk that takes discards says that it is no rotating one");
    }
    let known = state.aliases.get(alias).and_then(|address| given(cx, *address, name, property(value)));
    known.or_else(|| {
        let words = "QEMU has no device of this name here: write the field that says it, or the property into `properties` of an entry in `pci`";
        Some(Became(Verdict::NeedsYou, words.to_owned()))
    })
}

/// A property of a function that is passed through.
pub fn given(cx: &mut Context, address: PciAddress, name: &str, value: Property) -> Option<Became> {
    let device = cx.machine.pci.iter_mut().find(|device| device.address.contains(address))?;
    match name {
        "host" | "id" | "bus" | "addr" | "multifunction" => return Became::done(PLACES),
        "driver" | "display" | "ramfb" => return Became::left("the card has a screen of its own"),
        _ => {}
    }
    match (name, value) {
        ("bootindex", Property::Number(order)) => device.boot = u32::try_from(order).ok(),
        ("x-vga", Property::Switch(on)) => device.x_vga = Some(on),
        ("romfile", Property::Text(file)) => device.rom = Some(file.into()),
        (name, value) => drop(device.properties.insert(name.to_owned(), value)),
    }
    Became::taken()
}

/// A size as QEMU's objects take it: `64M`.
fn size(text: &str) -> Option<Size> {
    text.parse().ok().or_else(|| text.parse().ok().map(Size::bytes))
}
