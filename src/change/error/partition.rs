//! What the kernel does not do with a cgroup.

use std::path::PathBuf;

/// A cgroup is not as it was made.
#[derive(Debug, thiserror::Error)]
pub enum PartitionError {
    /// The kernel did not make it a partition.
    #[error("the kernel does not make {group} a partition of its own: it says {found:?}")]
    Invalid {
        /// The group.
        group: PathBuf,
        /// What its file says, with the kernel's reason.
        found: String,
    },
    /// It says that it is a partition, and has not its CPUs for itself.
    #[error("{group} was to have CPUs {wanted} for itself: it has {own:?}, and the host still has {shared:?} of them")]
    Shared {
        /// The group.
        group: PathBuf,
        /// The CPUs that it was to have.
        wanted: String,
        /// Those that it has.
        own: String,
        /// Those of them that the host has too.
        shared: String,
    },
    /// A slice of the host's may use CPUs that it was told to leave.
    #[error(
        "{group} was to leave CPUs to the guest, and still has {shared}; a list of CPUs that it was given elsewhere may be in the way"
    )]
    NotNarrowed {
        /// The group.
        group: PathBuf,
        /// The CPUs.
        shared: String,
    },
    /// Some of its processes do not stand still.
    #[error(
        "not all processes in {group} stand still after {seconds} s; one of them waits in the kernel (state D in `ps`). \
         Take the group out of `host.quiet`"
    )]
    NotFrozen {
        /// The group.
        group: PathBuf,
        /// How long vfio-run waited.
        seconds: u64,
    },
}
