//! The machine file as a whole.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::explicit_none;
use super::subject::Subject;
use super::subjects::acpi::{AcpiTables, Licence};
use super::subjects::apple_smc::AppleSmc;
use super::subjects::audio::Audio;
use super::subjects::cpu::{Accelerator, Cpu};
use super::subjects::dead_man_switch::GiveBack;
use super::subjects::disk::Disk;
use super::subjects::display::{Display, SecondSerial, Serial, Video};
use super::subjects::firmware::{Firmware, Kernel, Uefi};
use super::subjects::guest::{Guest, Rtc, Sleep};
use super::subjects::handover::Handover;
use super::subjects::hooks::Hooks;
use super::subjects::host::HostTuning;
use super::subjects::input::Input;
use super::subjects::looking_glass::LookingGlass;
use super::subjects::memory::Memory;
use super::subjects::network::Network;
use super::subjects::pci::{self, PciDevice};
use super::subjects::reboot::OnReboot;
use super::subjects::share::Share;
use super::subjects::smbios::Smbios;
use super::subjects::tpm::Tpm;
use super::subjects::usb::{self, UsbDevice};
use super::subjects::vsock::Vsock;
use super::subjects::watchdog::{PanicDevice, Watchdog};
use crate::units::Size;

/// The seconds that a guest may take to power off, if the file says nothing.
pub const SHUTDOWN_TIMEOUT: u32 = 90;

