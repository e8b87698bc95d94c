//! Why a change could not be made, read back or undone. An enum for each thing that can fail, with its remedy in its text.

mod file;
mod function;
mod held;
mod huge_pages;
mod module;
mod network;
mod partition;
mod record;
mod unit;

pub use file::FileError;
pub use function::FunctionError;
pub use held::HeldError;
pub use huge_pages::HugePagesError;
pub use module::ModuleError;
pub use network::NetworkError;
pub use partition::PartitionError;
pub use record::RecordError;
pub use unit::UnitError;

/// Why a change could not be made, read back or undone.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The caller stopped it through its `Progress`; the undo puts back what was done.
    #[error("it was stopped half-way")]
    Stopped,
    /// A file could not be read or written, or did not take a value.
    #[error(transparent)]
    File(#[from] FileError),
    /// A PCI function is not as it must be.
    #[error(transparent)]
    Function(#[from] FunctionError),
    /// Programs or the host use the device.
    #[error(transparent)]
    Held(#[from] HeldError),
    /// Not all huge pages could be reserved.
    #[error(transparent)]
    HugePages(#[from] HugePagesError),
    /// A kernel module could not be loaded or removed.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// The network that machines share could not be made or removed.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The kernel did not do with a cgroup what it was asked for.
    #[error(transparent)]
    Partition(#[from] PartitionError),
    /// A unit could not be stopped or started.
    #[error(transparent)]
    Unit(#[from] UnitError),
    /// The journal's record does not fit the change.
    #[error(transparent)]
    Record(#[from] RecordError),
}
