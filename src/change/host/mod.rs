//! Changes to the host as a whole: attributes, memory, owners of files, cgroups.

pub mod cgroup;
pub mod huge_pages;
pub mod own;
pub mod write;
