//! PCI functions: what each is, its driver, what depends on it and who uses it. Read only for machines that have
//! `pci:` and for `vfio-run devices`, and in depth only for the functions that are asked for and what they depend on.
//! Source: `Documentation/ABI/testing/sysfs-bus-pci`, `Documentation/PCI/sysfs-pci.rst`.

pub(crate) mod config;
mod details;
mod facts;
mod function;
mod holders;
mod iommu;
mod names;
mod nodes;
mod nvidia;
mod rom;
mod screen;
mod sysfs;
#[cfg(test)]
mod tests;
mod usb;
mod uses;
pub mod vfio;

pub use config::Bar;
pub use details::{Details, Link, Resizable};
pub use facts::{Pci, WantedPci};
pub use function::PciFunction;
pub use holders::Holder;
pub use holders::of_nodes as holders_of;
pub use holders::of_screens as holders_of_screens;
pub use iommu::Iommu;
pub use names::Names;
pub use nodes::Node;
pub(crate) use nodes::{BLOCK, without_path};
pub use nvidia::Nvidia;
pub use rom::{Image, Rom};
pub use screen::{BootScreen, Console, Screen};
pub use usb::UsbDevice;
