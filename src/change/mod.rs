//! Each thing that can be done to a host, with its undo and its read-back: one file a change, below its subject. A change is
//! data, and so is what it found before it was made, so any process can undo it from the journal after any crash.

pub mod affinity;
pub mod attribute;
mod compare;
mod error;
mod file;
mod lock_file;
pub mod locks;
mod program;
mod record;
mod shared_folder;
mod step;
mod thread_stat;
mod wait;

/// What the processes of a cgroup may use: which CPUs, and whether they run at all.
mod cgroup {
    pub mod affinities;
    pub mod allowed_cpus;
    pub mod cpuset_controller;
    pub mod exclusive_cpus;
    pub(super) mod files;
    pub mod freeze;
    mod lost_cpus;
    pub mod narrow_slices;
    pub mod own_slice;
    pub mod partition;
    mod unit_cpus;
    pub mod vcpu_group;
}

/// What the people in front of the host use, shared with the guest: USB devices, keyboards, mice.
mod desk {
    pub mod node_folder;
    pub mod take_usb;
}

/// Changes to the host as a whole: attributes, memory, owners of files, cgroups.
mod host {
    pub mod cgroup;
    pub mod huge_pages;
    pub mod kernel_threads;
    pub mod knob;
    pub mod own;
    pub mod pool_lock;
    pub mod shared_file;
    pub mod write;
    pub mod writes;
}

/// Changes to the network: interfaces, and the network that machines share.
mod network {
    mod dnsmasq;
    mod found;
    pub mod guest;
    pub mod macvtap;
    pub mod nat;
    mod nft;
    mod shared;
}

/// Changes to PCI functions: their drivers, modules, memory ranges and device nodes.
mod pci {
    pub mod bind_driver;
    mod disks;
    pub mod free_nodes;
    pub(super) mod function;
    mod modprobe;
    pub mod remove_module;
    pub mod resize_bar;
    pub mod revive;
}

/// Changes to what shows on a screen: consoles, the firmware's framebuffer, cards that compositors hold.
mod screen {
    pub mod hide_card;
    pub mod leave_console;
    pub mod release_boot_screen;
}

/// Changes to units of systemd, of the system and of users.
mod systemd {
    pub mod stop_irqbalance;
    pub mod stop_unit;
    pub mod stop_user_unit;
}

pub use compare::Compare;
pub use error::{
    ChangeError, FileError, FunctionError, HeldError, HugePagesError, ModuleError, NetworkError, PartitionError,
    RecordError, UnitError,
};
pub use host::knob::Knob;
pub use host::pool_lock::{PoolLock, remove_dead_pool_lock};
pub use host::writes::{Setting, UNMOVABLE_IRQ};
pub use network::guest::NatGuest;
pub use network::macvtap::MacvtapMode;
pub use pci::remove_module::{Bound, FoundModule};
pub use pci::revive::Rung;
pub use record::{Before, Nothing, Undone};
pub use step::{Effect, Nature, Observed, Progress, Step, unattended};

use crate::host::Root;

step::changes! {
    cgroup::affinities::Affinities,
    cgroup::allowed_cpus::AllowedCpus,
    cgroup::cpuset_controller::CpusetController,
    cgroup::exclusive_cpus::ExclusiveCpus,
    cgroup::freeze::Freeze,
    cgroup::narrow_slices::NarrowSlices,
    cgroup::own_slice::OwnSlice,
    cgroup::partition::Partition,
    cgroup::vcpu_group::VcpuGroup,
    desk::node_folder::NodeFolder,
    desk::take_usb::TakeUsb,
    host::cgroup::Cgroup,
    host::huge_pages::HugePages,
    host::kernel_threads::KernelThreads,
    host::own::Own,
    host::shared_file::SharedFile,
    host::write::Write,
    host::writes::Writes,
    network::macvtap::Macvtap,
    network::nat::Nat,
    pci::bind_driver::BindDriver,
    pci::free_nodes::FreeNodes,
    pci::remove_module::RemoveModule,
    pci::resize_bar::ResizeBar,
    pci::revive::Revive,
    screen::hide_card::HideCard,
    screen::leave_console::LeaveConsole,
    screen::release_boot_screen::ReleaseBootScreen,
    systemd::stop_irqbalance::StopIrqbalance,
    systemd::stop_unit::StopUnit,
    systemd::stop_user_unit::StopUserUnit,
}
