//! Small hosts, QEMUs and machines for unit tests.

use std::collections::BTreeMap;
use std::path::Path;

use crate::host::input::EventDevice;
use crate::host::usb::Plugged;
use crate::host::{Cache, CacheKind, CoreKind, Cpu, Cpus, Host, Kvm, Memory, Node, Process};
use crate::machine::Machine;
use crate::qemu::QemuFacts;
use crate::units::{CpuSet, Size};

/// How a host's CPUs are numbered and grouped.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Cores in all.
    pub cores: u32,
    /// Threads of a core; the second threads are numbered after all first ones, as on most PCs.
    pub threads: u32,
    /// Cores that share an L3.
    pub cores_per_l3: u32,
    /// Cores of a NUMA node.
    pub cores_per_node: u32,
    /// Efficiency cores after these, one thread each, in the last L3.
    pub efficient: u32,
}

impl Shape {
    /// Cores with so many threads each, in one L3 and one node.
    pub fn simple(cores: u32, threads: u32) -> Self {
        Self { cores, threads, cores_per_l3: cores, cores_per_node: cores, efficient: 0 }
    }
}

/// CPUs of this shape.
pub fn cpus(shape: Shape) -> Cpus {
    let Shape { cores, threads, cores_per_l3, cores_per_node, efficient } = shape;
    let mut list = Vec::new();
    for thread in 0..threads {
        for core in 0..cores {
            list.push(Cpu {
                id: thread * cores + core,
                package: 0,
                die: 0,
                core,
                node: Some(core / cores_per_node),
                siblings: (0..threads).map(|t| t * cores + core).collect(),
                kind: if efficient > 0 { CoreKind::Performance } else { CoreKind::Uniform },
                capacity: None,
            });
        }
    }
    for e in 0..efficient {
        let id = cores * threads + e;
        let (core, node) = (cores + e, Some((cores - 1) / cores_per_node));
        let siblings = CpuSet::from_iter([id]);
        list.push(Cpu { id, package: 0, die: 0, core, node, siblings, kind: CoreKind::Efficiency, capacity: None });
    }
    let domain = |core: u32| (core.min(cores - 1)) / cores_per_l3;
    let caches = (0..cores.div_ceil(cores_per_l3)).map(|d| Cache {
        level: 3,
        kind: CacheKind::Unified,
        size: Some(Size::bytes(32 << 20)),
        cpus: list.iter().filter(|cpu| domain(cpu.core) == d).map(|cpu| cpu.id).collect(),
    });
    let caches = caches.collect();
    let online: CpuSet = list.iter().map(|cpu| cpu.id).collect();
    let flags = ["constant_tsc", "nonstop_tsc"].map(str::to_owned).to_vec();
    Cpus {
        allowed: online.clone(),
        online,
        isolated: CpuSet::new(),
        vendor: Some("AuthenticAMD".to_owned()),
        family: None,
        model_number: None,
        model: None,
        flags,
        list,
        caches,
    }
}

/// A host with these CPUs, 64 GiB of memory, working KVM, started by a user.
pub fn host(shape: Shape) -> Host {
    let cpus = cpus(shape);
    let ids: std::collections::BTreeSet<u32> = cpus.list.iter().filter_map(|cpu| cpu.node).collect();
    let nodes = ids.iter().map(|id| Node {
        id: *id,
        cpus: cpus.list.iter().filter(|cpu| cpu.node == Some(*id)).map(|cpu| cpu.id).collect(),
        total: Some(Size::bytes((64 << 30) / ids.len() as u64)),
        free: Some(Size::bytes((48 << 30) / ids.len() as u64)),
        distances: vec![],
        huge_pages: vec![],
    });
    let memory = Memory {
        total: Some(Size::bytes(64 << 30)),
        available: Some(Size::bytes(48 << 30)),
        nodes: nodes.collect(),
        allowed: None,
        huge_shared: None,
    };
    Host {
        kernel: "6.12.9".to_owned(),
        boot: None,
        aio: None,
        rt_runtime: None,
        cmdline: vec![],
        cpus,
        memory,
        kvm: Kvm { exists: true, api_version: Some(12), virtualization: Some(true), ..Kvm::default() },
        firmware: vec![],
        process: Process {
            uid: 1000,
            gid: 1000,
            cgroup: None,
            unit: None,
            session: None,
            became: None,
            dynamic_uids: vec![],
            systemd: true,
            memlock: None,
            rtprio: None,
            run_dir: "/run/user/1000/vfio-run".into(),
            state_dir: "/home/me/.local/state/vfio-run".into(),
            log_dir: "/home/me/.local/state/vfio-run/log".into(),
            cache_dir: Some("/home/me/.cache/vfio-run".into()),
            untrusted: None,
        },
        programs: BTreeMap::new(),
        files: BTreeMap::new(),
        accounts: BTreeMap::new(),
        logind: None,
        pci: None,
        render_nodes: None,
        session_bus: None,
        virtiofsd: None,
        usb: None,
        input: None,
        user_network: None,
        tuning: None,
        cpusets: None,
        groups: BTreeMap::new(),
        network: None,
        tcp: None,
        acpi_tables: BTreeMap::new(),
        tpm_state: None,
        own_tpm_state: None,
        smbios: None,
        refuses_io_uring: false,
        kvmfr: None,
        looking_glass: None,
        desktop: None,
        machines: BTreeMap::new(),
        installed_unit: None,
        swtpm_profile: None,
        machine_file: None,
    }
}

