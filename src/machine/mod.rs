//! What the user wrote: the machine file's types, reading with good errors, and validation that needs nothing but the
//! file. Values that were left out stay `None`; deriving them is the plan's work, since it depends on host and QEMU.

mod explicit_none;
mod file;
mod host_device;
mod named;
mod problems;
mod raw_ports;
mod read;
mod schema;
mod short_or_fields;
mod subject;
mod subjects;
mod values;

#[cfg(test)]
mod mistakes_tests;
#[cfg(test)]
mod tests;

pub use file::Machine;
pub use host_device::HostDevice;
pub use named::Named;
pub use read::{Lines, Place, Position, ReadText, Refused, Source, nearest, parse, parse_with, read, text};
pub use schema::{Field, Fields, schema};
pub use subjects::acpi::{AcpiTables, Licence};
pub use subjects::apple_smc::AppleSmc;
pub use subjects::audio::{Audio, Sound, SoundCard, SoundServer};
pub use subjects::cpu::{Accelerator, CoreWish, Cpu, Idle, Prefer, Scheduler, Topology, property as cpu_property};
pub use subjects::dead_man_switch::{GiveBack, Sign};
pub use subjects::disk::{Aio, Bus, Cache, Discard, Disk, Media, Sector};
pub use subjects::display::{Bus as DisplayBus, Display, Listen, Rendering, SecondSerial, Serial, Tls, Video, Window};
pub use subjects::firmware::{Firmware, Kernel, Uefi};
pub use subjects::guest::{Guest, Rtc, Sleep};
pub use subjects::handover::{DisplayManager, Handover, Holders};
pub use subjects::hooks::{Hook, Hooks};
pub use subjects::host::{DevicePlace, Frequency, HostTuning, Isolate, Place as HostPlace, ThpDefrag, Tune};
pub use subjects::input::{Input, InputDevice, Toggle};
pub use subjects::looking_glass::LookingGlass;
pub use subjects::memory::{Memory, Numa, Pages};
pub use subjects::network::{Backend, Link, MacvtapMode, MacvtapPort, Network, NetworkModel};
pub use subjects::pci::{PciDevice, Property, Rebar, Revive};
pub use subjects::pin::{Pin, VcpuCpus};
pub use subjects::reboot::OnReboot;
pub use subjects::share::{Share, ShareKind, ShareOwner};
pub use subjects::smbios::{Smbios, SmbiosFields, SmbiosValue};
pub use subjects::tpm::{Emulated, Tpm};
pub use subjects::usb::UsbDevice;
pub use subjects::vsock::Vsock;
pub use subjects::watchdog::{PanicAction, PanicDevice, Watchdog, WatchdogAction, WatchdogDevice};
pub use values::{QEMU, is_name, name_rule};
