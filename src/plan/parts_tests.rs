//! What `check` says of each part of a machine that a desk needs, if QEMU lacks it, if its name is misspelt, if the host does
//! not have it, and if whoever starts the machine may not use it. A new part gets a line in each table that can be true of it.

use std::path::Path;

use super::sample::{self, Shape, event_device, plugged, qemu};
use super::{Finding, Plan, Verdict};
use crate::host::desktop::{Answer, Found, SoundServerFact};
use crate::host::input::{EventDevice, Inputs};
use crate::host::{
    AcpiTable, Desktop, FileFact, FileKind, Host, Interface, InterfaceKind, Network, Passt, RenderNode, Tcp, TunFlags,
    UserNetwork, Virtiofsd,
};
use crate::machine::{Backend, Licence, LookingGlass, Machine, Smbios, parse};
use crate::qemu::QemuFacts;
use crate::units::Size;

/// The machine with these fields, from its file.
fn read(fields: &str) -> Result<Machine, String> {
    let given = |field: &str| fields.starts_with(field);
    let memory = if given("memory:") { "" } else { "memory: (size: \"1 GiB\"), " };
    let firmware = if given("firmware:") { "" } else { "firmware: Bios, " };
    let text = format!("(guest: Linux, {memory}{firmware}\n{fields})");
    parse(Path::new("/m.ron"), &text).map(|source| source.machine).map_err(|refused| refused.to_string())
}

fn of(fields: &str, host: &Host, qemu: &QemuFacts) -> Plan {
    let machine = read(fields).unwrap_or_else(|refused| panic!("{refused}"));
    super::plan(&machine, &|_| None, host, qemu)
}

/// The finding of this key that is not as it should be: it says why, what to do, and about which field.
fn refused(plan: &Plan, key: &str) -> Option<Finding> {
    plan.findings.iter().find(|finding| finding.key == key && finding.ok != Verdict::Yes).cloned()
}

