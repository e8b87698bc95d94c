//! QEMU and the launcher as processes of the host: their user, their cgroup, their session, and what they may open.

pub(super) mod account;
pub(super) mod cgroup;
pub(super) mod permission;
pub(super) mod session;
pub(super) mod sockets;
pub(super) mod tcp;
pub(super) mod trust;
pub(super) mod unit_group;
pub(super) mod whole_file;
