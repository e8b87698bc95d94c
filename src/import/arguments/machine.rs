//! Options of the machine as a whole: memory, vCPUs, firmware, screen, ports.

use super::option::Members;
use super::state::{Became, State, lost};
use crate::import::account::Verdict;
use crate::import::context::Context;
use crate::import::domain::{disk_of_order, possible_name};
use crate::machine::{
    Accelerator, Display, Firmware, Idle, Kernel, Listen, Pages, Pin, Rtc, SecondSerial, Serial, Uefi, VcpuCpus, Video,
    Window,
};
use crate::units::Size;

/// Reads an option; `None` if it is none of these, or has no field.
pub fn read(cx: &mut Context, state: &mut State, option: &str, value: &str) -> Option<Became> {
    let members = Members::parse(value);
    let machine = &mut cx.machine;
    match option {
        "m" => {
            let members = members?;
            let text = members.get("size").or(members.driver())?;
            // QEMU's own unit is MiB.
            let size =
                text.parse().ok().or_else(|| Some(Size::bytes(text.parse::<u64>().ok()?.checked_mul(Size::MIB)?)));
            machine.memory.size = size.filter(|size| size.as_bytes() >= Size::MIB)?;
            match members.get("slots").or(members.get("maxmem")) {
                Some(_) => Became::done(
                    "without `slots` and `maxmem`: memory is not plugged in later; the guest has all of it from the start",
                )?
                .also_taken(),
                None => Became::taken(),
            }
        }
        "smp" => {
            let members = members?;
            let number = |key: &str| members.get(key).and_then(|count| count.parse::<u32>().ok());
            let cpus = members.driver().and_then(|cpus| cpus.parse().ok()).or(number("cpus"));
            let product = ["sockets", "dies", "cores", "threads"]
                .iter()
                .map(|key| number(key).unwrap_or(1))
                .reduce(u32::saturating_mul);
            machine.cpu.vcpus = Some(cpus.or(product)?.clamp(1, 4096));
            Became::done("the topology follows from the host's CPUs that the vCPUs run on")?.also_taken()
        }
        "name" => {
            let members = members?;
            machine.name = possible_name(members.get("guest").or(members.driver())?);
            Became::taken()
        }
        "uuid" => {
            machine.uuid = Some(value.parse().ok()?);
            Became::taken()
        }
        "machine" | "M" => board(cx, state, &members?),
        "accel" => {
            if value.starts_with("tcg") {
                machine.accelerator = Accelerator::Tcg;
            }
            Became::taken()
        }
        "overcommit" => {
            let members = members?;
            if members.on("cpu-pm") == Some(true) {
                machine.cpu.idle = Some(Idle::Guest);
            }
            // Memory is locked by devices that are passed through.
            machine.memory.lock |= members.on("mem-lock") == Some(true) && state.functions.is_empty();
            Became::taken()
        }
        "mem-path" if value.contains("huge") => {
            machine.memory.pages = Pages::Huge(super::devices::page_of(value));
            Became::taken()
        }
        "mem-prealloc" => Became::done("with huge pages and with devices all memory is there before the guest starts"),
        "bios" => {
            if value.to_ascii_lowercase().contains("ovmf") {
                machine.firmware = Firmware::Uefi(Uefi::default());
                return Became::improved(
                    "OVMF by -bios has no variable store that lasts; the machine gets a build in flash with a store of its own",
                );
            }
            machine.firmware = Firmware::Bios;
            Became::done("SeaBIOS is QEMU's own")
        }
        "kernel" | "initrd" | "append" => {
            let kernel =
                machine.kernel.get_or_insert_with(|| Kernel { image: "".into(), initrd: None, cmdline: String::new() });
            match option {
                "kernel" => kernel.image = value.into(),
                "initrd" => kernel.initrd = Some(value.into()),
                _ => kernel.cmdline = value.to_owned(),
            }
            Became::taken()
        }
        "rtc" => {
            let members = members?;
            match members.get("base").or(members.driver()) {
                Some("localtime") => machine.rtc = Some(Rtc::LocalTime),
                Some("utc") => machine.rtc = Some(Rtc::Utc),
                None => {}
                Some(_) => return None,
            }
            Became::taken()
        }
        "boot" => {
            let members = members?;
            if members.on("menu") == Some(true) {
                machine.boot_menu = Some(3);
            }
            for class in members.driver().or(members.get("order")).unwrap_or_default().chars() {
                state.order.push(disk_of_order(class));
            }
            if let Some(once) = members.get("once") {
                let words = format!(
                    "no field says `once={once}`, where the machine boots from at its first start only: put what it is installed from \
                     first in `disks`, and behind its disk when it is installed"
                );
                return Some(Became(Verdict::NeedsYou, words));
            }
            Became::taken()
        }
        "k" => Became::done("the client's keyboard layout is the guest's"),
        "runas" | "chroot" => Became::done("QEMU has a user id of its own and a sandbox"),
        "pidfile" | "daemonize" => Became::done("`vfio-run unit` makes a service of the machine"),
        "soundhw" => {
            super::devices::card(cx, if value == "ac97" { "AC97" } else { "hda-duplex" });
            Became::taken()
        }
        "usbdevice" if value == "tablet" || value == "mouse" || value == "keyboard" => {
            Became::done("every machine has a keyboard and a mouse, and a tablet comes with a screen")
        }
        "usbdevice" if value.starts_with("host:") && value.contains('.') => super::devices::by_number(),
        "usbdevice" => {
            let id = value.strip_prefix("host:")?.parse().ok()?;
            let device = crate::machine::UsbDevice { id: Some(id), ..Default::default() };
            machine.usb.get_or_insert_default().push(device);
            Became::taken()
        }
        "balloon" => Became::left("there is no memory balloon unless the file says so"),
        "no-acpi" | "win2k-hack" => Became::left("every machine has ACPI, and no disk needs the hack for Windows 2000"),
        "localtime" => {
            machine.rtc = Some(Rtc::LocalTime);
            Became::taken()
        }
        "no-shutdown" | "S" => {
            Became::left("the launcher lets the guest run when all is in place, and ends QEMU after it")
        }
        _ => screen(cx, option, value),
    }
}

