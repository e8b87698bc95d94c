//! From a description of a lab host to the command line of the QEMU that emulates it. Pure: no file is touched.

use std::path::{Path, PathBuf};

use super::host::{Device, Firmware, Gpu, Host, Init};
use super::l0::{AGENT_FD, CONSOLE_FD, QMP_FD};

/// Root ports of every host, in the order of their bus numbers from 1 on. The switch is last, as it takes buses of its
/// own. `spare` ones are for what a test plugs in.
pub const PORTS: [&str; 8] =
    ["port-gpu", "port-second", "port-usb", "port-nvme", "port-nic", "port-spare1", "port-spare2", "port-switch"];

/// UEFI firmware of this machine; Debian package `ovmf`.
pub const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
/// Its variables before the first boot.
pub const OVMF_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// Files of one run.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// The kernel.
    pub kernel: PathBuf,
    /// The first file system.
    pub initramfs: PathBuf,
    /// The root disk (qcow2).
    pub disk: PathBuf,
    /// The payload disk (raw, read-only).
    pub payload: PathBuf,
    /// The ACPI table with frequencies.
    pub table: Option<PathBuf>,
    /// Folder for what this run writes: console, UEFI variables, the USB disk.
    pub folder: PathBuf,
}

/// Where the emulated machine's memory is.
#[derive(Debug, Clone)]
pub enum Memory {
    /// Nowhere in particular.
    Plain,
    /// In the files `ram0`, `ram1` of this folder, written through: a template is being made.
    Shared(PathBuf),
    /// In those files, private: a clone, which waits for the rest of its state.
    Clone(PathBuf),
}

/// Who looks at it.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// Whether the console is a connection instead of a file.
    pub console: bool,
    /// VNC display number on the loopback interface.
    pub vnc: Option<u16>,
}

/// The arguments for `qemu-system-x86_64`.
pub fn arguments(host: &Host, files: &Files, memory: &Memory, watch: &Watch) -> Vec<String> {
    let mut args = Arguments::default();
    args.add("-nodefaults", "");
    args.add("-name", "vfio-run-lab");
    match watch.vnc {
        Some(display) => args.add("-display", &format!("vnc=127.0.0.1:{display}")),
        None => args.add("-display", "none"),
    }
    // Hardware virtualisation is never used: what KVM there is may not work, and the lab must be the same everywhere.
    args.add("-accel", "tcg,thread=multi");
    // Of the models with nested SVM, the first with nested paging. Without SMAP, which ends a block of emulated code at each
    // of the kernel's looks into a program's memory.
    args.add("-cpu", "EPYC-v1,+svm,-smap");
    let cpus = host.cpus;
    let (sockets, cores, threads) = (cpus.sockets, cpus.cores, cpus.threads);
    args.add("-smp", &format!("{},sockets={sockets},cores={cores},threads={threads}", cpus.count()));
    memory_arguments(&mut args, host, memory);
    // intel-iommu, not amd-iommu: with that the host's own devices lose their DMA after a handover.
    args.device("intel-iommu,intremap=on,caching-mode=on,device-iotlb=on");
    args.add("-rtc", "base=utc");
    // A reboot that nobody asked for must not look like a slow host: it ends this QEMU, and `Lab::restart` starts another.
    args.add("-no-reboot", "");
    connections(&mut args, files, watch);
    boot(&mut args, host, files);
    disks(&mut args, files);
    ports(&mut args, host);
    for gpu in &host.gpus {
        add_gpu(&mut args, *gpu);
    }
    for device in &host.devices {
        // A clone's are plugged in when it runs.
        if !matches!(memory, Memory::Clone(_)) || !device.is_left_out() {
            add_device(&mut args, *device, files);
        }
    }
    args.add("-vga", "none");
    if matches!(memory, Memory::Clone(_)) {
        args.add("-incoming", "defer");
    }
    args.0
}

#[derive(Default)]
struct Arguments(Vec<String>);

impl Arguments {
    fn add(&mut self, option: &str, value: &str) {
        self.0.push(option.to_owned());
        if !value.is_empty() {
            self.0.push(value.to_owned());
        }
    }

