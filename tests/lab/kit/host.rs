//! What a lab host is made of: plain data, written by a test in its own words.

use serde::{Deserialize, Serialize};

use super::cpus::Cpus;
use super::images::Release;

/// Where each device is found inside the host. The slots are the same in every host, so a test can name them.
pub mod at {
    /// The first GPU; its sound function, when it has one, is `.1`.
    pub const GPU: &str = "0000:01:00.0";
    /// Sound function of the first GPU.
    pub const GPU_SOUND: &str = "0000:01:00.1";
    /// The second GPU.
    pub const SECOND_GPU: &str = "0000:02:00.0";
    /// Its sound.
    pub const SECOND_GPU_SOUND: &str = "0000:02:00.1";
    /// The USB controller.
    pub const USB: &str = "0000:03:00.0";
    /// The NVMe disk.
    pub const NVME: &str = "0000:04:00.0";
    /// The network card.
    pub const NIC: &str = "0000:05:00.0";
    /// The two devices below the switch that has no ACS.
    pub const BELOW_SWITCH: [&str; 2] = ["0000:0a:00.0", "0000:0b:00.0"];
    /// The device on the second NUMA node.
    pub const FAR_NIC: &str = "0000:21:00.0";
}

/// A GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Gpu {
    /// The host's only screen: VGA and its sound function in one IOMMU group, `boot_vga`, bochs-drm and fbcon on it.
    Only,
    /// As [`Gpu::Only`], for the host's screen if there is another GPU for guests.
    Primary,
    /// A second card, not a VGA device (class 0380), bochs-drm on it and no console.
    Second,
    /// A virtio-vga as the only screen, with function level reset.
    Virtio,
}

/// What else can be plugged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Device {
    /// An NVMe disk of 64 MiB.
    Nvme,
    /// A USB controller with the named things on it.
    Usb {
        /// A keyboard.
        keyboard: bool,
        /// A mouse.
        mouse: bool,
        /// A disk of 16 MiB.
        disk: bool,
    },
    /// An e1000e network card.
    Nic,
    /// A device with two SR-IOV virtual functions: an NVMe controller, as QEMU has no such network card before 8.0.
    SrIov,
    /// A PCIe switch whose ports lack ACS, with two network cards below it.
    Switch,
    /// QEMU's `edu` device, for which the kernel finds no way to reset it.
    NoReset,
}

impl Device {
    /// Whether no template holds it. QEMU cannot save an NVMe controller or a device without a reset, and a USB
    /// controller is plugged in sooner than another template is made. Those that stand in a slot of their own are plugged
    /// in after the restore; see [`Host::full_boot`] for the others.
    pub fn is_left_out(self) -> bool {
        matches!(self, Self::Nvme | Self::Usb { .. } | Self::SrIov | Self::NoReset)
    }
}

/// Firmware of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Firmware {
    /// Legacy BIOS.
    SeaBios,
    /// UEFI: the boot framebuffer (efifb or simpledrm) lies on the GPU.
    Ovmf,
}

/// First process of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Init {
    /// systemd, as anywhere.
    Systemd,
    /// A script that mounts, loads drivers and waits; there is no systemd.
    Plain,
}

/// A description of a lab host. Start it with [`Host::start`](super::lab).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[must_use = "a host does nothing until it is started"]
pub struct Host {
    /// What is installed.
    pub release: Release,
    /// Processors, and the NUMA nodes that they are spread over.
    pub cpus: Cpus,
    /// Memory in MiB, in equal parts on the NUMA nodes.
    pub memory: u32,
    /// Firmware.
    pub firmware: Firmware,
    /// First process.
    pub init: Init,
    /// Whether the processors have frequencies to choose from.
    pub frequencies: bool,
    /// Whether weston runs as display manager.
    pub compositor: bool,
    /// Screens.
    pub gpus: Vec<Gpu>,
    /// Everything else in a slot.
    pub devices: Vec<Device>,
    /// Whether the kernel's clock is the processors' time stamp counter, as on a processor of today.
    pub steady_clock: bool,
    /// Further words for the kernel's command line.
    pub kernel: Vec<String>,
    /// Never from a template.
    pub full_boot: bool,
}

