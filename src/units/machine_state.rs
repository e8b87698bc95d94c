//! The states of a machine that `status` and `alive` name. A QEMU that was taken over may have further ones: its own.

/// The guest does not run yet, or restarts in a new QEMU.
pub const STARTING: &str = "starting";
/// The guest runs.
pub const RUNNING: &str = "running";
/// Somebody paused the guest.
pub const PAUSED: &str = "paused";
/// The host goes to sleep or wakes just now, and the launcher has paused the guest for that.
pub const HOST_SLEEPS: &str = "host-sleeps";
/// The guest sleeps.
pub const SUSPENDED: &str = "suspended";
/// The guest was asked to end.
pub const STOPPING: &str = "stopping";
/// The guest has shut down, and QEMU ends.
pub const SHUTDOWN: &str = "shutdown";
/// The guest has ended, and its launcher restores the host.
pub const ENDING: &str = "ending";
/// A launcher has the machine, and it or QEMU was stopped by a signal, or does not answer.
pub const SILENT: &str = "silent";
/// A rehearsal hands devices over and takes them back.
pub const REHEARSING: &str = "rehearsing";
/// The guest runs, and its launcher is gone.
pub const UNSUPERVISED: &str = "unsupervised";
/// Guest and launcher are gone, and the host is not restored.
pub const LEFT_BEHIND: &str = "left-behind";
/// Its folder or its journal cannot be read.
pub const UNREADABLE: &str = "unreadable";
/// The machine does not run, and its last start failed.
pub const FAILED: &str = "failed";

/// All of them.
pub const ALL: [&str; 14] = [
    STARTING,
    RUNNING,
    PAUSED,
    HOST_SLEEPS,
    SUSPENDED,
    STOPPING,
    SHUTDOWN,
    ENDING,
    SILENT,
    REHEARSING,
    UNSUPERVISED,
    LEFT_BEHIND,
    UNREADABLE,
    FAILED,
];