/// One virtual machine, as its file describes it.
///
/// Only `guest` and `memory` must be there; all else is derived from the guest family, the host and the QEMU binary,
/// and each derived value can be overridden by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Another machine file, of which this one is a variation: it says only what differs, and the rest is as there, also the
    /// name. `Base` in a list stands for the entries there. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<PathBuf>,
    /// Name: letters, digits, `-`, `_` and `.`, at most 48 characters. Default: the base's, else the
    /// file's name without `.ron`.
    #[serde(default)]
    pub name: String,
    /// The machine's UUID, seen by the guest (SMBIOS). Default: derived from the name, so it never changes; with
    /// `smbios: Host` the guest sees the host's.
    #[serde(default)]
    pub uuid: Option<Uuid>,
    /// The guest's family, which chooses the defaults: clock, Hyper-V interfaces, firmware, TPM.
    pub guest: Guest,
    /// The QEMU binary: a path, or a name that is looked up in PATH. Default: `qemu-system-x86_64`.
    #[serde(default)]
    pub qemu: Option<PathBuf>,
    /// KVM or emulation. Default `Auto`: KVM if it works, else emulation with a warning.
    #[serde(default)]
    pub accelerator: Accelerator,
    /// QEMU machine type, one of those with PCI Express. Default: `q35`, whose version follows the QEMU binary.
    #[serde(default)]
    pub machine_type: Option<String>,
    /// Virtual CPUs and the host CPUs that QEMU's threads run on. Default: two vCPUs, placed by the program.
    #[serde(default)]
    pub cpu: Cpu,
    /// The guest's memory.
    pub memory: Memory,
    /// The guest's firmware. Default `Auto`: UEFI for Windows and Linux, SeaBIOS for others and with `kernel`.
    #[serde(default)]
    pub firmware: Firmware,
    /// A Linux kernel that QEMU starts directly, without a boot loader. Default: none.
    #[serde(default)]
    pub kernel: Option<Kernel>,
    /// Disks and CD images, in boot order unless they say `boot`. Default: none.
    #[serde(default)]
    pub disks: Vec<Disk>,
    /// Network cards. Default: one with user-mode networking; `[]` or `None` for none.
    #[serde(default, deserialize_with = "explicit_none::list", skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<Network>>,
    /// PCI devices of the host that are passed through to the guest: each an address, or fields in parentheses. Default:
    /// none.
    #[serde(default, deserialize_with = "pci::list")]
    #[schemars(schema_with = "pci::list_schema")]
    pub pci: Vec<PciDevice>,
    /// USB devices of the host that the guest is given, each an id, a port, or fields in parentheses; also when they are
    /// plugged in later, or again. With `[]` the guest has a USB controller and no device. Default: neither.
    #[serde(default, deserialize_with = "usb::list")]
    #[schemars(schema_with = "usb::list_schema")]
    pub usb: Option<Vec<UsbDevice>>,
    /// The host's keyboard and mouse, which the guest has until both Ctrl keys are pressed together, and again after the next
    /// time (evdev). `Auto`, or a list of event devices. Default: the guest has none of them.
    #[serde(default)]
    pub input: Option<Input>,
    /// Whether the guest has a keyboard and a mouse of virtio, beside those of PS/2. Windows needs a driver for them. Default:
    /// with `input` for Linux guests, else not.
    #[serde(default)]
    pub virtio_input: Option<bool>,
    /// What vfio-run stops and ends on the host to free the devices in `pci`. Default: what it finds using them.
    #[serde(default)]
    pub handover: Handover,
    /// Programs of yours that vfio-run starts at the stages of a run: `hooks: (ready: [["/usr/local/bin/lights", "off"]])`.
    /// Default: none.
    #[serde(default)]
    pub hooks: Hooks,
    /// How the emulated screen is shown. Default `None`.
    #[serde(default)]
    pub display: Display,
    /// The emulated graphics card. Default: none without a display, else `Virtio` for Linux and `Std` for others.
    #[serde(default, deserialize_with = "explicit_none::written", skip_serializing_if = "Option::is_none")]
    pub video: Option<Video>,
    /// The memory of the emulated card's picture, a power of two from `"4 MiB"`: for `video: Std`, `Qxl` (up to 512 MiB) and
    /// `Cirrus` (up to 16 MiB). 2560×1440 needs 16 MiB, 3840×2160 needs 32 MiB. Default: QEMU's own, 16 MiB and for Cirrus 4 MiB.
    #[serde(default)]
    pub video_memory: Option<Size>,
    /// The server that plays the guest's sound: `Auto`, or `Auto(microphone: true)`. Default `None`: no sound card, since a
    /// graphics card that is passed through has sound of its own.
    #[serde(default)]
    pub audio: Audio,
    /// Looking Glass, by the size of the guest's screen: `looking_glass: (width: 2560, height: 1440)`. Default: none.
    #[serde(default)]
    pub looking_glass: Option<LookingGlass>,
    /// Whether the guest's sound goes into shared memory, `/dev/shm/scream-NAME`, for Scream's driver for Windows. Default: no.
    #[serde(default)]
    pub scream: bool,
    /// What the guest's first serial port is connected to. Default `None`: there is no port.
    #[serde(default)]
    pub serial: Serial,
    /// What the guest's second serial port is connected to. Default `None`: there is no port.
    #[serde(default)]
    pub second_serial: SecondSerial,
    /// Seconds for which the firmware waits for a key that opens its boot menu, 1 to 60. Default: it does not wait.
    #[serde(default)]
    #[schemars(range(min = 1, max = 60))]
    pub boot_menu: Option<u32>,
    /// The trusted platform module (TPM). Default `Auto`: TPM 2.0 for Windows 11, none for others.
    #[serde(default)]
    pub tpm: Tpm,
    /// What the guest reads in its SMBIOS tables: maker, model, serial numbers. Default `Qemu`.
    #[serde(default)]
    pub smbios: Smbios,
    /// Files with ACPI tables that the guest gets beside QEMU's own, one table each, header included. Default: none.
    #[serde(default)]
    pub acpi_tables: AcpiTables,
    /// The licence for Windows that the guest finds in its ACPI tables. Default `None`.
    #[serde(default)]
    pub licence: Licence,
    /// Whether the guest sees a battery, full and plugged in: drivers of laptops' graphics cards refuse to start without one
    /// (Code 43).
    #[serde(default)]
    pub battery: bool,
    /// Apple's system management controller, which macOS looks for: `apple_smc: (key_file: "osk")`. Default: none.
    #[serde(default)]
    pub apple_smc: Option<AppleSmc>,
    /// A watchdog: `watchdog: ()`. Default: none.
    #[serde(default)]
    pub watchdog: Option<Watchdog>,
    /// A device by which the guest's kernel tells that it panicked: `panic_device: ()`. Default: none.
    #[serde(default)]
    pub panic_device: Option<PanicDevice>,
    /// Whether the guest may sleep: `sleep: (s3: false)`. Default: not for Windows; others may.
    #[serde(default)]
    pub sleep: Sleep,
    /// Sockets between programs of the host and of the guest (vsock). Default `None`.
    #[serde(default)]
    pub vsock: Vsock,
    /// Folders of the host that the guest mounts: `shares: [(tag: "data", folder: "/srv/data")]`. Default: none.
    #[serde(default)]
    pub shares: Vec<Share>,
    /// What the host does for as long as the guest runs: `host: (governor: "performance", no_sleep: true)`. Default: nothing.
    #[serde(default)]
    pub host: HostTuning,
    /// The time that the guest's hardware clock shows. Default: `LocalTime` for Windows, `Utc` for others.
    #[serde(default)]
    pub rtc: Option<Rtc>,
    /// What happens when the guest restarts: `Relaunch` starts QEMU anew, with the devices reset in between. Default `Reset`.
    #[serde(default)]
    pub on_reboot: OnReboot,
    /// The account that QEMU runs as when root starts the machine: a name, or a user id as text. Default: a user id of
    /// its own, from 61184 to 65519.
    #[serde(default)]
    pub user: Option<String>,
    /// Seconds that the guest may take to power off, 1 to 3600; then vfio-run forces QEMU to quit. Default 90.
    #[serde(default)]
    #[schemars(range(min = 1, max = 3600))]
    pub shutdown_timeout: Option<u32>,
    /// Whether vfio-run looks once a second how long the guest's threads wait for their CPUs, and reports after the run what
    /// made the guest stutter (`vfio-run man performance`). Default `false`.
    #[serde(default)]
    pub report: bool,
    /// The dead-man switch: vfio-run ends the guest and gives the devices back unless the guest shows a sign of life in
    /// time. Default: no switch.
    #[serde(default)]
    pub give_back_unless: Option<GiveBack>,
    /// Arguments that are added to the end of QEMU's command line as they are, each a text. Default: none.
    #[serde(default)]
    pub extra_args: Vec<String>,
}

