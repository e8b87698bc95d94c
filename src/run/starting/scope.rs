//! A transient scope of systemd's for QEMU: the launcher may have been started in a session that ends before the guest.
//! Source: org.freedesktop.systemd1(5), `StartTransientUnit`.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use zbus::zvariant::Value;

use crate::systemd::{ANSWER_LIMIT, Properties, Systemd, SystemdError};

/// How long systemd may take to forget a scope whose last process has ended.
const FORGOTTEN_LIMIT: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_millis(20);

/// Has systemd put these processes into a scope of this name, and waits until they are there. What is left of an
/// earlier scope of the name is cleared away first.
pub async fn enter(name: &str, description: &str, pids: &[u32]) -> Result<()> {
    let systemd = Systemd::connect().await?;
    // A failed scope of an earlier run keeps the name; that there is none is the usual case.
    systemd.reset_failed(name).await;
    let deadline = Instant::now() + FORGOTTEN_LIMIT;
    let started = loop {
        let started = systemd.start_transient(name, properties(description, pids), Some(ANSWER_LIMIT)).await;
        match started {
            // The scope of a QEMU that has just ended, which is being started anew; systemd is about to forget it.
            Err(error) if is_there(&error) && Instant::now() < deadline => tokio::time::sleep(AGAIN).await,
            started => break started,
        }
    };
    started.with_context(|| format!("systemd did not make {name}"))?;
    // The job has ended whether or not the kernel let them in.
    if !pids.iter().all(|pid| is_in(*pid, name)) {
        bail!("systemd did not put QEMU into {name}");
    }
    Ok(())
}

/// Whether systemd refused a unit because one of this name is there.
fn is_there(error: &SystemdError) -> bool {
    matches!(error, SystemdError::Refused(zbus::Error::MethodError(name, ..)) if name.ends_with(".UnitExists"))
}

fn properties<'a>(description: &'a str, pids: &[u32]) -> Properties<'a> {
    vec![
        ("Description", Value::from(description)),
        ("PIDs", Value::from(pids.to_vec())),
        ("CollectMode", Value::from("inactive-or-failed")),
        // The launcher ends QEMU; systemd only if it is asked to stop the scope itself.
        ("TimeoutStopUSec", Value::from(10_000_000u64)),
    ]
}

fn is_in(pid: u32, scope: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| text.trim_end().ends_with(scope))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scope_holds_qemu_and_is_forgotten_with_it() {
        // Each of them matters: without `PIDs` systemd refuses, without `CollectMode` a scope that failed keeps the name,
        // and by default systemd waits 90 s before it kills a QEMU in a scope that is stopped.
        let expected = [
            ("Description", Value::from("Guest of vfio-run: win11")),
            ("PIDs", Value::from(vec![7u32, 8])),
            ("CollectMode", Value::from("inactive-or-failed")),
            ("TimeoutStopUSec", Value::from(10_000_000u64)),
        ];
        assert_eq!(properties("Guest of vfio-run: win11", &[7, 8]), expected);
    }
}
