//! Sitting at a lab host's console from a terminal.

use std::io::{IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use anyhow::Result;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{self, SetArg, Termios};

use super::kit::host::Init;
use super::kit::lab::Lab;

/// Ctrl+], as in telnet and virsh.
const LEAVE: u8 = 0x1d;

/// Connects the terminal with the console until Ctrl+], or until the host is gone.
pub fn sit_at(lab: &Lab, mut console: UnixStream) -> Result<()> {
    eprintln!("lab: root shell in {}; Ctrl+] leaves and throws the host away", lab.path().display());
    let _raw = Raw::new()?;
    let (rows, columns) = size().unwrap_or((24, 80));
    lab.sh(&format!("stty -F /dev/ttyS0 rows {rows} cols {columns}"))?;
    log_in(lab)?;
    let mut input = std::io::stdin();
    let mut buffer = [0; 4096];
    loop {
        let mut fds = [PollFd::new(input.as_fd(), PollFlags::POLLIN), PollFd::new(console.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::NONE)?;
        let (typed, shown) = (fds[0].any() == Some(true), fds[1].any() == Some(true));
        if shown {
            match console.read(&mut buffer)? {
                0 => return Ok(()),
                count => {
                    std::io::stdout().write_all(&buffer[..count])?;
                    std::io::stdout().flush()?;
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

/// Puts a root shell on the console. Only here: a test's host shall have no session that nobody opened.
fn log_in(lab: &Lab) -> Result<()> {
    if lab.host.init == Init::Plain {
        return lab.sh("setsid bash -c 'cd; exec bash -il </dev/ttyS0 >/dev/ttyS0 2>&1' &").map(drop);
    }
    let login = "[Service]\nExecStart=\nExecStart=-/sbin/agetty --autologin root --keep-baud 115200 %I vt220";
    lab.write("/run/systemd/system/serial-getty@ttyS0.service.d/autologin.conf", login)?;
    lab.sh("systemctl daemon-reload; systemctl restart serial-getty@ttyS0.service").map(drop)
}

/// The terminal in raw mode, until dropped.
struct Raw(Option<Termios>);

impl Raw {
    fn new() -> Result<Self> {
        let input = std::io::stdin();
        if !input.is_terminal() {
            return Ok(Self(None));
        }
        let before = termios::tcgetattr(&input)?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(&input, SetArg::TCSANOW, &raw)?;
        Ok(Self(Some(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = termios::tcsetattr(std::io::stdin(), SetArg::TCSANOW, before);
        }
    }
}

/// Rows and columns of the terminal.
fn size() -> Option<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ fills the structure that it is given.
    let result = unsafe { libc::ioctl(0, libc::TIOCGWINSZ, &raw mut size) };
    (result == 0 && size.ws_row > 0).then_some((size.ws_row, size.ws_col))
}
