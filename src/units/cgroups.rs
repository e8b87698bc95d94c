//! Where the kernel shows cgroups (`Documentation/admin-guide/cgroup-v2.rst`).

/// Where the unified hierarchy is mounted on every host that has no other.
pub const CGROUPS: &str = "/sys/fs/cgroup";
/// The CPUs of threads that no cpuset holds: without those of isolated partitions.
pub const EFFECTIVE_CPUS: &str = "/sys/fs/cgroup/cpuset.cpus.effective";
