//! A part of the guest's memory that has a backend of its own.

use crate::units::{CpuSet, Size};

/// What a backend holds: all of the memory, or that of one of the guest's NUMA nodes.
pub(super) struct Piece {
    /// The backend's id.
    pub id: String,
    /// How much.
    pub size: Size,
    /// The host's NUMA nodes that it comes from; empty: any.
    pub nodes: CpuSet,
}
