//! A root shell on a lab host's console, for somebody who looks at it.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use anyhow::Result;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::host::Init;
use super::lab::Lab;

/// Ctrl+], as in telnet and virsh.
pub const LEAVE: u8 = 0x1d;

/// Puts a root shell on the console. Only for who looks: a test's host shall have no session that nobody opened.
pub fn log_in(lab: &Lab) -> Result<()> {
    if lab.host.init == Init::Plain {
        return lab.sh("setsid bash -c 'cd; exec bash -il </dev/ttyS0 >/dev/ttyS0 2>&1' &").map(drop);
    }
    let login = "[Service]\nExecStart=\nExecStart=-/sbin/agetty --autologin root --keep-baud 115200 %I vt220";
    lab.write("/run/systemd/system/serial-getty@ttyS0.service.d/autologin.conf", login)?;
    // The unit is bound to its device, of which the boot told systemd nothing (`l1/udev-trigger.conf`).
    lab.sh("systemctl daemon-reload; udevadm trigger --action=add --settle /sys/class/tty/ttyS0; \
         systemctl restart serial-getty@ttyS0.service")
        .map(drop)
}

/// Passes on what is typed and what is shown until Ctrl+], or until the host or the input is gone.
pub fn connect(mut console: UnixStream, mut input: impl Read + AsFd, mut output: impl Write) -> Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let mut fds = [PollFd::new(input.as_fd(), PollFlags::POLLIN), PollFd::new(console.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::NONE)?;
        let (typed, shown) = (fds[0].any() == Some(true), fds[1].any() == Some(true));
        if shown {
            match console.read(&mut buffer)? {
                0 => return Ok(()),
                count => {
                    output.write_all(&buffer[..count])?;
                    output.flush()?;
                }
            }
        }
        if typed {
            let count = input.read(&mut buffer)?;
            if count == 0 || buffer[..count].contains(&LEAVE) {
                return Ok(());
            }
            console.write_all(&buffer[..count])?;
        }
    }
}
