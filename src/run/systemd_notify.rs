//! Notifies systemd (sd_notify(3)): ready, what is going on, stopping. Does nothing outside of a unit that listens.

use sd_notify::NotifyState;

/// The guest runs.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// What is going on, as `systemctl status` shows it.
pub fn status(text: &str) {
    send(&[NotifyState::Status(text)]);
}

/// The guest ends, or has ended, and the host is being restored.
pub fn stopping(text: &str) {
    send(&[NotifyState::Stopping, NotifyState::Status(text)]);
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(states) {
        tracing::debug!("cannot notify systemd: {e}");
    }
}