impl Host {
    /// A host without any devices: one processor, 2 GiB, SeaBIOS, systemd.
    pub fn new(release: Release) -> Self {
        Self {
            release,
            cpus: Cpus { sockets: 1, cores: 1, threads: 1, nodes: 1 },
            memory: 2048,
            firmware: Firmware::SeaBios,
            init: Init::Systemd,
            frequencies: false,
            compositor: false,
            steady_clock: false,
            gpus: Vec::new(),
            devices: Vec::new(),
            kernel: Vec::new(),
            full_boot: false,
        }
    }

    /// Sets the processors, such as `"2 sockets × 2 cores × 2 threads"` or `"8 cores on 2 nodes"`.
    ///
    /// # Panics
    /// When the text says nothing sensible: it is part of the test.
    pub fn cpus(mut self, text: &str) -> Self {
        self.cpus = text.parse().unwrap_or_else(|error| panic!("{error:#}"));
        self
    }

    /// Sets the memory in MiB.
    pub fn memory(mut self, mib: u32) -> Self {
        self.memory = mib;
        self
    }

    /// Adds a GPU.
    pub fn gpu(mut self, gpu: Gpu) -> Self {
        self.gpus.push(gpu);
        self
    }

    /// Adds an NVMe disk.
    pub fn nvme(self) -> Self {
        self.device(Device::Nvme)
    }

    /// Adds a USB controller with a keyboard.
    pub fn usb_keyboard(self) -> Self {
        self.device(Device::Usb { keyboard: true, mouse: false, disk: false })
    }

    /// Adds a USB controller with a keyboard, a mouse and a disk.
    pub fn usb(self) -> Self {
        self.device(Device::Usb { keyboard: true, mouse: true, disk: true })
    }

    /// Adds any device.
    pub fn device(mut self, device: Device) -> Self {
        self.devices.push(device);
        self
    }

    /// Boots by UEFI.
    pub fn ovmf(mut self) -> Self {
        self.firmware = Firmware::Ovmf;
        self
    }

    /// Leaves systemd out.
    pub fn without_systemd(mut self) -> Self {
        self.init = Init::Plain;
        self
    }

    /// Gives the processors frequencies and governors.
    pub fn frequencies(mut self) -> Self {
        self.frequencies = true;
        self
    }

    /// Runs weston as the display manager.
    pub fn compositor(mut self) -> Self {
        self.compositor = true;
        self
    }

    /// Has the kernel take the processors' time stamp counter for its clock. By itself it does not, where the processors do
    /// not say that theirs is invariant, which no emulated one does: a guest's clock is then corrected ten times a
    /// second, on the CPU of each of its vCPUs (`kvmclock_update_fn`). The clock may go up to a fifth too fast.
    pub fn steady_clock(mut self) -> Self {
        self.steady_clock = true;
        self
    }

    /// Adds a word to the kernel's command line.
    pub fn kernel(mut self, word: &str) -> Self {
        self.kernel.push(word.to_owned());
        self
    }

    /// Boots from the start instead of from a template, with all devices present from the first moment.
    pub fn full_boot(mut self) -> Self {
        self.full_boot = true;
        self
    }

    /// What is in its template: all but the devices that are plugged in afterwards.
    pub fn in_template(&self) -> Self {
        let mut host = self.clone();
        host.devices.retain(|device| !device.is_left_out());
        host
    }

    /// Whether a template can serve. A device without a reset must sit on the root bus, where nothing can be plugged
    /// in later.
    pub fn has_template(&self) -> bool {
        !self.full_boot && !self.devices.contains(&Device::NoReset)
    }
}
