//! What a desktop has beside CPUs and memory: PCI functions with their drivers, consoles, the firmware's screen, and a
//! display manager, as files below a fake root.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// A board with its cards.
#[derive(Default)]
pub struct Board {
    /// Physical address bits of the CPU.
    pub address_bits: u32,
    pub functions: Vec<Function>,
    /// Linux 6.7 or later, which makes a cpuset partition below a group that is none.
    pub has_exclusive_cpus: bool,
    /// The display manager's unit and its program, which holds the cards in `screens` open.
    pub desktop: (&'static str, &'static str),
}

/// A PCI function.
#[derive(Clone, Copy, Default)]
pub struct Function {
    /// Its address behind those of the ports above it: `00:01.0/01:00.0`.
    pub path: &'static str,
    /// Vendor and device.
    pub ids: &'static str,
    /// Class in the kernel's hexadecimal: `30000`.
    pub class: &'static str,
    /// Empty: it has none.
    pub driver: &'static str,
    pub group: u32,
    /// Memory ranges: number, first address, size.
    pub bars: &'static [(usize, u64, u64)],
    /// What the kernel can reset it with.
    pub reset: &'static str,
    /// The number of its node below /dev/dri, /dev/snd or /dev/nvme.
    pub node: Option<u32>,
    /// The desktop is shown on it.
    pub shows: bool,
}

/// The module of a driver, if that has another name.
fn module(driver: &str) -> &str {
    match driver {
        "xhci_hcd" => "xhci_pci",
        "nvidia-gpu" => "i2c_nvidia_gpu",
        "pcieport" => "pcieportdrv",
        other => other,
    }
}

/// Writes files and links below the root.
struct Tree<'a>(&'a Path);

