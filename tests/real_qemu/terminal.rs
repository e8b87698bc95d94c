//! A terminal with the program in it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use nix::unistd::Pid;
use textwrap::core::display_width;

use super::launcher::wait_for;
use super::world::own;

/// A terminal with the program in it.
pub struct Terminal {
    pub master: File,
    /// Kept open, so that the settings can be looked at after the program.
    pub slave: OwnedFd,
    pub child: Child,
    pub shown: String,
}

impl Terminal {
    pub fn with(command: Command) -> Self {
        Self::on(wide(), command)
    }

    /// A terminal that belongs to who runs the program, as one does after a login.
    pub fn of_user(command: Command) -> Self {
        let pty = wide();
        own(&nix::unistd::ttyname(&pty.slave).unwrap());
        Self::on(pty, command)
    }

    pub fn on(pty: OpenptyResult, mut command: Command) -> Self {
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        Self { master: File::from(pty.master), slave: pty.slave, child, shown: String::new() }
    }

    pub fn settings(&self) -> Termios {
        tcgetattr(&self.slave).unwrap()
    }

    pub fn is_raw(&self) -> bool {
        !self.settings().local_flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG)
    }

    /// Waits until it shows a text.
    pub fn shows(&mut self, text: &str) {
        wait_for(text, || {
            let mut ready = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            let mut part = [0; 1024];
            while poll(&mut ready, PollTimeout::ZERO).unwrap() > 0 {
                let n = (&self.master).read(&mut part).unwrap();
                self.shown.push_str(&String::from_utf8_lossy(&part[..n]));
            }
            (self.shown.contains(text) || without_messages(&self.shown).contains(text)).then_some(())
        });
    }

    /// Makes its window another size, and tells the program, as the kernel does for a session on the terminal.
    pub fn resize(&mut self, size: &Winsize) {
        // SAFETY: the descriptor is a terminal's, and the structure lives until the call returns.
        let set = unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, size) };
        assert_eq!(set, 0);
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGWINCH).unwrap();
    }

    pub fn types(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    pub fn code(&mut self) -> Option<i32> {
        wait_for("the program's end", || self.child.try_wait().unwrap()).code()
    }
}

/// A terminal that is wide enough for each message to be one line.
fn wide() -> OpenptyResult {
    openpty(&Winsize { ws_row: 24, ws_col: 1000, ws_xpixel: 0, ws_ypixel: 0 }, None).unwrap()
}

/// What a command shows on a terminal of so many columns until it ends, and how it ends.
pub fn shown(mut command: Command, columns: u16) -> (ExitStatus, String) {
    let pty = openpty(&Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }, None).unwrap();
    let end = || Stdio::from(pty.slave.try_clone().unwrap());
    command.stdin(Stdio::null()).stdout(end()).stderr(end()).env("TERM", "xterm-256color");
    let mut child = command.spawn().unwrap();
    drop((command, pty.slave));
    let (mut shown, mut part) = (Vec::new(), [0; 4096]);
    let mut master = File::from(pty.master);
    // EIO is a terminal's end.
    while let Ok(n @ 1..) = master.read(&mut part) {
        shown.extend_from_slice(&part[..n]);
    }
    (child.wait().unwrap(), String::from_utf8(shown).unwrap().replace('\r', ""))
}

/// Fails if a line is wider than so many columns. Only a path that has no room on any line, below the text before it, ends one.
pub fn fits(shown: &str, columns: u16) {
    /// No text is indented further.
    const MOST_INDENTED: usize = 16;
    let columns = usize::from(columns);
    let has_no_room = |line: &str| {
        let (before, word) = line.rsplit_once(' ').unwrap_or(("", line));
        word.contains('/') && display_width(word) + (display_width(before) + 1).min(MOST_INDENTED) > columns
    };
    let wide: Vec<&str> = shown.lines().filter(|line| display_width(line) > columns && !has_no_room(line)).collect();
    assert!(wide.is_empty(), "{wide:?} in\n{shown}");
}

/// What the guest said alone: a message may come in the middle of its words.
fn without_messages(shown: &str) -> String {
    let mut left = shown;
    let mut said = String::new();
    while let Some((before, message)) = left.split_once("vfio-run: ") {
        said.push_str(before);
        left = message.split_once('\n').map_or("", |(_, after)| after);
    }
    said + left
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- the terminal\n{}", self.shown);
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
