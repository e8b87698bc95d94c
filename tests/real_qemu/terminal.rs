//! A terminal with the program in it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{OpenptyResult, openpty};
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};

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
        Self::on(openpty(None, None).unwrap(), command)
    }

    /// A terminal that belongs to who runs the program, as one does after a login.
    pub fn of_user(command: Command) -> Self {
        let pty = openpty(None, None).unwrap();
        own(&nix::unistd::ttyname(&pty.slave).unwrap());
        Self::on(pty, command)
    }

    fn on(pty: OpenptyResult, mut command: Command) -> Self {
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

    pub fn types(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    pub fn code(&mut self) -> Option<i32> {
        wait_for("the program's end", || self.child.try_wait().unwrap()).code()
    }
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