/// Lists the fields that are subjects, in the order in which they are checked.
macro_rules! subjects {
    ($($field:ident),* $(,)?) => {
        impl Machine {
            /// The names of the fields that are subjects.
            #[cfg(test)]
            pub(super) const SUBJECTS: &[&str] = &[$(stringify!($field)),*];

            /// The subjects.
            pub(super) fn subjects(&self) -> impl Iterator<Item = &dyn Subject> {
                [$(&self.$field as &dyn Subject),*].into_iter()
            }

            /// The same, to be changed.
            pub(super) fn subjects_mut(&mut self) -> impl Iterator<Item = &mut dyn Subject> {
                [$(&mut self.$field as &mut dyn Subject),*].into_iter()
            }
        }
    };
}

subjects! {
    cpu, memory, firmware, kernel, disks, networks, pci, usb, input, handover, hooks, display, video, audio, looking_glass, serial,
    second_serial, tpm, smbios, acpi_tables, licence, apple_smc, vsock, shares, host, give_back_unless,
}

impl Machine {
    /// The name space of the UUIDs that names turn into: a random one, fixed for ever.
    const NAMES: Uuid = Uuid::from_u128(0x5f1c_7d3e_92ab_4c0d_8e64_d1b7_20f9_a635);

    /// The machine's UUID: the one given, or one that depends on the name alone.
    pub fn uuid(&self) -> Uuid {
        self.uuid.unwrap_or_else(|| Uuid::new_v5(&Self::NAMES, self.name.as_bytes()))
    }

    /// What is asked of UEFI; `None` if the guest boots with SeaBIOS.
    pub fn uefi(&self) -> Option<Uefi> {
        match &self.firmware {
            Firmware::Bios => None,
            Firmware::Auto if self.kernel.is_some() || self.guest == Guest::Other => None,
            Firmware::Auto => Some(Uefi::default()),
            Firmware::Uefi(asked) => Some(asked.clone()),
        }
    }

    /// The memory that Scream's driver plays into.
    pub fn scream_file(&self) -> PathBuf {
        PathBuf::from(format!("/dev/shm/scream-{}", self.name))
    }

    /// QEMU's machine type: the one given, else the one with PCI Express.
    pub fn machine_type(&self) -> &str {
        self.machine_type.as_deref().unwrap_or("q35")
    }

    /// How long a guest may take to power off before QEMU is forced to quit.
    pub fn shutdown_timeout(&self) -> Duration {
        Duration::from_secs(self.shutdown_timeout.unwrap_or(SHUTDOWN_TIMEOUT).into())
    }
}