/// Notes what QEMU would not add by itself any more.
pub fn note(state: &mut State, option: &str, value: &str) {
    state.bare |= option == "nodefaults";
    let shows = ["display", "nographic", "vnc", "spice", "sdl", "curses"].contains(&option);
    state.screen |= shows;
    state.card |= matches!(option, "vga" | "std-vga" | "nodefaults") || option == "device" && is_card(value);
}

/// Whether the value of `-device` is an emulated graphics card.
fn is_card(value: &str) -> bool {
    let driver = Members::parse(value).and_then(|members| members.driver().map(str::to_owned)).unwrap_or_default();
    driver.to_ascii_lowercase().contains("vga")
        || ["qxl", "virtio-gpu", "bochs-display", "ramfb"].iter().any(|start| driver.starts_with(start))
}

/// `-vcpu`, which patched QEMUs had: the host's CPUs of a vCPU.
pub fn pin(state: &mut State, members: &Members) -> Option<Became> {
    let (vcpu, cpus) = members.get("vcpunum").zip(members.get("affinity"))?;
    state.pins.insert(vcpu.parse().ok().filter(|vcpu| *vcpu < 4096)?, cpus.parse().ok()?);
    Became::improved("only a changed QEMU has this option; `cpu.pin` says it")
}

/// What is known of pins and screen when all options are read.
pub fn finish(cx: &mut Context, state: &mut State) {
    if !state.pins.is_empty() {
        let last = state.pins.keys().last().map_or(0, |last| last + 1);
        let vcpus = cx.machine.cpu.vcpus.map_or(last, |vcpus| vcpus as usize);
        let each = (0..vcpus).map(|vcpu| state.pins.remove(&vcpu).map_or(VcpuCpus::Any, VcpuCpus::On));
        cx.machine.cpu.pin = Some(Pin::Each(each.collect()));
    }
    // A server of the user's own reads the guest's memory.
    if state.shared_memory && cx.machine.extra_args.iter().any(|word| word.contains("vhost-user")) {
        cx.machine.memory.shared = Some(true);
    }
    let no_screen = cx.machine.display == Display::None && !state.screen;
    if !state.script || !no_screen {
        return;
    }
    if cx.machine.video.is_some() || !state.card && state.functions.is_empty() {
        cx.machine.video.get_or_insert(Video::Std);
        cx.machine.display = Display::Gtk(Window::default());
        cx.account.remark(
            Verdict::TakenOver,
            "a QEMU that nobody tells otherwise shows its card in a window, so `display: Gtk` is there; without it and `video` nobody sees one",
        );
    } else if !state.card {
        cx.account.remark(
            Verdict::LeftOut,
            "QEMU's own window and VGA card, which it has if nobody says otherwise, are left out: `display: Gtk` and `video: Std` bring them",
        );
    }
}

