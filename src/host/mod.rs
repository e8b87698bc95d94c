//! Facts about the host, read under an injectable root. One reader a subject; a fact that can't be read is *unknown*
//! (`None`), never *no*.

pub mod acpi;
pub mod activity;
mod anonymous;
mod apparmor;
mod block;
mod boot;
mod cpus;
mod cpusets;
pub mod desktop;
mod environment;
mod facts;
mod files;
mod groups;
mod help;
mod holders;
pub mod input;
mod io_uring;
pub mod kvm;
pub mod lease;
mod listening;
mod logind;
mod machines;
mod memory;
pub mod neighbours;
mod network;
pub mod pci;
mod process;
mod render_nodes;
mod root;
#[cfg(test)]
mod sample_tree;
mod sessions;
pub mod smbios;
mod sock_diag;
mod socket;
mod tcp;
mod tpm_node;
pub mod tpm_state;
mod tuning;
mod unit_names;
pub mod usb;
mod user_network;
mod virtiofsd;

pub use acpi::AcpiTable;
pub use anonymous::anonymous;
pub(crate) use block::is_claimed;
pub use boot::Boot;
pub use cpus::{Cache, CacheKind, CoreKind, Cpu, Cpus};
pub use cpusets::Cpusets;
pub use desktop::{Desktop, SessionBus, WantedBus, WantedDesktop};
pub use environment::Environment;
pub use facts::{AioRequests, Host, Wanted};
pub use files::{
    Backing, Certificate, Descriptor, Feature, FileFact, FileKind, ForeignLink, InstalledUnit, Named, Qcow2, Volume,
    WantedUnit, Writable,
};
pub use groups::Group;
pub use holders::holders;
pub use kvm::{Kvm, KvmVerdict};
pub use listening::Listener;
pub use logind::Logind;
pub use memory::{HugePages, Memory, Node};
pub use network::{Interface, InterfaceKind, Network, Route, TunFlags};
pub use pci::Pci;
pub use process::{Process, log_dir, run_dir};
pub use render_nodes::RenderNode;
pub use root::Root;
pub use sessions::{Manager, Session};
pub use tcp::Tcp;
pub use tpm_state::TpmState;
pub use tuning::{Attribute, Irq, Tuning, WantedTuning};
pub use user_network::{Passt, UserNetwork};
pub use virtiofsd::Virtiofsd;
