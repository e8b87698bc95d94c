//! Changes to the host as a whole: attributes, memory, owners of files, cgroups.

pub(super) mod cgroup;
pub(super) mod huge_pages;
pub(super) mod own;
pub(super) mod write;
