//! Watches a descriptor in the event loop.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches a descriptor until it is readable. Fails for what epoll cannot watch: regular files, /dev/null.
pub fn watch_readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    register(fd, Interest::READABLE)
}

/// The same until it is writable.
pub fn watch_writable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    register(fd, Interest::WRITABLE)
}

fn register(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by the value that is handed over, which keeps it open, and the same, until it is
    // dropped after its registration.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(io::Error::from)
}
