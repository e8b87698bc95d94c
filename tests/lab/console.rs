//! Sitting at a lab host's console from a terminal.

use std::io::IsTerminal;
use std::os::unix::net::UnixStream;

use anyhow::Result;
use nix::sys::termios::{self, SetArg, Termios};

use super::kit::console::{connect, log_in};
use super::kit::lab::Lab;

/// Connects the terminal with the console until Ctrl+], or until the host is gone.
pub fn sit_at(lab: &Lab, console: UnixStream) -> Result<()> {
    eprintln!("lab: root shell in {}; Ctrl+] leaves and throws the host away", lab.path().display());
    let _raw = Raw::new()?;
    let (rows, columns) = size().unwrap_or((24, 80));
    lab.sh(&format!("stty -F /dev/ttyS0 rows {rows} cols {columns}"))?;
    log_in(lab)?;
    connect(console, std::io::stdin(), std::io::stdout())
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