impl Tree<'_> {
    fn put(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A link to another place below the root, which leads there wherever the root is.
    fn link(&self, target: &str, path: &str) {
        let depth = path.matches('/').count();
        self.name(&format!("{}{target}", "../".repeat(depth)), path);
    }

    /// A link with these very words.
    fn name(&self, target: &str, path: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    fn function(&self, function: &Function) {
        let Function { ids, class, driver, group, .. } = *function;
        let address = format!("0000:{}", function.path.rsplit('/').next().unwrap());
        let path: Vec<String> = function.path.split('/').map(|part| format!("0000:{part}")).collect();
        let below = format!("devices/pci0000:00/{}", path.join("/"));
        let folder = format!("sys/{below}");
        let named = if driver.is_empty() { String::new() } else { format!("DRIVER={driver}\n") };
        self.put(
            &format!("{folder}/uevent"),
            format!("{named}PCI_CLASS={class}\nPCI_ID={ids}\nPCI_SUBSYS_ID=1458:1234\nPCI_SLOT_NAME={address}\n"),
        );
        let mut config = [0; 64];
        let number = |hex: &str| u16::from_str_radix(hex, 16).unwrap().to_le_bytes();
        let (vendor, device) = ids.split_once(':').unwrap();
        config[..2].copy_from_slice(&number(vendor));
        config[2..4].copy_from_slice(&number(device));
        config[14] = u8::from(driver == "pcieport");
        self.put(&format!("{folder}/config"), config);
        if !function.reset.is_empty() {
            self.put(&format!("{folder}/reset_method"), format!("{}\n", function.reset));
        }
        let mut lines = vec!["0x0000000000000000 0x0000000000000000 0x0000000000000000".to_owned(); 7];
        for (n, start, size) in function.bars {
            // Memory; large ranges have 64 bits and are prefetchable (`include/linux/ioport.h`).
            let flags = if *size > 16 << 20 { 0x14_220c } else { 0x4_0200 };
            lines[*n] = format!("{start:#018x} {:#018x} {flags:#018x}", start + size - 1);
        }
        self.put(&format!("{folder}/resource"), lines.join("\n") + "\n");
        self.put(&format!("{folder}/power_state"), "D0\n");
        self.put(&format!("{folder}/power/control"), "on\n");
        self.put(&format!("{folder}/d3cold_allowed"), "1\n");
        self.put(&format!("sys/kernel/iommu_groups/{group}/reserved_regions"), MSI);
        self.link(&folder, &format!("sys/bus/pci/devices/{address}"));
        self.link(&format!("sys/kernel/iommu_groups/{group}"), &format!("{folder}/iommu_group"));
        if class.starts_with('3') {
            self.put(&format!("{folder}/boot_vga"), if function.shows { "1\n" } else { "0\n" });
        }
        if driver.is_empty() {
            return;
        }
        let module = module(driver);
        fs::create_dir_all(self.0.join(format!("sys/module/{module}"))).unwrap();
        self.link(&format!("sys/bus/pci/drivers/{driver}"), &format!("{folder}/driver"));
        let drivers = format!("sys/bus/pci/drivers/{driver}");
        if !self.0.join(&drivers).exists() {
            self.link(&format!("sys/module/{module}"), &format!("{drivers}/module"));
        }
        if let Some(n) = function.node {
            self.node(&folder, class, n);
            if function.shows {
                self.put(&format!("{folder}/drm/card{n}/card{n}-DP-1/enabled"), "enabled\n");
                self.link(&format!("{folder}/drm/card{n}/card{n}-DP-1"), &format!("sys/class/drm/card{n}-DP-1"));
            }
        }
    }

    /// The device node of a card, sound card or disk.
    fn node(&self, folder: &str, class: &str, n: u32) {
        let (below, number, name, subsystem) = match class {
            _ if class.starts_with('3') => (format!("drm/card{n}"), format!("226:{n}"), format!("dri/card{n}"), "drm"),
            "40300" => {
                (format!("sound/card{n}/controlC{n}"), format!("116:{}", n + 2), format!("snd/controlC{n}"), "sound")
            }
            _ => (format!("nvme/nvme{n}/nvme{n}n1"), format!("259:{n}"), format!("nvme{n}n1"), "block"),
        };
        let place = format!("{folder}/{below}");
        self.put(&format!("{place}/dev"), format!("{number}\n"));
        self.put(&format!("{place}/uevent"), format!("DEVNAME={name}\n"));
        self.link(&format!("sys/class/{subsystem}"), &format!("{place}/subsystem"));
        if subsystem == "drm" {
            self.link(folder, &format!("{place}/device"));
            self.link(&place, &format!("sys/class/drm/card{n}"));
        }
    }

    /// What NVIDIA's driver shows of itself, and the modules above it.
    fn nvidia(&self, card: &Function) {
        let address = card.path.rsplit('/').next().unwrap();
        self.put(&format!("proc/driver/nvidia/gpus/0000:{address}/information"), "Device Minor: \t 0\n");
        self.put("proc/devices", "Character devices:\n195 nvidia\n237 nvidia-uvm\n");
        for (module, user) in [("nvidia", "nvidia_modeset"), ("nvidia", "nvidia_uvm"), ("nvidia_modeset", "nvidia_drm")]
        {
            self.put(&format!("sys/module/{module}/holders/{user}"), "");
        }
        for module in ["nvidia_drm", "nvidia_uvm"] {
            fs::create_dir_all(self.0.join(format!("sys/module/{module}/holders"))).unwrap();
        }
    }

    /// The display manager, whose program has these nodes open, and the user in front of it.
    fn desktop(&self, unit: &str, program: &str, nodes: &[String]) {
        self.put(&format!("usr/lib/systemd/system/{unit}"), "");
        self.link(&format!("usr/lib/systemd/system/{unit}"), "etc/systemd/system/display-manager.service");
        self.name("0123", &format!("run/systemd/units/invocation:{unit}"));
        self.put("run/systemd/sessions/3", "UID=1000\nTYPE=x11\nSEAT=seat0\nACTIVE=1\nCLASS=user\n");
        for folder in ["run/systemd/inhibit", "sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service"] {
            fs::create_dir_all(self.0.join(folder)).unwrap();
        }
        for group in ["init.scope", "system.slice"] {
            self.put(&format!("sys/fs/cgroup/{group}/cgroup.events"), "populated 1\nfrozen 0\n");
        }
        self.put("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n");
        self.put("proc/812/comm", format!("{program}\n"));
        self.put("proc/812/status", format!("Name:\t{program}\nUid:\t0\t0\t0\t0\n"));
        self.put("proc/812/cgroup", format!("0::/system.slice/{unit}\n"));
        for (n, node) in nodes.iter().enumerate() {
            self.name(node, &format!("proc/812/fd/{}", n + 10));
        }
    }
}

/// What every group has.
const MSI: &str = "0x00000000fee00000 0x00000000feefffff msi\n";

/// Writes the board's files.
pub fn write(root: &Path, board: &Board) {
    let tree = Tree(root);
    if board.has_exclusive_cpus {
        tree.put("sys/fs/cgroup/cpuset.cpus.isolated", "\n");
    }
    board.functions.iter().for_each(|function| tree.function(function));
    // Interrupts are remapped, and VFIO is there.
    tree.put("sys/kernel/irq/24/chip_name", "IR-PCI-MSI-0000:01:00.0\n");
    fs::create_dir_all(root.join("sys/bus/pci/drivers/vfio-pci")).unwrap();
    if let Some(card) = board.functions.iter().find(|function| function.driver == "nvidia") {
        tree.nvidia(card);
    }
    let mut open = vec![];
    for card in board.functions.iter().filter(|function| function.shows) {
        // NVIDIA's driver leaves the firmware's framebuffer as it is: the consoles are on that.
        if card.driver == "nvidia" {
            tree.link("sys/devices/platform/efi-framebuffer.0", BOOT_SCREEN);
            let (_, start, _) = card.bars.iter().find(|(n, ..)| *n == 1).unwrap();
            tree.put("proc/iomem", format!("{start:08x}-{:08x} : BOOTFB\n", start + 0x7e_8fff));
            tree.put("sys/devices/platform/efi-framebuffer.0/graphics/fb0/dev", "29:0\n");
            tree.link("sys/devices/platform/efi-framebuffer.0/graphics/fb0", "sys/class/graphics/fb0");
            open.extend(["/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia-modeset"].map(str::to_owned));
        } else {
            let path = card.path.split('/').map(|part| format!("0000:{part}")).collect::<Vec<_>>().join("/");
            tree.link(&format!("sys/devices/pci0000:00/{path}"), "sys/class/graphics/fb0/device");
            open.extend(card.node.map(|n| format!("/dev/dri/card{n}")));
        }
    }
    let all = fs::read_to_string(root.join("sys/devices/system/cpu/online")).unwrap();
    tree.put("sys/fs/cgroup/cpuset.cpus.effective", all);
    for (name, kind, bound) in [("vtcon0", "(S) dummy device", "0"), ("vtcon1", "(M) frame buffer device", "1")] {
        tree.put(&format!("sys/class/vtconsole/{name}/name"), format!("{kind}\n"));
        tree.put(&format!("sys/class/vtconsole/{name}/bind"), format!("{bound}\n"));
    }
    let (unit, program) = board.desktop;
    tree.desktop(unit, program, &open);
}

/// Where the firmware's framebuffer is bound.
const BOOT_SCREEN: &str = "sys/bus/platform/drivers/efi-framebuffer/efi-framebuffer.0";
