//! What systemd is told: ready, what is going on, stopping. Does nothing where nobody listens.

use sd_notify::NotifyState;

/// The guest runs.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// What is going on, as `systemctl status` shows it.
pub fn status(text: &str) {
    send(&[NotifyState::Status(text)]);
}

/// The guest ends, or has ended, and the host is being put back.
pub fn stopping(text: &str) {
    send(&[NotifyState::Stopping, NotifyState::Status(text)]);
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(states) {
        tracing::debug!("systemd could not be told: {e}");
    }
}
