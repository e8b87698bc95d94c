//! What the kernel says of a thread in `/proc/PID/stat` (proc_pid_stat(5)).

use crate::host::Root;

/// Flags of a thread (`include/linux/sched.h`): it is the kernel's, and its CPUs cannot be changed.
pub(super) const PF_KTHREAD: u64 = 0x0020_0000;
pub(super) const PF_NO_SETAFFINITY: u64 = 0x0400_0000;

/// What `/proc/PID/stat` says of a thread.
pub(super) struct Stat {
    /// Its name.
    pub name: String,
    /// Whose child its process is.
    pub parent: i32,
    flags: u64,
    /// When it started, in clock ticks since boot: another one may have its number later.
    pub start_time: u64,
}

impl Stat {
    /// Reads it; a process has that of its first thread. `None`: it has ended.
    pub fn read(root: &Root, thread: i32) -> Option<Self> {
        let text = root.text_up_to(format!("/proc/{thread}/stat"), 4096)?;
        // The name may hold parentheses and white space.
        let (start, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        Some(Self {
            name: start.split_once('(')?.1.to_owned(),
            parent: fields.get(1)?.parse().ok()?,
            flags: fields.get(6)?.parse().ok()?,
            start_time: fields.get(19)?.parse().ok()?,
        })
    }

    /// Whether it is a thread of the kernel's whose CPUs can be changed.
    pub fn can_move(&self) -> bool {
        self.flags & PF_KTHREAD != 0 && self.flags & PF_NO_SETAFFINITY == 0
    }
}