/// A QEMU that has what plans use.
pub fn qemu() -> QemuFacts {
    let set = |words: &str| words.split_whitespace().map(str::to_owned).collect();
    let devices = "pcie-root-port virtio-blk-pci virtio-scsi-pci scsi-hd scsi-cd scsi-block scsi-generic virtio-balloon-pci ide-hd ide-cd nvme virtio-net-pci e1000e e1000 rtl8139 vmxnet3 \
                   VGA virtio-vga virtio-vga-gl qxl-vga cirrus-vga qemu-xhci usb-redir usb-tablet isa-serial virtio-rng-pci virtio-serial-pci virtserialport \
                   tpm-crb tpm-tis i6300esb pvpanic isa-applesmc ich9-intel-hda hda-output hda-duplex usb-audio AC97 usb-host virtio-keyboard-pci virtio-mouse-pci \
                   ivshmem-plain";
    let options = [
        ("sandbox", "enable obsolete elevateprivileges spawn resourcecontrol"),
        ("rtc", "base clock driftfix"),
        ("overcommit", "cpu-pm mem-lock"),
    ];
    QemuFacts {
        binary: "/usr/bin/qemu-system-x86_64".into(),
        version: "7.2.22".to_owned(),
        machines: set("q35 pc pc-q35-7.2 microvm"),
        most_vcpus: BTreeMap::new(),
        q35_properties: set("hpet smm vmport"),
        object_properties: BTreeMap::new(),
        devices: devices.split_whitespace().map(|name| (name.to_owned(), Default::default())).collect(),
        objects: set(
            "memory-backend-ram memory-backend-file memory-backend-memfd iothread rng-builtin input-linux secret tls-creds-x509",
        ),
        netdevs: set("user tap bridge stream socket"),
        audiodevs: set("none pa alsa spice"),
        displays: set("none gtk egl-headless"),
        chardevs: set("socket file spicevmc qemu-vdagent"),
        blockdevs: set("file host_device raw qcow2"),
        aio: set("threads native io_uring"),
        spice: true,
        vnc: true,
        cpu_models: set("host max EPYC Skylake-Client"),
        cpu_properties: set(
            "host-phys-bits phys-bits migratable invtsc topoext host-cache-info kvm svm hv-relaxed hv-vapic hv-time \
             hv-spinlocks hv-vendor-id hv-xmm-input hv-avic hv-no-nonarch-coresharing hv-evmcs hv-passthrough",
        ),
        options: options.into_iter().map(|(name, words)| (name.to_owned(), set(words))).collect(),
        kvm_present: true,
        kvm_error: None,
    }
}

/// A machine from its text, `name` and all.
pub fn machine(text: &str) -> Machine {
    let options = ron::Options::default().with_default_extension(
        ron::extensions::Extensions::IMPLICIT_SOME | ron::extensions::Extensions::UNWRAP_VARIANT_NEWTYPES,
    );
    let mut machine: Machine = options.from_str(text).unwrap();
    if machine.name.is_empty() {
        machine.name = "test".to_owned();
    }
    machine
}

/// The plan of a machine's text.
pub fn plan(text: &str, host: &Host) -> super::Plan {
    super::plan(&machine(text), &|_| None, host, &qemu())
}

/// A USB device in a port.
pub fn plugged(port: &str, ids: &str) -> Plugged {
    let number = port.bytes().last().unwrap() - b'0';
    Plugged {
        port: port.parse().unwrap(),
        bus: 1,
        number,
        ids: ids.parse().unwrap(),
        name: format!("Device {number}"),
        hub: false,
        configured: true,
        keyboard: false,
        controller: "00:14.0".parse().ok(),
        usable: None,
        mounted: vec![],
        lease: None,
    }
}

/// A keyboard or mouse, `event3`, with udev's link below by-id.
pub fn event_device(event: &str, link: &str, keyboard: bool) -> EventDevice {
    EventDevice {
        event: event.to_owned(),
        input: event.replace("event", "input"),
        name: format!("Device of {event}"),
        links: [Path::new("/dev/input/by-id").join(link)].into_iter().filter(|_| !link.is_empty()).collect(),
        keyboard,
        mouse: !keyboard,
        seat: "seat0".to_owned(),
        usb: None,
        usable: None,
    }
}
