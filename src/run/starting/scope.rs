//! A transient scope of systemd's for QEMU: the launcher may have been started in a session that ends before the guest.
//! Source: org.freedesktop.systemd1(5), `StartTransientUnit`.

use anyhow::{Context as _, Result, bail};
use tokio::time::{Duration, timeout};
use zbus::zvariant::Value;

/// How long systemd may take over it; it is asked while QEMU starts.
const LIMIT: Duration = Duration::from_secs(10);

type Properties<'a> = Vec<(&'a str, Value<'a>)>;

/// Has systemd put these processes into a scope of this name, and waits until they are there. What is left of an
/// earlier scope of the name is cleared away first.
pub async fn enter(name: &str, description: &str, pids: &[u32]) -> Result<()> {
    let bus = timeout(LIMIT, zbus::Connection::system()).await.context("the system bus does not answer")??;
    let manager = zbus::Proxy::new(
        &bus,
        "org.freedesktop.systemd1",
        "/org/freedesktop/systemd1",
        "org.freedesktop.systemd1.Manager",
    )
    .await?;
    // A failed scope of an earlier run keeps the name; that there is none is the usual case.
    let _ = timeout(LIMIT, manager.call_method("ResetFailedUnit", &(name,))).await;
    let properties: Properties<'_> = vec![
        ("Description", Value::from(description)),
        ("PIDs", Value::from(pids.to_vec())),
        ("CollectMode", Value::from("inactive-or-failed")),
        // The launcher ends QEMU; systemd only if it is asked to stop the scope itself.
        ("TimeoutStopUSec", Value::from(10_000_000u64)),
    ];
    let auxiliary: Vec<(&str, Properties<'_>)> = Vec::new();
    let arguments = (name, "fail", properties, auxiliary);
    let call = manager.call::<_, _, zbus::zvariant::OwnedObjectPath>("StartTransientUnit", &arguments);
    timeout(LIMIT, call).await.context("systemd does not answer")?.with_context(|| format!("cannot make {name}"))?;
    let deadline = tokio::time::Instant::now() + LIMIT;
    while !pids.iter().all(|pid| is_in(*pid, name)) {
        if tokio::time::Instant::now() > deadline {
            bail!("systemd did not put QEMU into {name}");
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

fn is_in(pid: u32, scope: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| text.trim_end().ends_with(scope))
}
