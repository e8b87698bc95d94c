//! Waiting for a child to end.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// A descriptor that becomes readable when the child has ended. Race-free until the child is waited for.
pub fn pidfd(child: &process::Child) -> io::Result<OwnedFd> {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?)
}

/// Waits for a child to end, until the deadline at the latest; `None` if it still runs then.
pub fn wait_until(child: &mut process::Child, deadline: Instant) -> io::Result<Option<process::ExitStatus>> {
    let pidfd = pidfd(child)?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        // Rounded up, so that the last wait is not a spin of zero milliseconds.
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