/// What QEMU lacks.
#[derive(Debug)]
enum Lacks {
    Device(&'static str),
    Object(&'static str),
    Netdev(&'static str),
    Chardev(&'static str),
    Audio(&'static str),
    Display(&'static str),
    Option(&'static str),
    Spice,
    Vnc,
}

use Lacks::{Audio, Chardev, Device, Display, Netdev, Object, Option as CommandLineOption, Spice, Vnc};

/// Each part that needs something of QEMU's; the finding that forbids the start without it.
const LACKING: &[(&str, Lacks, &str)] = &[
    ("looking_glass: (size: \"32 MiB\")", Device("ivshmem-plain"), "qemu.device.ivshmem-plain"),
    ("looking_glass: (size: \"32 MiB\")", Object("memory-backend-file"), "qemu.object.memory-backend-file"),
    ("looking_glass: (size: \"32 MiB\"), display: Spice, video: None", Spice, "display.known"),
    ("scream: true", Device("ivshmem-plain"), "qemu.device.ivshmem-plain"),
    ("watchdog: (device: I6300esb)", Device("i6300esb"), "qemu.device.i6300esb"),
    ("panic_device: ()", Device("pvpanic"), "qemu.device.pvpanic"),
    ("second_serial: Socket", Device("isa-serial"), "qemu.device.isa-serial"),
    ("display: Spice", Spice, "display.known"),
    ("display: Spice(usb_redirection: 1)", Spice, "display.known"),
    ("display: Spice(clipboard: true)", Device("virtserialport"), "qemu.device.virtserialport"),
    ("display: Spice(usb_redirection: 1)", Device("usb-redir"), "qemu.device.usb-redir"),
    ("display: Spice(usb_redirection: 1), video: None", Device("qemu-xhci"), "qemu.device.qemu-xhci"),
    ("display: Spice, video: Qxl", Device("qxl-vga"), "qemu.device.qxl-vga"),
    ("display: Vnc", Vnc, "display.known"),
    ("display: Vnc(clipboard: true)", Device("virtio-serial-pci"), "qemu.device.virtio-serial-pci"),
    ("display: Vnc(clipboard: true)", Chardev("qemu-vdagent"), "display.clipboard"),
    ("display: Vnc(password_file: \"/f\")", Object("secret"), "qemu.object.secret"),
    (
        "display: Vnc(port: 5900, tls: (cert: \"/f\", key: \"/f\"))",
        Object("tls-creds-x509"),
        "qemu.object.tls-creds-x509",
    ),
    ("display: Vnc, video: Cirrus", Device("cirrus-vga"), "qemu.device.cirrus-vga"),
    ("display: Gtk(gl: true)", Display("gtk"), "display.known"),
    ("display: EglHeadless, video: VirtioGl", Display("egl-headless"), "display.renders"),
    ("display: EglHeadless, video: VirtioGl", Device("virtio-vga-gl"), "display.gl"),
    ("disks: [(media: Cd)]", Device("ide-cd"), "qemu.device.ide-cd"),
    ("disks: [(media: Cd, bus: VirtioScsi)]", Device("scsi-cd"), "qemu.device.scsi-cd"),
    ("disks: [(media: Lun, file: \"/f\")]", Device("scsi-block"), "qemu.device.scsi-block"),
    ("apple_smc: (key_file: \"/f\")", Device("isa-applesmc"), "qemu.device.isa-applesmc"),
    ("tpm: Passthrough(\"/f\")", Device("tpm-tis"), "qemu.device.tpm-tis"),
    ("tpm: V2", Device("tpm-crb"), "qemu.device.tpm-crb"),
    ("networks: [(backend: Slirp)]", Netdev("user"), "net0.backend"),
    ("networks: [(backend: Tap(\"tap0\"))]", Netdev("tap"), "net0.backend"),
    ("networks: [(model: E1000)]", Device("e1000"), "qemu.device.e1000"),
    ("networks: [(model: E1000e)]", Device("e1000e"), "qemu.device.e1000e"),
    ("networks: [(model: Rtl8139)]", Device("rtl8139"), "qemu.device.rtl8139"),
    ("networks: [(model: Vmxnet3)]", Device("vmxnet3"), "qemu.device.vmxnet3"),
    ("usb: [\"046d:c547\"]", Device("usb-host"), "qemu.device.usb-host"),
    ("input: Auto", Object("input-linux"), "qemu.object.input-linux"),
    ("virtio_input: true, input: Auto", Device("virtio-keyboard-pci"), "qemu.device.virtio-keyboard-pci"),
    ("audio: Alsa", Audio("alsa"), "audio.driver"),
    ("audio: Pulse(card: Usb)", Device("usb-audio"), "qemu.device.usb-audio"),
    ("audio: Pulse(card: Ich9)", Device("ich9-intel-hda"), "qemu.device.ich9-intel-hda"),
    ("audio: Pulse(card: Ac97)", Device("AC97"), "qemu.device.AC97"),
    ("audio: Pulse(card: Virtio)", Device("virtio-sound-pci"), "audio.card"),
    ("shares: [(tag: \"d\", folder: \"/f\", kind: NineP)]", CommandLineOption("fsdev"), "share.d.qemu"),
    (
        "shares: [(tag: \"d\", folder: \"/f\", kind: Virtiofs)]",
        Device("vhost-user-fs-pci"),
        "qemu.device.vhost-user-fs-pci",
    ),
    ("vsock: Auto", Device("vhost-vsock-pci"), "qemu.device.vhost-vsock-pci"),
    ("on_reboot: Relaunch", CommandLineOption("action"), "qemu.action"),
    ("serial: Socket", Object("rng-builtin"), "qemu.object.rng-builtin"),
    ("memory: (size: \"1 GiB\", balloon: true)", Device("virtio-balloon-pci"), "qemu.device.virtio-balloon-pci"),
];

impl Lacks {
    /// This QEMU without it, or with it.
    fn set(&self, qemu: &mut QemuFacts, has: bool) {
        let change = |set: &mut std::collections::BTreeSet<String>, name: &str| match has {
            true => drop(set.insert(name.to_owned())),
            false => drop(set.remove(name)),
        };
        match self {
            Device(name) if has => drop(qemu.devices.entry((*name).to_owned()).or_default()),
            Device(name) => drop(qemu.devices.remove(*name)),
            CommandLineOption("action") if has => {
                let names = ["panic", "reboot"].map(str::to_owned);
                drop(qemu.options.insert("action".to_owned(), names.into()));
            }
            CommandLineOption(name) if has => drop(qemu.options.insert((*name).to_owned(), ["path".to_owned()].into())),
            CommandLineOption(name) => drop(qemu.options.remove(*name)),
            Object(name) => change(&mut qemu.objects, name),
            Netdev(name) => change(&mut qemu.netdevs, name),
            Chardev(name) => change(&mut qemu.chardevs, name),
            Audio(name) => change(&mut qemu.audiodevs, name),
            Display(name) => change(&mut qemu.displays, name),
            Spice => qemu.spice = has,
            Vnc => qemu.vnc = has,
        }
    }
}

#[test]
fn a_part_that_this_qemu_lacks_forbids_the_start() {
    let host = desk(0);
    let mut wrong = Vec::new();
    for (fields, lacks, key) in LACKING {
        let found = |has: bool| {
            let mut qemu = qemu();
            lacks.set(&mut qemu, has);
            let plan = of(fields, &host, &qemu);
            refused(&plan, key).filter(|finding| finding.blocks() && finding.remedy.is_some())
        };
        let answers = (found(true).is_some(), found(false).is_some());
        if answers != (false, true) {
            wrong.push(format!("{fields}: {lacks:?}: {answers:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Parts, each with a word of theirs that a user may misspell.
const WORDS: &[(&str, &str)] = &[
    ("networks: [(backend: Bridge(\"br0\"))]", "Bridge"),
    ("networks: [(backend: Macvtap(interface: \"eth0\"))]", "interface"),
    ("networks: [(backend: Nat, subnet: \"10.0.0.0/24\")]", "subnet"),
    ("networks: [(model: Vmxnet3)]", "Vmxnet3"),
    ("networks: [(forward: [\"80:80\"])]", "forward"),
    ("usb: [(id: \"046d:c547\", optional: false)]", "optional"),
    ("input: [(keyboard: \"/dev/input/event3\", toggle: ScrollLock)]", "ScrollLock"),
    ("input: [(keyboard: \"/dev/input/event3\")]", "keyboard"),
    ("virtio_input: true", "virtio_input"),
    ("audio: PipeWire(microphone: true)", "microphone"),
    ("audio: PipeWire", "PipeWire"),
    ("looking_glass: (width: 1, height: 1)", "height"),
    ("looking_glass: (size: \"32 MiB\")", "looking_glass"),
    ("scream: true", "scream"),
    ("smbios: Fields(system: (manufacturer: \"A\"))", "manufacturer"),
    ("smbios: Fields(oem_strings: [\"a\"])", "oem_strings"),
    ("licence: Host", "licence"),
    ("acpi_tables: [\"a.aml\"]", "acpi_tables"),
    ("battery: true", "battery"),
    ("firmware: Uefi(mmio_window: \"64 GiB\")", "mmio_window"),
    ("cpu: (phys_bits: 39)", "phys_bits"),
    ("shares: [(tag: \"d\", folder: \"/f\")]", "folder"),
    ("shares: [(tag: \"d\", folder: \"/f\", kind: Virtiofs)]", "Virtiofs"),
    ("tpm: Passthrough(\"/dev/tpm0\")", "Passthrough"),
    ("tpm: V2(state: \"/d\")", "state"),
    ("vsock: Auto", "vsock"),
    ("watchdog: (device: I6300esb)", "I6300esb"),
    ("boot_menu: 5", "boot_menu"),
    ("display: Spice(clipboard: true)", "clipboard"),
    ("display: Spice(usb_redirection: 2)", "usb_redirection"),
    ("display: Spice(password_file: \"/f\")", "password_file"),
    ("display: EglHeadless", "EglHeadless"),
    ("video: Cirrus", "Cirrus"),
    ("disks: [(file: \"/f\", sector: (logical: 4096))]", "logical"),
    ("disks: [(media: Lun, file: \"/f\")]", "media"),
    ("panic_device: (action: Pause)", "panic_device"),
    ("apple_smc: (key_file: \"/f\")", "key_file"),
    ("second_serial: Socket", "second_serial"),
    ("on_reboot: Relaunch", "Relaunch"),
    ("sleep: (s3: true)", "sleep"),
];

#[test]
fn a_misspelt_word_of_a_part_is_told_with_its_place_and_the_right_one() {
    let mut wrong = Vec::new();
    for (fields, word) in WORDS {
        let misspelt = &word[..word.len() - 1];
        let right = read(fields).err();
        let said = read(&fields.replace(word, misspelt)).err().unwrap_or_default();
        let guess = format!("did you mean `{word}`?");
        if right.is_some() || !(said.starts_with("/m.ron:2:") && said.contains(&guess) && said.contains("allowed")) {
            wrong.push(format!("{fields}: {right:?} {said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A desk of this user's, whose host has all that the machines below name, and lets this user have it.
fn desk(us: u32) -> Host {
    let mut host = sample::host(Shape::simple(4, 1));
    (host.process.uid, host.process.gid) = (us, us);
    host.desktop = Some(Desktop {
        uid: 1000,
        gid: 1000,
        name: Some("alice".to_owned()),
        found: Found::Session("3".to_owned()),
        cookie: None,
        pipewire: server("/run/user/1000/pipewire-0"),
        pulse: server("/run/user/1000/pulse/native"),
        stays: false,
    });
    let node = FileFact { kind: Some(FileKind::Character), mode: 0o666, scsi: Some(true), ..FileFact::default() };
    for path in NODES {
        host.files.insert(path.into(), node.clone());
    }
    let pem = Some(["CERTIFICATE", "PRIVATE KEY"].map(str::to_owned).into());
    let file = FileFact { kind: Some(FileKind::File), size: 64, mode: 0o644, uid: us, pem, ..FileFact::default() };
    host.files.insert(HELPER.into(), FileFact { uid: 0, mode: 0o4755, ..file.clone() });
    for path in Licence::TABLES.into_iter().chain([Smbios::TABLES, "/f", "/log"]) {
        host.files.insert(path.into(), file.clone());
    }
    host.files
        .insert("/d".into(), FileFact { kind: Some(FileKind::Folder), uid: 1000, gid: 1000, mode: 0o755, ..file });
    for path in Licence::TABLES.into_iter().chain(["/f"]) {
        let table = AcpiTable { signature: Some("OEM1".to_owned()), length: 64, size: 64, sums_up: true };
        host.acpi_tables.insert(path.into(), Some(table));
    }
    host.accounts.insert("bob".to_owned(), (1001, 1001));
    for program in ["swtpm", "dnsmasq", "nft"] {
        host.programs.insert(program.to_owned(), Path::new("/usr/bin").join(program));
    }
    let options = ["--fd", "--shared-dir", "--translate-uid", "--translate-gid", "--readonly", "--modcaps"];
    let options = options.map(str::to_owned).into();
    host.virtiofsd = Some(Virtiofsd { program: "/usr/libexec/virtiofsd".into(), options, user_namespaces: Some(true) });
    host.usb = Some(vec![plugged("1-1", "046d:c547")]);
    let keyboard = event_device("event3", "usb-a-event-kbd", true);
    host.input = Some(Inputs {
        devices: vec![keyboard, event_device("event4", "usb-b-event-mouse", false)],
        ..Inputs::default()
    });
    let gpu = RenderNode { path: "/dev/dri/renderD128".into(), address: None, uid: 0, gid: 105, mode: 0o666 };
    host.render_nodes = Some(vec![gpu]);
    let interface = |index, kind| Interface { index, kind, up: true, address: None, mtu: Some(1500), master: None };
    let tap = InterfaceKind::Tun { flags: TunFlags(0x5002), owner: Some(1000), group: None };
    let kinds = [("br0", InterfaceKind::Bridge), ("eth0", InterfaceKind::Ethernet), ("tap0", tap)];
    let named = (1..).zip(kinds).map(|(index, (name, kind))| (name.to_owned(), interface(index, kind)));
    host.network = Some(Network { interfaces: named.collect(), routes: vec![] });
    host.user_network = Some(UserNetwork {
        passt: Some(Passt { path: "/usr/bin/passt".into(), options: [].into(), user_namespaces: Some(true) }),
        name_servers: vec!["192.0.2.1".parse().unwrap()],
        default_route: Some(true),
        first_port: Some(1024),
        listening: vec![],
        of_itself: false,
    });
    host.tcp = Some(Tcp { first_unprivileged: Some(1024), listeners: vec![], addresses: None });
    host.smbios = Some([1].into());
    host
}

/// Its device nodes.
const NODES: [&str; 6] =
    ["/dev/vhost-vsock", "/dev/tpm0", "/dev/sg1", "/dev/snd/timer", "/dev/net/tun", "/dev/vhost-net"];

fn server(socket: &str) -> SoundServerFact {
    SoundServerFact { socket: socket.into(), mode: Some(0o777), answer: Answer::Accepts }
}

/// What a host may be like.
type Change = fn(&mut Host);

fn gone(host: &mut Host, path: &str) {
    host.files.insert(path.into(), FileFact::default());
}

fn unplug(host: &mut Host, interface: &str) {
    host.network.as_mut().unwrap().interfaces.remove(interface);
}

fn file<'h>(host: &'h mut Host, path: &str) -> &'h mut FileFact {
    host.files.get_mut(Path::new(path)).unwrap()
}

fn tap(host: &mut Host) -> &mut Interface {
    host.network.as_mut().unwrap().interfaces.get_mut("tap0").unwrap()
}

fn of_others() -> InterfaceKind {
    InterfaceKind::Tun { flags: TunFlags(0x5002), owner: Some(1001), group: None }
}

fn user_network(host: &mut Host) -> &mut UserNetwork {
    host.user_network.as_mut().unwrap()
}

fn desktop(host: &mut Host) -> &mut Desktop {
    host.desktop.as_mut().unwrap()
}

fn events(host: &mut Host) -> &mut [EventDevice] {
    &mut host.input.as_mut().unwrap().devices
}

fn gpu(host: &mut Host) -> &mut RenderNode {
    &mut host.render_nodes.as_mut().unwrap()[0]
}

fn tcp(host: &mut Host) -> &mut Tcp {
    host.tcp.as_mut().unwrap()
}

fn by_user(host: &mut Host) {
    (host.process.uid, host.process.gid) = (1000, 1000);
}

/// The module kvmfr with so many MiB, and its node, which nobody has a right to by a group.
fn kvmfr(host: &mut Host, mib: u64, mode: Option<u32>) {
    host.kvmfr = Some(Size::bytes(mib << 20));
    let kind = mode.map(|_| FileKind::Character);
    let node = FileFact { kind, mode: mode.unwrap_or_default(), ..FileFact::default() };
    host.files.insert(LookingGlass::KVMFR.into(), node);
}

/// A table that the launcher could not read.
fn table(host: &mut Host, path: &str) {
    host.acpi_tables.insert(path.into(), None);
}

/// As root's alone.
fn closed(host: &mut Host, path: &str) {
    let file = file(host, path);
    (file.uid, file.gid, file.mode) = (0, 0, file.mode & 0o700);
}

fn no_folder(host: &mut Host) {
    host.files.insert("/log".into(), FileFact { no_folder: true, ..FileFact::default() });
}

/// Each part on a host that lacks it: who starts it, the machine's fields, the host, the finding and words of it.
const ABSENT: &[(u32, &str, Change, &str, &str)] = &[
    (0, BRIDGE, |host| unplug(host, "br0"), "net0.bridge", "no network interface br0"),
    (1000, BRIDGE, |host| gone(host, HELPER), "net0.bridge_helper", "QEMU's bridge helper is not installed"),
    (0, MACVTAP, |host| unplug(host, "eth0"), "net0.macvtap", "no network interface eth0"),
    (0, TAP, |host| unplug(host, "tap0"), "net0.tap", "no network interface tap0"),
    (0, NAT, |host| drop(host.programs.remove("dnsmasq")), "net0.nat.dnsmasq", "dnsmasq is not installed"),
    (0, NAT, |host| drop(host.programs.remove("nft")), "net0.nat.nft", "nft is not installed"),
    (1000, "networks: [()]", |host| user_network(host).passt = None, "net0.passt", "passt is not installed"),
    (1000, USB, |host| host.usb = Some(vec![]), "usb.046d:c547.present", "no USB device 046d:c547 is plugged in"),
    (
        1000,
        INPUT,
        |host| host.input = Some(Inputs::default()),
        "input./dev/input/by-id/usb-a-event-kbd.present",
        "usb-a-event-kbd is not there",
    ),
    (0, PULSE, |host| desktop(host).pulse.mode = None, "audio.server", "PulseAudio"),
    (0, PULSE, |host| host.desktop = None, "audio.server", "nobody is at a screen"),
    (1000, "audio: Alsa", |host| gone(host, "/dev/snd/timer"), "audio.nodes", "this host has no sound card"),
    (0, LOOKING_GLASS, |host| host.desktop = None, "looking_glass.memory", "nobody is at a screen"),
    (0, LOOKING_GLASS, |host| kvmfr(host, 0, None), "looking_glass.kvmfr", "it was told no size"),
    (0, LOOKING_GLASS, |host| kvmfr(host, 16, Some(0o666)), "looking_glass.kvmfr", "has 16 MiB of memory"),
    (0, "scream: true", |host| host.desktop = None, "scream.memory", "nobody is at a screen"),
    (0, "smbios: Host", |host| host.smbios = None, "smbios.host", "this host has no SMBIOS tables"),
    (
        0,
        "licence: Host",
        |host| Licence::TABLES.iter().for_each(|path| gone(host, path)),
        "licence.tables",
        "holds no licence",
    ),
    (0, ACPI, |host| gone(host, "/f"), "acpi_tables[0].exists", "/f does not exist"),
    (0, SHARE, |host| gone(host, "/d"), "share.d.folder", "the folder /d does not exist"),
    (0, SHARE, |host| host.virtiofsd = None, "share.d.kind", "cannot be shared by virtiofs"),
    (
        0,
        "tpm: V2",
        |host| drop(host.programs.remove("swtpm")),
        "tpm.swtpm",
        "swtpm, which emulates the TPM, is not installed",
    ),
    (0, TPM, |host| gone(host, "/dev/tpm0"), "tpm.node", "this host has no TPM"),
    (0, "vsock: Auto", |host| gone(host, "/dev/vhost-vsock"), "vsock.node", "the kernel offers no vsock"),
    (0, LUN, |host| gone(host, "/dev/sg1"), "disk0.exists", "/dev/sg1 does not exist"),
    (0, LUN, |host| file(host, "/dev/sg1").scsi = Some(false), "disk0.scsi", "no whole SCSI device"),
    (0, "disks: [(media: Cd, file: \"/f\")]", |host| gone(host, "/f"), "disk0.exists", "/f does not exist"),
    (0, APPLE, |host| gone(host, "/f"), "apple_smc.key_file.exists", "the key /f does not exist"),
    (0, PASSWORD, |host| gone(host, "/f"), "display.password.exists", "/f does not exist"),
    (0, TLS, |host| gone(host, "/f"), "display.tls.cert.exists", "/f does not exist"),
    (0, TLS, |host| file(host, "/f").pem = Some(vec![]), "display.tls.key", "nothing in PEM's form"),
    (0, RENDERED, |host| host.render_nodes = Some(vec![]), "display.render_node", "no GPU of this host renders"),
    (0, "display: Spice(for_user: \"bob\")", |host| host.accounts.clear(), "display.viewer", "no account \"bob\""),
    (
        0,
        ADDRESS,
        |host| tcp(host).addresses = Some([].into()),
        "display.port.address",
        "no network interface of this host has it",
    ),
    (0, LOG, |host| gone(host, "/log"), "second_serial.file", "/log does not exist"),
    (1000, LOG, no_folder, "second_serial.file", "the folder / for the serial port's file does not exist"),
];

/// Each part on a host that has it for others.
const FORBIDDEN: &[(u32, &str, Change, &str, &str)] = &[
    (0, NAT, by_user, "net0.nat", "only root can make a network"),
    (0, MACVTAP, by_user, "net0.macvtap.root", "only root can make a macvtap device"),
    (1000, TAP, |host| tap(host).kind = of_others(), "net0.tap", "tap0 belongs to user 1001"),
    (1000, BRIDGE, |host| file(host, HELPER).mode = 0o755, "net0.bridge_helper", "is not setuid root"),
    (1000, FORWARD, |host| user_network(host).first_port = Some(9000), "net0.forward.low", "8080"),
    (1000, USB, |host| host.usb.as_mut().unwrap()[0].usable = Some(false), "usb.046d:c547.rights", "you may not"),
    (
        1000,
        INPUT,
        |host| events(host)[0].usable = Some(false),
        "input./dev/input/by-id/usb-a-event-kbd.rights",
        "you may not use",
    ),
    (
        0,
        PULSE,
        |host| desktop(host).pulse.answer = Answer::Refuses("access denied".into()),
        "audio.server",
        "access denied",
    ),
    (1000, "audio: Alsa", |host| closed(host, "/dev/snd/timer"), "audio.nodes", "whether you can open /dev/snd/timer"),
    (0, LOOKING_GLASS, |host| kvmfr(host, 128, Some(0o600)), "looking_glass.access", "may not open /dev/kvmfr0"),
    (1000, LOOKING_GLASS, |host| kvmfr(host, 128, Some(0o600)), "looking_glass.access", "you may not open /dev/kvmfr0"),
    (
        1000,
        LOOKING_GLASS,
        |host| host.looking_glass = Some("other".into()),
        "looking_glass.free",
        "the machine other has",
    ),
    (1000, "smbios: Host", |host| host.smbios = None, "smbios.host", "only root may read"),
    (1000, "licence: Host", |host| table(host, Licence::TABLES[0]), "licence.tables", "only root may"),
    (1000, ACPI, |host| table(host, "/f"), "acpi_tables[0].table", "cannot read the ACPI table /f"),
    (1000, SHARE, |host| closed(host, "/d"), "share.d.access", "you cannot read /d"),
    (1000, TPM, |host| closed(host, "/dev/tpm0"), "tpm.node", "you cannot open /dev/tpm0"),
    (1000, "vsock: Auto", |host| closed(host, "/dev/vhost-vsock"), "vsock.node", "you cannot open /dev/vhost-vsock"),
    (1000, LUN, |host| closed(host, "/dev/sg1"), "disk0.access", "/dev/sg1"),
    (1000, APPLE, |host| closed(host, "/f"), "apple_smc.key_file.access", "you may not read the key /f"),
    (
        1000,
        PASSWORD,
        |host| closed(host, "/f"),
        "display.password.access",
        "you may not read the file with the password /f",
    ),
    (1000, TLS, |host| closed(host, "/f"), "display.tls.key.access", "you may not read the file /f"),
    (0, RENDERED, |host| gpu(host).mode = 0o600, "display.render_node", "cannot open /dev/dri/renderD128"),
    (
        1000,
        ADDRESS,
        |host| tcp(host).first_unprivileged = Some(6000),
        "display.port.permitted",
        "may only from 6000 on",
    ),
    (
        1000,
        "display: Gtk",
        |host| host.process.uid = 0,
        "display.desktop",
        "a desktop shows only windows of its own user's programs",
    ),
    (1000, LOG, |host| closed(host, "/log"), "second_serial.access", "/log"),
];

const BRIDGE: &str = "networks: [(backend: Bridge(\"br0\"))]";
const MACVTAP: &str = "networks: [(backend: Macvtap(interface: \"eth0\"))]";
const TAP: &str = "networks: [(backend: Tap(\"tap0\"))]";
const NAT: &str = "networks: [(backend: Nat, subnet: \"10.77.0.0/24\")]";
const FORWARD: &str = "networks: [(forward: [\"8080:80\"])]";
const USB: &str = "usb: [(id: \"046d:c547\", optional: false)]";
const INPUT: &str = "input: [(keyboard: \"/dev/input/by-id/usb-a-event-kbd\", optional: false)]";
const PULSE: &str = "audio: Pulse";
const LOOKING_GLASS: &str = "looking_glass: (size: \"32 MiB\")";
const ACPI: &str = "acpi_tables: [\"/f\"]";
const SHARE: &str = "shares: [(tag: \"d\", folder: \"/d\", kind: Virtiofs)]";
const TPM: &str = "tpm: Passthrough(\"/dev/tpm0\")";
const LUN: &str = "disks: [(media: Lun, file: \"/dev/sg1\")]";
const APPLE: &str = "apple_smc: (key_file: \"/f\")";
const PASSWORD: &str = "display: Spice(password_file: \"/f\")";
const TLS: &str = "display: Vnc(port: 5900, tls: (cert: \"/f\", key: \"/f\"))";
const RENDERED: &str = "display: EglHeadless, video: VirtioGl";
const ADDRESS: &str = "display: Vnc(port: 5900, address: \"10.1.2.3\")";
const LOG: &str = "second_serial: File(\"/log\")";
const HELPER: &str = Backend::BRIDGE_HELPERS[0];

fn holds_for(table: &[(u32, &str, Change, &str, &str)]) {
    let mut qemu = qemu();
    for driver in ["vhost-vsock-pci", "vhost-user-fs-pci"] {
        qemu.devices.insert(driver.to_owned(), Default::default());
    }
    let mut wrong = Vec::new();
    for (us, fields, change, key, words) in table {
        let mut host = desk(*us);
        let before = of(fields, &host, &qemu);
        change(&mut host);
        let after = of(fields, &host, &qemu);
        let said = refused(&after, key);
        let is_told = said.as_ref().is_some_and(|finding| {
            let helps = finding.remedy.is_some() || finding.ok == Verdict::Unknown;
            finding.detail.contains(words) && helps && finding.origin.is_some()
        });
        if !is_told || refused(&before, key) == said {
            let all = after.findings.iter().filter(|finding| finding.ok != Verdict::Yes);
            let all: Vec<String> = all.map(|f| format!("{}: {} > {:?}", f.key, f.detail, f.remedy)).collect();
            wrong.push(format!("{us} {fields}: {key}\n    {}", all.join("\n    ")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_part_that_the_host_lacks_is_told() {
    holds_for(ABSENT);
}

#[test]
fn a_part_that_the_user_may_not_have_is_told() {
    holds_for(FORBIDDEN);
}
