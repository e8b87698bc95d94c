//! Changes to PCI functions: their drivers, modules, memory ranges and device nodes.

pub mod bind_driver;
mod disks;
pub mod free_nodes;
pub(super) mod function;
mod modprobe;
pub mod remove_module;
pub mod resize_bar;
pub mod revive;
