//! Waits until QEMU's monitor answers.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::qemu::Qmp;
use crate::qemu::qmp::Answer;
use crate::run::kept::log::Log;
use crate::run::process::Watched;
use anyhow::{Result, bail};

/// How long a QEMU that closed its monitor may take to exit.
const EXIT_LIMIT: Duration = Duration::from_secs(10);

/// Waits for QEMU's greeting on its monitor, and then for its answers to these commands: QEMU greets before it makes its
/// devices, and answers after that. If QEMU exits instead, the error quotes what it said.
pub(in crate::run) async fn wait_for_greeting<const N: usize>(
    stream: UnixStream,
    qemu: &Watched,
    log: &Log,
    commands: [&str; N],
    limit: Duration,
) -> Result<(Qmp, [Answer; N])> {
    stream.set_nonblocking(true)?;
    let stream = tokio::net::UnixStream::from_std(stream)?;
    let error = tokio::select! {
        answered = Qmp::negotiate_and_ask(stream, commands, limit) => match answered {
            Ok(answers) => return Ok(answers),
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
        Some(status) => bail!("QEMU did not start ({status}){}", log.quote()),
        None => Err(error.context(format!("QEMU did not start{}", log.quote()))),
    }
}
