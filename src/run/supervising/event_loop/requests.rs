//! What is asked over the control socket.

use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::{Context as _, Result, bail};

use super::guest::Guest;
use crate::journal::Record;
use crate::machine::{HostDevice, Sign};
use crate::qemu::QmpError;
use crate::run::cables;
use crate::run::late::medium::{self, Medium};
use crate::run::late::{Access, FdSet};
use crate::run::supervising::control::{self, Reply, Request};
use crate::run::supervising::screen;
use crate::units::machine_state;

impl Guest<'_> {
    pub(super) async fn answer_client(&mut self, mut stream: tokio::net::UnixStream) {
        let Some((request, file)) = control::read(&mut stream).await else { return };
        let (mut device, mut done, mut refused) = (None, false, None);
        self.keeps_descriptors |= self.state != machine_state::RUNNING;
        match request {
            Request::Status => {}
            // A second `stop` may come from somebody else, so it does not count as a second request.
            Request::Stop if self.ending.requested() => {}
            Request::Stop => self.request_shutdown().await,
            Request::Alive => self.on_sign_of_life(Sign::Confirmed),
            Request::Force => {
                self.disarm();
                self.force_quit().await;
            }
            Request::Press(button) => match self.press(&button).await {
                Ok(()) => done = true,
                Err(error) => refused = Some(told(&error)),
            },
            Request::Screen => match self.picture(file).await {
                Ok(()) => done = true,
                Err(error) => refused = Some(format!("{error:#}")),
            },
            _ => match self.change_devices(&request).await {
                Ok(name) => device = Some(name),
                Err(error) => refused = Some(told(&error)),
            },
        }
        let stopping = self.ending.requested() && self.state == machine_state::RUNNING;
        let state = if stopping { machine_state::STOPPING } else { &self.state };
        let (state, launcher) = (state.to_owned(), std::process::id() as i32);
        control::answer(stream, &Reply { state, launcher, qemu: self.qemu.pid(), device, done, refused }).await;
    }

    /// Has QEMU close what it has kept, once the guest goes on.
    pub(super) async fn close_descriptors(&mut self) {
        if !self.keeps_descriptors || self.state != machine_state::RUNNING {
            return;
        }
        self.keeps_descriptors = false;
        let Some(qmp) = &mut self.qmp else { return };
        if let Err(error) = FdSet::remove_left(qmp).await {
            tracing::debug!("QEMU keeps descriptors that it does not need: {error:#}");
        }
    }

    async fn picture(&mut self, file: Option<OwnedFd>) -> Result<()> {
        let file = file.context("no file came along for the picture")?;
        let qmp = self.qmp.as_mut().context("QEMU has closed its monitor")?;
        screen::write(self.plan, qmp, file.as_fd()).await
    }

    /// Gives the guest a device, takes one from it, or plugs its cables in or out; which it is.
    pub(super) async fn change_devices(&mut self, request: &Request) -> Result<String> {
        let Self { plan, qmp, late, journal, .. } = self;
        let qmp = qmp.as_mut().context("QEMU has closed its monitor")?;
        let mut access = Access { plan, qmp, journal };
        match request {
            Request::Attach(device) => late.attach_usb(&mut access, device).await,
            Request::Detach(device) => late.detach(&mut access, &HostDevice::Usb(device.clone())).await,
            Request::Share(path) => late.attach_input(&mut access, path).await,
            Request::Unshare(path) => late.detach(&mut access, &HostDevice::Input(path.clone())).await,
            Request::AttachDisk(disk) => late.attach_disk(&mut access, disk).await,
            Request::DetachDisk(file) => late.detach(&mut access, &HostDevice::Disk(file.clone())).await,
            Request::Medium { drive, file, force } => {
                let medium = Medium { drive: drive.as_deref(), file: file.as_deref(), force: *force };
                medium::change(&mut access, medium).await
            }
            Request::Link { up } => {
                let cards = cables::set(plan, *up, access.qmp).await?;
                access.journal.append(Record::Link { up: *up })?;
                Ok(cards)
            }
            Request::Status | Request::Alive | Request::Stop | Request::Force | Request::Press(_) | Request::Screen => {
                bail!("this is no request for a device")
            }
        }
    }
}

/// Why something was not done. What QEMU did not answer in time it has read, and may do yet.
fn told(error: &anyhow::Error) -> String {
    format!("{error:#}{}", if QmpError::is_late(error) { "; it may still be done when QEMU answers again" } else { "" })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_qemu_did_not_answer_may_still_be_done() {
        let late = QmpError::Deadline { command: "stop".to_owned(), after: Duration::from_secs(5) };
        let words = told(&anyhow::Error::from(late).context("not paused"));
        assert!(
            words.ends_with("did not answer `stop` within 5s; it may still be done when QEMU answers again"),
            "{words}"
        );
        assert!(!told(&QmpError::Closed.into()).contains("may still"));
    }
}
