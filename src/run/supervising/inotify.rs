//! Waits for what the kernel tells of a file or folder (inotify(7)), in the event loop: nobody wakes up while nothing happens.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use crate::run::watch_fd::watch_readable;

/// A file or folder that is watched.
pub(super) struct Watched(AsyncFd<OwnedFd>);

impl Watched {
    /// Watches for these events of what is at the path now.
    pub fn new(path: &Path, events: WatchFlags) -> io::Result<Self> {
        let queue = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        add_watch(&queue, path, events)?;
        Ok(Self(watch_readable(queue)?))
    }

    /// Waits for an event. Which it was, who watches knows; those that are read with it count as one.
    pub async fn happens(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            let mut events = [0; 4096];
            match rustix::io::read(ready.get_inner(), &mut events) {
                Ok(_) => return Ok(()),
                Err(Errno::AGAIN | Errno::INTR) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
