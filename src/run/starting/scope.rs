//! A transient scope of systemd's for QEMU: the launcher may have been started in a session that ends before the guest.
//! Source: org.freedesktop.systemd1(5), `StartTransientUnit`.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use zbus::zvariant::Value;

use super::transient_unit::DELEGATED;
use crate::plan::Plan;
use crate::systemd::{ANSWER_LIMIT, Properties, Systemd, SystemdError};

/// How long systemd may take to forget a scope whose last process has ended.
const FORGOTTEN_LIMIT: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_millis(20);

/// How long systemd waits for a QEMU that it has sent SIGTERM.
const UNATTENDED_STOP: Duration = Duration::from_secs(10);

/// A scope that is to be made.
#[derive(Debug)]
pub struct Scope<'a> {
    name: &'a str,
    /// What `systemctl status` calls it.
    description: String,
    /// The connection that systemd asks to end it: the launcher's.
    controller: Option<&'a str>,
    /// How long the launcher may take for that.
    stop: Duration,
    /// Whether groups are made below it.
    divided: bool,
    /// The slice that it is in; `None`: the system's.
    slice: Option<&'a str>,
}

impl<'a> Scope<'a> {
    /// The plan's, of this name. `controller` and `stop`: who ends it if systemd asks, and how long that may take.
    pub fn of(plan: &'a Plan, name: &'a str, controller: Option<&'a str>, stop: Duration) -> Self {
        let isolation = plan.isolation.as_ref();
        Self {
            name,
            description: format!("Guest of vfio-run: {}", plan.name),
            controller,
            stop,
            divided: isolation.is_some_and(|isolation| isolation.threads.is_some()),
            slice: isolation.and_then(|isolation| isolation.slice.as_deref()),
        }
    }
}

/// Has systemd put these processes into a scope, and waits until they are there. What is left of an earlier scope of the
/// name is cleared away first.
pub async fn enter(scope: &Scope<'_>, pids: &[u32]) -> Result<()> {
    let name = scope.name;
    let systemd = Systemd::connect().await?;
    // A failed scope of an earlier run keeps the name; that there is none is the usual case.
    systemd.reset_failed(name).await;
    let deadline = Instant::now() + FORGOTTEN_LIMIT;
    let started = loop {
        let started = systemd.start_transient(name, properties(scope, pids), Some(ANSWER_LIMIT)).await;
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

fn properties<'a>(scope: &'a Scope<'_>, pids: &[u32]) -> Properties<'a> {
    // The launcher ends QEMU. systemd does, if it is asked to stop the scope and there is no launcher to ask, or it takes too
    // long.
    let stop = if scope.controller.is_some() { scope.stop } else { UNATTENDED_STOP };
    let mut properties = vec![
        ("Description", Value::from(scope.description.as_str())),
        ("PIDs", Value::from(pids.to_vec())),
        ("CollectMode", Value::from("inactive-or-failed")),
        ("TimeoutStopUSec", Value::from(stop.as_micros() as u64)),
    ];
    properties.extend(scope.controller.map(|name| ("Controller", Value::from(name))));
    if scope.divided {
        properties.push(("DelegateControllers", Value::from(DELEGATED.to_vec())));
    }
    properties.extend(scope.slice.map(|slice| ("Slice", Value::from(slice))));
    properties
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
        // Each of them matters: without `PIDs` systemd refuses, without `CollectMode` a scope that failed keeps the name,
        // by default systemd waits 90 s before it kills a QEMU in a scope that is stopped, and without `Controller` a host
        // that shuts down ends QEMU by SIGTERM, which is a power cut to its guest.
        let expected = |stop: u64| {
            vec![
                ("Description", Value::from("Guest of vfio-run: win11")),
                ("PIDs", Value::from(vec![7u32, 8])),
                ("CollectMode", Value::from("inactive-or-failed")),
                ("TimeoutStopUSec", Value::from(stop)),
            ]
        };
        let mut scope = Scope {
            name: "a.scope",
            description: "Guest of vfio-run: win11".to_owned(),
            controller: None,
            stop: Duration::from_secs(180),
            divided: false,
            slice: None,
        };
        assert_eq!(properties(&scope, &[7, 8]), expected(10_000_000));
        scope.controller = Some(":1.42");
        let mut attended = expected(180_000_000);
        attended.push(("Controller", Value::from(":1.42")));
        assert_eq!(properties(&scope, &[7, 8]), attended);
        scope.divided = true;
        attended.push(("DelegateControllers", Value::from(vec!["cpuset", "pids"])));
        assert_eq!(properties(&scope, &[7, 8]), attended);
        scope.slice = Some("vfiorunwin11.slice");
        attended.push(("Slice", Value::from("vfiorunwin11.slice")));
        assert_eq!(properties(&scope, &[7, 8]), attended);
    }
}
