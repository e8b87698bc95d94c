//! Changes to PCI functions: their drivers, modules, memory ranges and device nodes.

pub(super) mod bind_driver;
pub(super) mod disks;
pub(super) mod free_nodes;
pub(super) mod remove_module;
pub(super) mod resize_bar;
pub(super) mod revive;
