//! Waits until QEMU's monitor greets.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::qemu::Qmp;
use crate::run::kept::log::Log;
use crate::run::process::Watched;

/// How long a QEMU that closed its monitor may take to exit.
const EXIT_LIMIT: Duration = Duration::from_secs(10);

/// Waits for QEMU's greeting on its monitor. If QEMU exits instead, the error quotes what it said.
pub(in crate::run) async fn wait_for_greeting(
    stream: UnixStream,
    qemu: &Watched,
    log: &Log,
    limit: Duration,
) -> Result<Qmp> {
    stream.set_nonblocking(true)?;
    let stream = tokio::net::UnixStream::from_std(stream)?;
    let error = tokio::select! {
        greeted = Qmp::negotiate(stream, limit) => match greeted {
            Ok(qmp) => return Ok(qmp),
            Err(e) => anyhow::Error::new(e),
        },
        ended = qemu.ended() => match ended {
            Ok(()) => anyhow::anyhow!("it exited before its monitor answered"),
            Err(e) => e,
        },
    };
    // Its last messages are in the log only when it has exited.
    drop(tokio::time::timeout(EXIT_LIMIT, qemu.ended()).await);
    match qemu.reap() {
        Some(status) => bail!("QEMU did not start ({status}):{}", log.quote()),
        None => Err(error.context(format!("QEMU did not start:{}", log.quote()))),
    }
}