    fn device(&mut self, value: &str) {
        self.add("-device", value);
    }
}

/// A path inside a list of `key=value`, where a comma is written twice.
fn quoted(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

fn memory_arguments(args: &mut Arguments, host: &Host, memory: &Memory) {
    let nodes = host.cpus.nodes;
    let size = host.memory / nodes;
    for node in 0..nodes {
        let backend = match memory {
            Memory::Plain => format!("memory-backend-ram,id=ram{node},size={size}M"),
            Memory::Shared(folder) | Memory::Clone(folder) => {
                let share = if matches!(memory, Memory::Shared(_)) { "on" } else { "off" };
                let file = quoted(&folder.join(format!("ram{node}")));
                format!("memory-backend-file,id=ram{node},size={size}M,mem-path={file},share={share}")
            }
        };
        args.add("-object", &backend);
    }
    args.add("-m", &format!("{}M", size * nodes));
    // Without the chipset's own disk and SMBus controllers, which cost seconds of each boot.
    let mut machine = "q35,kernel-irqchip=split,sata=off,smbus=off".to_owned();
    if host.steady_clock {
        // An emulated PIT is read too slowly: the kernel would take the counter for one of 300 MHz. Without it there is the HPET.
        machine += ",pit=off";
    }
    if nodes == 1 {
        args.add("-M", &format!("{machine},memory-backend=ram0"));
        return;
    }
    args.add("-M", &machine);
    let each = host.cpus.count() / nodes;
    for node in 0..nodes {
        let (first, last) = (node * each, node * each + each - 1);
        args.add("-numa", &format!("node,nodeid={node},memdev=ram{node},cpus={first}-{last}"));
    }
    for (from, to) in (0..nodes).flat_map(|from| (from + 1..nodes).map(move |to| (from, to))) {
        args.add("-numa", &format!("dist,src={from},dst={to},val=20"));
    }
}

fn connections(args: &mut Arguments, files: &Files, watch: &Watch) {
    args.add("-chardev", &format!("socket,id=qmp,fd={QMP_FD}"));
    args.add("-mon", "chardev=qmp,mode=control");
    if watch.console {
        args.add("-chardev", &format!("socket,id=console,fd={CONSOLE_FD}"));
    } else {
        args.add("-chardev", &format!("file,id=console,path={}", quoted(&files.folder.join("console.log"))));
    }
    args.add("-serial", "chardev:console");
    args.add("-chardev", &format!("socket,id=agent,fd={AGENT_FD}"));
    args.add("-serial", "chardev:agent");
}

fn boot(args: &mut Arguments, host: &Host, files: &Files) {
    if host.firmware == Firmware::Ovmf {
        args.add("-drive", &format!("if=pflash,unit=0,format=raw,readonly=on,file={OVMF_CODE}"));
        args.add("-drive", &format!("if=pflash,unit=1,format=raw,file={}", quoted(&files.folder.join("uefi-vars"))));
    }
    if let Some(table) = &files.table {
        args.add("-acpitable", &format!("file={}", quoted(table)));
    }
    args.add("-kernel", &files.kernel.display().to_string());
    args.add("-initrd", &files.initramfs.display().to_string());
    // Without no_timer_check, a moment in which this machine does other work makes the kernel panic at boot: "timer doesn't
    // work through Interrupt-remapped IO-APIC".
    let mut words = vec!["console=tty0", "console=ttyS0", "intel_iommu=on", "no_timer_check", "panic=-1", "quiet"];
    // There is nothing to mitigate, and a return by way of a thunk costs an emulator more than a processor.
    words.push("mitigations=off");
    // Debian's kernels write zeroes to all memory that they allocate, and attach a program to each look of a file system.
    words.extend(["init_on_alloc=0", "lsm=landlock,lockdown,yama"]);
    match host.init {
        Init::Systemd => words.push("lab.init=/sbin/init"),
        Init::Plain => words.push("lab.init=/usr/local/lib/lab/plain-init"),
    }
    if host.compositor {
        words.push("lab.enable=weston");
    }
    if host.steady_clock {
        words.push("tsc=reliable");
    }
    words.extend(host.kernel.iter().map(String::as_str));
    args.add("-append", &words.join(" "));
}

fn disks(args: &mut Arguments, files: &Files) {
    // cache=unsafe: a flush need not reach this machine's disk, as only L0's power is ever cut.
    args.add("-drive", &format!("if=none,id=root,format=qcow2,cache=unsafe,file={}", quoted(&files.disk)));
    args.device("virtio-blk-pci,drive=root,serial=root,addr=0x2");
    args.add("-drive", &format!("if=none,id=payload,format=raw,readonly=on,file={}", quoted(&files.payload)));
    args.device("virtio-blk-pci,drive=payload,serial=payload,addr=0x3");
}

fn ports(args: &mut Arguments, host: &Host) {
    for (n, port) in PORTS.iter().enumerate() {
        args.device(&format!("pcie-root-port,id={port},chassis={0},slot={0},addr={1:#x}", n + 1, n + 0x10));
    }
    if host.cpus.nodes > 1 {
        args.device("pxb-pcie,id=far,bus_nr=32,numa_node=1,bus=pcie.0,addr=0x4");
        args.device("pcie-root-port,id=port-far,bus=far,chassis=32,slot=32");
        args.device("e1000e,bus=port-far");
    }
}

fn add_gpu(args: &mut Arguments, gpu: Gpu) {
    match gpu {
        Gpu::Only | Gpu::Primary => {
            args.device("VGA,id=gpu,bus=port-gpu,addr=0.0,multifunction=on");
            args.add("-audiodev", "none,id=silence");
            args.device("intel-hda,id=sound,bus=port-gpu,addr=0.1");
            args.device("hda-duplex,audiodev=silence,bus=sound.0");
        }
        Gpu::Second => {
            args.device("secondary-vga,id=second,bus=port-second,addr=0.0,multifunction=on");
            args.add("-audiodev", "none,id=second-silence");
            args.device("intel-hda,id=second-sound,bus=port-second,addr=0.1");
            args.device("hda-duplex,audiodev=second-silence,bus=second-sound.0");
        }
        // The IOMMU must see its DMA, and a legacy virtio device bypasses it.
        Gpu::Virtio => args.device("virtio-vga,id=gpu,bus=port-gpu,iommu_platform=on,disable-legacy=on"),
    }
}

fn add_device(args: &mut Arguments, device: Device, files: &Files) {
    match device {
        Device::Usb { keyboard, mouse, disk } => {
            args.device("qemu-xhci,id=usb,bus=port-usb");
            if keyboard {
                args.device("usb-kbd,id=keyboard,bus=usb.0,port=1");
            }
            if mouse {
                args.device("usb-mouse,id=mouse,bus=usb.0,port=2");
            }
            if disk {
                args.add(
                    "-drive",
                    &format!("if=none,id=stick,format=raw,file={}", quoted(&files.folder.join("usb.img"))),
                );
                args.device("usb-storage,bus=usb.0,port=3,drive=stick,serial=LABSTICK");
            }
        }
        Device::Nvme => {
            let file = quoted(&files.folder.join("nvme.img"));
            args.add("-drive", &format!("if=none,id=nvme0,format=raw,file={file}"));
            args.device("nvme,id=nvme,bus=port-nvme,drive=nvme0,serial=LABNVME");
        }
        Device::Nic => args.device("e1000e,id=nic,bus=port-nic"),
        Device::SrIov => {
            args.device("nvme-subsys,id=shared");
            args.device("nvme,id=sriov,bus=port-nic,subsys=shared,serial=LABSRIOV,max_ioqpairs=6,msix_qsize=7,sriov_max_vfs=2,sriov_vq_flexible=4,sriov_vi_flexible=4");
        }
        Device::Switch => {
            args.device("x3130-upstream,id=up,bus=port-switch");
            for n in 1..=2 {
                args.device(&format!("xio3130-downstream,id=down{n},bus=up,chassis={0},slot={0},addr={n:#x}", 40 + n));
                args.device(&format!("e1000e,bus=down{n}"));
            }
        }
        Device::NoReset => args.device("edu,id=edu,addr=0x5"),
    }
}
