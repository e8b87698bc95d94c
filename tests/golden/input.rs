//! The inputs of golden plans: machine files, captured hosts, recorded QEMUs.

use std::path::{Path, PathBuf};

use vfio_run::host::desktop::Answer;
use vfio_run::host::input::{EventDevice, Inputs as Events};
use vfio_run::host::pci::{Image, Rom};
use vfio_run::host::usb::Plugged;
use vfio_run::host::{
    AcpiTable, Attribute, FileFact, FileKind, Host, Interface, InterfaceKind, Irq, Network, Passt, RenderNode, Route,
    SessionBus, TpmState, TunFlags, Tuning, UserNetwork, Virtiofsd, WantedTuning,
};
use vfio_run::machine::{self, Audio, Machine, Source};
use vfio_run::plan::{self, Plan};
use vfio_run::qemu::QemuFacts;
use vfio_run::units::{CpuSet, DiskFormat};

/// The repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// What a recorded QEMU can do.
pub fn qemu(name: &str) -> QemuFacts {
    json(&root().join(format!("tests/qemu/{name}.json")))
}

/// A machine file, read as if it lay in `/machines`, so that a plan does not depend on where the tests run.
fn source(name: &str) -> Source {
    let file = format!("{name}.ron");
    let folder = if root().join("machines").join(&file).exists() { "machines" } else { "tests/machines" };
    let text = std::fs::read_to_string(root().join(folder).join(&file)).unwrap();
    let base = |path: &Path| machine::text(&root().join("machines").join(path.file_name().unwrap()));
    machine::parse_with(&Path::new("/machines").join(&file), &text, &base)
        .unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A captured host.
pub fn host(name: &str) -> Host {
    json(&root().join(format!("tests/hosts/{name}.json")))
}

/// A file that a machine names, as its name tells.
fn file(path: &Path) -> FileFact {
    let name = path.to_string_lossy();
    let kind = match &*name {
        _ if name.contains("missing") || name.starts_with("/dev/shm/") => None,
        _ if name.contains("folder") || name.contains("shared") || name == "/usr/share" => Some(FileKind::Folder),
        _ if name.starts_with("/dev/sg") => Some(FileKind::Character),
        _ if name.starts_with("/dev/tpm") => Some(FileKind::Character),
        _ if name.starts_with("/dev/") => Some(FileKind::Block),
        _ => Some(FileKind::File),
    };
    let qcow2 = name.ends_with(".qcow2");
    FileFact {
        kind,
        uid: if name.contains("shared") { 1000 } else { 0 },
        gid: if name.contains("shared") { 1000 } else { 0 },
        mode: match &*name {
            _ if name.contains("secret") => 0o600,
            _ if name.contains("/bin/") || kind == Some(FileKind::Folder) => 0o755,
            _ => 0o644,
        },
        size: if name.ends_with("/osk") { 64 } else { 1 << 30 },
        format: Some(if qcow2 { DiskFormat::Qcow2 } else { DiskFormat::Raw }),
        direct_io: Some(!name.contains("scratch")),
        mounted: if name.contains("mounted") { vec!["/home".to_owned()] } else { vec![] },
        scsi: matches!(kind, Some(FileKind::Block | FileKind::Character)).then_some(true),
        pem: Some(vec![if name.contains("key") { "PRIVATE KEY" } else { "CERTIFICATE" }.to_owned()])
            .filter(|_| name.ends_with(".pem")),
        near: kind.is_none().then(|| path.with_file_name("present.qcow2")),
        ..FileFact::default()
    }
}

/// The virtiofsd of Debian 13.
fn virtiofsd() -> Virtiofsd {
    let options = ["fd", "modcaps", "readonly", "sandbox", "shared-dir", "translate-gid", "translate-uid"];
    Virtiofsd {
        program: "/usr/libexec/virtiofsd".into(),
        options: options.map(|option| format!("--{option}")).into(),
        user_namespaces: Some(true),
    }
}

/// A ROM that a machine names: for the card whose vendor and device its name ends with, with an image for UEFI.
fn rom(path: &Path) -> Option<Rom> {
    let name = path.file_stem()?.to_str()?;
    let (rest, device) = name.rsplit_once('-')?;
    let (_, vendor) = rest.rsplit_once('-')?;
    let ids = format!("{vendor}:{device}").parse().ok()?;
    Some(Rom { length: 64 << 10, offset: Some(0), images: vec![Image { ids, code_type: 3 }], ..Rom::default() })
}

/// What a host with these CPUs says of what a machine tunes, with a cpufreq policy for two of the CPUs.
fn tuning(wanted: &WantedTuning, online: &CpuSet) -> Tuning {
    let policies: CpuSet = online.iter().take(1).chain(online.iter().next_back()).collect();
    let paths = wanted.files.iter().flat_map(|file| match file.contains(WantedTuning::EACH_CPU) {
        true => online.iter().map(|n| file.replace(WantedTuning::EACH_CPU, &n.to_string())).collect::<Vec<_>>(),
        false => policies.iter().map(|n| file.replace("{n}", &n.to_string())).collect(),
    });
    let files = paths.filter_map(|path| {
        let text = match path.rsplit('/').next().unwrap() {
            "scaling_governor" => "powersave".to_owned(),
            "scaling_available_governors" => "performance powersave".to_owned(),
            "scaling_min_freq" => "800000".to_owned(),
            "scaling_max_freq" => "4200000".to_owned(),
            "energy_performance_preference" => "balance_performance".to_owned(),
            "energy_performance_available_preferences" => "performance balance_performance power".to_owned(),
            "defrag" => "always defer defer+madvise [madvise] never".to_owned(),
            "halt_poll_ns" => "200000".to_owned(),
            "ignore_msrs" => "N".to_owned(),
            "report_ignored_msrs" => "Y".to_owned(),
            "watchdog_cpumask" => online.to_string(),
            "cpumask" | "cpumask_requested" | "default_smp_affinity" => online.mask(),
            // As on a host whose CPUs do not notice split locks.
            "split_lock_mitigate" => return None,
            _ => "1".to_owned(),
        };
        Some((path.into(), Attribute { text, read_only: false }))
    });
    let irq = |number, actions: &str| {
        let device = (actions == "nvidia").then(|| "0000:01:00.0".parse().unwrap());
        Irq { number, cpus: online.clone(), actions: Some(actions.to_owned()), device }
    };
    let irqs = [irq(0, "timer"), irq(16, ""), irq(40, "nvidia"), irq(41, "xhci_hcd")];
    Tuning {
        files: files.collect(),
        policies,
        irqs: if wanted.irqs { irqs.to_vec() } else { vec![] },
        irqbalance: true,
        irqbalance_unit: Some("irqbalance.service".to_owned()),
    }
}

/// The interfaces of a host: a card on a bridge, and a tap device.
fn network() -> Network {
    let tun = InterfaceKind::Tun { flags: TunFlags(0x5002), owner: Some(1000), group: None };
    let kinds = [
        ("br0", InterfaceKind::Bridge),
        ("eth0", InterfaceKind::Ethernet),
        ("eth1", InterfaceKind::Ethernet),
        ("tap0", tun),
    ];
    let interfaces = kinds.into_iter().zip(2..).map(|((name, kind), index)| {
        let address = Some(format!("00:00:5e:00:53:{index:02x}"));
        let master = ["eth0", "tap0"].contains(&name).then(|| "br0".to_owned());
        (name.to_owned(), Interface { index, kind, up: true, address, mtu: Some(1500), master })
    });
    let route =
        |subnet: &str, interface: &str| Route { subnet: subnet.parse().unwrap(), interface: interface.to_owned() };
    Network {
        interfaces: interfaces.collect(),
        routes: vec![route("0.0.0.0/0", "br0"), route("192.168.1.0/24", "br0")],
    }
}

/// An ACPI table that a machine names, as its name tells.
fn acpi_table(path: &Path) -> AcpiTable {
    let name = path.file_stem().unwrap().to_string_lossy();
    let signature = if name.len() == 4 { name.to_uppercase() } else { "SSDT".to_owned() };
    AcpiTable { signature: Some(signature), length: 85, size: if name == "cut" { 84 } else { 85 }, sums_up: true }
}

/// What is plugged into a desk: a hub with a receiver (keyboard and mouse), a game pad, a stick that is mounted.
fn plugged() -> Vec<Plugged> {
    let device = |port: &str, number, ids: &str, name: &str| Plugged {
        port: port.parse().unwrap(),
        bus: 3,
        number,
        ids: ids.parse().unwrap(),
        name: name.to_owned(),
        hub: name.contains("Hub"),
        configured: true,
        keyboard: name.contains("Receiver"),
        controller: "00:14.0".parse().ok(),
        usable: Some(!name.contains("Gamepad")),
        mounted: if name.contains("DataTraveler") { vec!["/media/stick".to_owned()] } else { vec![] },
        lease: None,
    };
    vec![
        device("3-1", 2, "046d:c21d", "Logitech Gamepad F310"),
        device("3-2", 3, "05e3:0610", "GenesysLogic USB2.1 Hub"),
        device("3-2.1", 4, "046d:c547", "Logitech USB Receiver"),
        device("3-3", 5, "0951:1666", "Kingston DataTraveler 3.0"),
    ]
}

/// The event devices of that desk.
fn events(paths: &[PathBuf]) -> Events {
    let device = |number: u32, link: &str| EventDevice {
        event: format!("event{number}"),
        input: format!("input{}", number + 4),
        name: "Logitech USB Receiver".to_owned(),
        links: vec![Path::new("/dev/input/by-id").join(link)],
        keyboard: link.ends_with("kbd"),
        mouse: link.ends_with("mouse"),
        seat: "seat0".to_owned(),
        usb: "3-2.1".parse().ok(),
        usable: Some(true),
    };
    let mut devices = vec![device(3, "usb-Logitech_Receiver-event-kbd"), device(4, "usb-Logitech_M90-event-mouse")];
    let is_here = |path: &&PathBuf| !path.to_string_lossy().contains("missing");
    let named = paths.iter().filter(is_here).filter_map(|path| path.strip_prefix("/dev/input/by-id").ok()?.to_str());
    for (link, number) in named.zip(5..) {
        if !devices.iter().any(|known| known.links[0].ends_with(link)) {
            devices.push(EventDevice { name: link.to_owned(), usb: None, ..device(number, link) });
        }
    }
    let named = paths.iter().filter_map(|path| {
        let found = devices.iter().find(|device| device.links.contains(path))?;
        Some((path.clone(), found.event.clone()))
    });
    Events { named: named.collect(), devices }
}

/// Whether ports of the host lead to the guest.
fn has_forward(machine: &Machine) -> bool {
    machine.networks.iter().flatten().any(|network| !network.forward.is_empty())
}

/// A host with passt and systemd's resolver.
fn user_network() -> UserNetwork {
    let options = ["--fd", "--no-map-gw", "--dns-host"].map(str::to_owned).into();
    UserNetwork {
        passt: Some(Passt { path: "/usr/bin/passt".into(), options, user_namespaces: Some(true) }),
        name_servers: vec!["127.0.0.53".parse().unwrap()],
        default_route: Some(true),
        first_port: Some(1024),
        listening: vec![],
        of_itself: false,
    }
}

/// All that a plan is made from.
pub struct Inputs {
    source: Source,
    host: Host,
    qemu: QemuFacts,
}

impl Inputs {
    /// Reads them.
    pub fn new(machine: &str, host_name: &str, qemu_name: &str) -> Self {
        Self::of(machine, host(host_name), qemu(qemu_name))
    }

    /// The machine on this host, which gets the files that the machine names.
    pub fn of(machine: &str, host: Host, qemu: QemuFacts) -> Self {
        Self::from(source(machine), host, qemu)
    }

    /// The same for a machine that was read already.
    pub fn from(source: Source, mut host: Host, mut qemu: QemuFacts) -> Self {
        // A package of its own has QEMU's part for PulseAudio; the QEMUs were recorded without.
        if matches!(source.machine.audio, Audio::Pulse(_)) {
            qemu.audiodevs.insert("pa".to_owned());
        }
        let wanted = plan::wanted(&source.machine);
        host.files = wanted.files.into_iter().map(|path| (path.clone(), file(&path))).collect();
        let gpu = || RenderNode { path: "/dev/dri/renderD128".into(), address: None, uid: 0, gid: 106, mode: 0o660 };
        host.render_nodes = wanted.render_nodes.then(|| vec![gpu()]);
        host.session_bus = wanted
            .session_bus
            .map(|_| SessionBus { address: "unix:path=/run/user/1000/bus".to_owned(), answer: Answer::Accepts });
        host.virtiofsd = wanted.virtiofsd.then(virtiofsd);
        host.user_network = has_forward(&source.machine).then(user_network);
        host.tuning = wanted.tuning.map(|wanted| tuning(&wanted, &host.cpus.online));
        host.network = wanted.network.then(network);
        // Root alone may read what the kernel shows of the host's.
        let readable = |path: &Path| host.process.uid == 0 || !path.starts_with("/sys/firmware");
        let tables = wanted.acpi_tables.into_iter();
        host.acpi_tables = tables.map(|path| (path.clone(), readable(&path).then(|| acpi_table(&path)))).collect();
        host.smbios = (wanted.smbios && host.process.uid == 0).then(|| [0, 1, 2, 3, 4, 11, 17].into());
        host.tpm_state = wanted.tpm_state.map(|_| TpmState::Usable);
        host.usb = wanted.desk.as_ref().map(|_| plugged());
        host.input = wanted.desk.as_deref().map(events);
        for program in wanted.programs.iter().filter(|program| ["dnsmasq", "nft"].contains(&program.as_str())) {
            host.programs.insert(program.clone(), format!("/usr/sbin/{program}").into());
        }
        if let (Some(pci), Some(wanted)) = (&mut host.pci, wanted.pci) {
            pci.roms = wanted.roms.into_iter().map(|path| (path.clone(), rom(&path))).collect();
        }
        Self { source, host, qemu }
    }

    /// The plan.
    pub fn plan(&self) -> Plan {
        plan::plan(&self.source.machine, &|field| self.source.lines.line(field), &self.host, &self.qemu)
    }
}