/// What a board says that has a field, that is in `extra_args`, or that vfio-run does by itself.
const OF_A_BOARD: [&str; 22] = [
    "type",
    "accel",
    "pflash0",
    "pflash1",
    "mem-merge",
    "dump-guest-core",
    "memory-encryption",
    "confidential-guest-support",
    "memory-backend",
    "kernel_irqchip",
    "kernel-irqchip",
    "vmport",
    "smm",
    "usb",
    "acpi",
    "max-ram-below-4g",
    "kvm_shadow_mem",
    "kvm-shadow-mem",
    "suppress-vmdesc",
    "pcspk-audiodev",
    "phandle_start",
    "firmware",
];

/// What a board has unless it says that it has not.
const OFF_IS_A_WISH: [&str; 7] = ["hpet", "pit", "sata", "i8042", "default-bus-bypass", "smbus", "x-"];

fn board(cx: &mut Context, state: &mut State, members: &Members) -> Option<Became> {
    for (name, second) in [("pflash0", false), ("pflash1", true)] {
        if let Some(id) = members.get(name)
            && let Some(file) = super::drives::file_of(state, id)
        {
            super::drives::flash(cx, &file, second);
            let below = state.named.get(id).and_then(|node| node.get("file")).map(str::to_owned);
            state.used.extend([id.to_owned()].into_iter().chain(below));
        }
    }
    let machine = &mut cx.machine;
    if members.get("accel").is_some_and(|accel| accel.starts_with("tcg")) {
        machine.accelerator = Accelerator::Tcg;
    }
    machine.memory.merge = members.on("mem-merge").filter(|merge| !merge).or(machine.memory.merge);
    machine.memory.dump |= members.on("dump-guest-core") == Some(true);
    for name in ["memory-encryption", "confidential-guest-support"] {
        if let Some(object) = members.get(name) {
            machine.extra_args.extend(["-machine".to_owned(), format!("{name}={object}")]);
            state.referred.insert(object.to_owned());
        }
    }
    let mut lost = lost(members, &OF_A_BOARD);
    lost.retain(|member| !member.ends_with("=off") || OFF_IS_A_WISH.iter().any(|name| member.starts_with(name)));
    let became = match members.get("type").or(members.driver()) {
        // More of a board that another of these options names.
        None => Became::taken(),
        Some(kind) if kind.starts_with("q35") || kind.starts_with("pc-q35") => {
            Became::done("the board is `q35`, in the newest version that QEMU has")
        }
        Some(_) => Became::improved(
            "i440fx has no PCI Express, so the board is `q35` now; `vfio-run man identity` tells how an installed Windows moves",
        ),
    };
    Some(became?.without(&lost))
}

