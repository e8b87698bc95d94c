//! Who and where we are: user, cgroup, session, systemd unit, and the folders that follow from it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// This process, as far as a plan depends on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Effective user id; 0 is root.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Our path in the unified cgroup hierarchy: `/user.slice/…`. `None` on a host without cgroup v2.
    pub cgroup: Option<String>,
    /// The systemd service that we are the main process of, as the cgroup tells: `vfio-run-win11.service`.
    pub unit: Option<String>,
    /// The logind session: `3` from `session-3.scope`.
    pub session: Option<String>,
    /// Whether systemd is PID 1 (`/run/systemd/system` exists, `sd_booted(3)`).
    pub systemd: bool,
    /// `RLIMIT_MEMLOCK` in bytes; `None` is unlimited.
    pub memlock: Option<u64>,
    /// Where sockets, the lock and the journal go: `/run/vfio-run`, or below `$XDG_RUNTIME_DIR`.
    pub run_dir: PathBuf,
    /// Where variable stores and TPM state are kept: `/var/lib/vfio-run`, or below `$XDG_STATE_HOME`.
    pub state_dir: PathBuf,
    /// Where logs go: `/var/log/vfio-run`, or below `$XDG_STATE_HOME`.
    pub log_dir: PathBuf,
    /// Where what was asked of QEMU is kept: `/var/cache/vfio-run`, or below `$XDG_CACHE_HOME`.
    pub cache_dir: PathBuf,
}