fn screen(cx: &mut Context, option: &str, value: &str) -> Option<Became> {
    let members = Members::parse(value);
    let machine = &mut cx.machine;
    match option {
        "vga" => {
            machine.video = match value {
                "std" => Some(Video::Std),
                "qxl" => Some(Video::Qxl),
                "virtio" => Some(Video::Virtio),
                "cirrus" => Some(Video::Cirrus),
                "vmware" => Some(Video::Std),
                "none" => None,
                _ => return None,
            };
            if value == "vmware" {
                return Became::improved(
                    "`Std`, which every guest knows, in place of VMware's card, which has no field",
                );
            }
            Became::taken()
        }
        "std-vga" => {
            machine.video = Some(Video::Std);
            Became::improved("QEMU no longer has this option; the card is `video: Std`")
        }
        "display" => {
            let members = members?;
            machine.display = match members.driver()? {
                "none" => return Became::done("there is no screen without a `display`"),
                "gtk" => Display::Gtk(Window { gl: members.on("gl").filter(|on| *on) }),
                "sdl" => Display::Sdl(Window { gl: members.on("gl").filter(|on| *on) }),
                "vnc" => Display::Vnc(Listen::default()),
                "egl-headless" => Display::EglHeadless,
                "spice-app" => Display::Spice(Listen::default()),
                "curses" => return Became::left("an emulated screen is shown by a window, SPICE or VNC"),
                _ => return None,
            };
            Became::taken()
        }
        "sdl" => {
            machine.display = Display::Sdl(Window { gl: None });
            Became::taken()
        }
        "vnc" if value.starts_with("none") => Became::done("there is no screen without a `display`"),
        "vnc" => {
            let number = value.split(',').next()?.rsplit(':').next()?.parse::<u16>().ok()?;
            machine.display = Display::Vnc(Listen { port: Some(5900_u16.checked_add(number)?), ..Listen::default() });
            let secret = value.split(',').skip(1).any(|part| {
                ["password", "sasl", "tls", "x509"].iter().any(|word| part.starts_with(word)) && !part.ends_with("=off")
            });
            if secret { protected() } else { only_here(value.starts_with(':') || value.starts_with("0.0.0.0")) }
        }
        "spice" => {
            let members = members?;
            let port = members.get("port").and_then(|port| port.parse().ok());
            let clipboard = members.on("disable-copy-paste").filter(|off| *off).map(|_| false);
            machine.display = Display::Spice(Listen { port, clipboard, ..Listen::default() });
            if ["password", "password-secret", "tls-port", "sasl"].iter().any(|key| members.get(key).is_some()) {
                return protected();
            }
            only_here(members.get("addr") != Some("127.0.0.1") && port.is_some())
        }
        "serial" | "parallel" | "monitor" if matches!(value, "none" | "null") => {
            Became::done("there is none unless the file says so")
        }
        "monitor" | "qmp" | "qmp-pretty" => Became::done("QMP for your own tools is `qmp.sock` in the run directory"),
        "serial" => {
            let serial = match (value, value.strip_prefix("file:")) {
                ("stdio" | "mon:stdio", _) => Serial::Console,
                (_, Some(path)) => Serial::File(path.into()),
                _ if value.starts_with("unix:") || value == "pty" => Serial::Socket,
                _ => return None,
            };
            match (&machine.serial, &machine.second_serial, serial) {
                (Serial::None, _, serial) => machine.serial = serial,
                (_, SecondSerial::None, Serial::File(path)) => machine.second_serial = SecondSerial::File(path),
                (_, SecondSerial::None, Serial::Socket) => machine.second_serial = SecondSerial::Socket,
                // The terminal is the first one's, and there are two.
                _ => return None,
            }
            Became::taken()
        }
        _ => None,
    }
}

/// What a screen that has a password or is encrypted needs.
fn protected() -> Option<Became> {
    let words = "only this host's users reach the screen, and it has neither password nor encryption: write the password as the only line of a \
                 file that others cannot read, and name it, `password_file: \"…\"`; `tls: (cert: \"…\", key: \"…\")` encrypts";
    Some(Became(Verdict::NeedsYou, words.to_owned()))
}

fn only_here(open: bool) -> Option<Became> {
    match open {
        true => Became::improved(
            "everybody on the network could reach the screen, unencrypted; only this host's users can now",
        ),
        false => Became::taken(),
    }
}
