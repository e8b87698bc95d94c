//! The launcher goes on in a unit of systemd's, out of the session that it is about to end.
//! Source: org.freedesktop.systemd1(5), `StartTransientUnit`; properties as `systemd-run` sets them.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use zbus::zvariant::Value;

use crate::child::wait_until;
use crate::machine::SHUTDOWN_TIMEOUT;
use crate::plan::{Move, UnitGroup};
use crate::systemd::{ANSWER_LIMIT, Mode, Properties, Systemd, SystemdError, blocking};

/// How long a start may take: huge pages and the filling of the guest's memory can take minutes.
const START_LIMIT: Duration = Duration::from_secs(600);
/// How much longer than the guest's own time systemd waits: QEMU's quit, a QEMU in which the kernel is stuck, the
/// helpers' end and putting the host back.
const STOP_GRACE: Duration = Duration::from_secs(90);
/// Enough to make a group for the guest and a partition of CPUs below it; each controller is switched on for all units of
/// the host.
pub const DELEGATED: [&str; 2] = ["cpuset", "pids"];

/// Those for a unit that divides its CPUs, or does not.
pub fn delegated(divided: bool) -> &'static [&'static str] {
    if divided { &DELEGATED } else { &DELEGATED[1..] }
}

/// Beyond the start itself: `ExecStopPost=` restores the host after a start that failed.
const FAILURE_LIMIT: Duration = Duration::from_secs(300);
/// How many of the unit's messages are repeated if it failed.
const MESSAGES: &str = "20";

/// The variables that what is found on the host depends on. Those of the session's screen end with it.
const PASSED_ON: [&str; 5] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ"];

/// What the unit runs.
#[derive(Debug)]
pub struct Service<'a> {
    /// The machine's name.
    pub name: &'a str,
    /// This program.
    pub program: &'a Path,
    /// Its arguments.
    pub arguments: &'a [String],
    /// What systemd waits for.
    pub waits: Waits,
    /// What we wait for.
    pub until: Until,
}

impl Service<'_> {
    /// How long its start may take; `None`: as long as it takes.
    fn limit(&self) -> Option<Duration> {
        (self.until == Until::GuestRuns).then(|| self.waits.limit_of_start())
    }
}

/// What a unit's start waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// The guest runs, as the launcher says.
    GuestRuns,
    /// The program has ended, however long that takes.
    Ended,
}

/// What systemd waits for besides the program's own work, in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Waits {
    /// The guest's end.
    pub guest: u32,
    /// Hooks before the guest.
    pub start: u32,
    /// Hooks after it.
    pub end: u32,
}

impl Default for Waits {
    /// Those with a machine whose file says nothing of it.
    fn default() -> Self {
        Self { guest: SHUTDOWN_TIMEOUT, start: 0, end: 0 }
    }
}

impl Waits {
    /// How long a start may take.
    pub fn limit_of_start(self) -> Duration {
        START_LIMIT + Duration::from_secs(self.start.into())
    }

    /// How long a stop may take.
    pub fn limit_of_stop(self) -> Duration {
        STOP_GRACE + Duration::from_secs(u64::from(self.guest) + u64::from(self.end))
    }
}

/// How the unit's start went.
#[derive(Debug)]
pub enum Started {
    /// The guest runs, or the program has ended well meanwhile.
    Well,
    /// It failed.
    Failed {
        /// The exit code; `None` if the launcher there was killed.
        code: Option<u8>,
        /// Its last messages.
        messages: Vec<String>,
    },
}

/// Starts the unit and waits until what was waited for has come, or the unit has failed.
///
/// # Errors
/// When systemd refuses, or does not answer. If only the answer is missing, the unit goes on.
pub async fn go_on_in_unit(moves: &Move, service: &Service<'_>) -> Result<Started> {
    let systemd = Systemd::connect().await?;
    let unit = moves.unit.as_str();
    // What failed before keeps the name; that there is none is the usual case.
    systemd.reset_failed(unit).await;
    let limit = service.limit().map(|limit| limit + FAILURE_LIMIT);
    let started = match moves.installed {
        true => systemd.start(unit, Mode::Fail, limit).await,
        false => {
            let environment = PASSED_ON.iter().filter_map(|name| Some((*name, std::env::var(name).ok()?)));
            let properties = properties(service, &moves.group, environment)?;
            systemd.start_transient(unit, properties, limit).await
        }
    };
    match started {
        Ok(()) => {}
        Err(error @ SystemdError::Late { .. }) => bail!("{unit}: {error}; `systemctl status {unit}` says more"),
        Err(error) => return Err(error).with_context(|| format!("systemd did not start {unit}")),
    }
    // The job of a start that failed ends with the unit's `ExecStopPost=`; of one that succeeded, at once.
    let settled = |state: &str| matches!(state, "active" | "inactive" | "failed");
    if systemd.wait_for(unit, FAILURE_LIMIT, settled).await? == "active" {
        return Ok(Started::Well);
    }
    let result: String = systemd.property(unit, "Service", "Result").await?;
    if result == "success" {
        return Ok(Started::Well);
    }
    let status: i32 = systemd.property(unit, "Service", "ExecMainStatus").await?;
    let code = u8::try_from(status).ok().filter(|_| result == "exit-code");
    let invocation: Vec<u8> = systemd.property(unit, "Unit", "InvocationID").await?;
    Ok(Started::Failed { code, messages: messages(&invocation) })
}

/// Whether this process is in this slice at the top.
pub fn is_in_slice(slice: &str) -> bool {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let is_in = |line: &str| line.strip_prefix("0::/").is_some_and(|path| path.split('/').next() == Some(slice));
    own.lines().any(is_in)
}

/// Has systemd end the slice when this unit, which is in it and has nothing more to do, has ended: it keeps a slice whose last
/// unit has ended. If somebody wants the unit anew, the slice stays.
pub fn end_own_slice(slice: &str) {
    if is_in_slice(slice)
        && let Err(error) = blocking(async |systemd| systemd.stop_later(slice).await)
    {
        tracing::debug!("{slice} stays: {error}");
    }
}

/// The unit's properties: those that `vfio-run unit` writes, except that a program that is to end is `oneshot`, since its
/// whole work is the start. systemd keeps the unit while our connection stands (`AddRef`), so that a failed one still has
/// its exit code when we ask for it.
fn properties<'a>(
    service: &Service<'a>,
    group: &'a UnitGroup,
    environment: impl Iterator<Item = (&'static str, String)>,
) -> Result<Properties<'a>> {
    let program = service.program.to_str().context("this program's path is not UTF-8, which a unit must be")?;
    let run = |arguments: Vec<&str>| {
        let argv: Vec<String> = std::iter::once(program).chain(arguments).map(str::to_owned).collect();
        // Program, arguments with the program's name, and whether a failure is ignored.
        Value::from(vec![(program.to_owned(), argv, false)])
    };
    let limit = service.limit();
    let microseconds = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let environment: Vec<String> = environment.map(|(name, value)| format!("{name}={value}")).collect();
    let mut properties = vec![
        ("Description", Value::from(format!("Virtual machine {}", service.name))),
        ("Type", Value::from(if limit.is_some() { "notify" } else { "oneshot" })),
        ("NotifyAccess", Value::from(if limit.is_some() { "main" } else { "none" })),
        ("ExecStart", run(service.arguments.iter().map(String::as_str).collect())),
        ("ExecStopPost", run(vec!["recover", service.name])),
        ("KillMode", Value::from("mixed")),
        ("DelegateControllers", Value::from(delegated(group.divided).to_vec())),
        ("TimeoutStartUSec", Value::from(limit.map_or(u64::MAX, microseconds))),
        ("TimeoutStopUSec", Value::from(microseconds(service.waits.limit_of_stop()))),
        ("LimitMEMLOCK", Value::from(u64::MAX)),
        ("Environment", Value::from(environment)),
        ("CollectMode", Value::from("inactive-or-failed")),
        ("AddRef", Value::from(true)),
    ];
    properties.extend(group.slice.as_deref().map(|slice| ("Slice", Value::from(slice))));
    Ok(properties)
}

/// The last messages of one run of the unit. Without them there is still the exit code.
fn messages(invocation: &[u8]) -> Vec<String> {
    let id: String = invocation.iter().map(|byte| format!("{byte:02x}")).collect();
    // What was said last may be on its way still; a journal that does not answer is read as it is.
    let sync = Command::new("journalctl").arg("--sync").stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    if let Ok(mut sync) = sync
        && !matches!(wait_until(&mut sync, std::time::Instant::now() + ANSWER_LIMIT), Ok(Some(_)))
    {
        drop(sync.kill());
    }
    let mut journalctl = Command::new("journalctl");
    journalctl.args(["--quiet", "--no-pager", "--output=cat", "--lines", MESSAGES]);
    let output = journalctl.arg(format!("_SYSTEMD_INVOCATION_ID={id}")).stderr(Stdio::null()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().map(|line| line.chars().filter(|c| !c.is_control()).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The properties, as text with their types.
    fn of(until: Until) -> Vec<(String, String)> {
        let service = Service {
            name: "win11",
            program: Path::new("/usr/bin/vfio-run"),
            arguments: &["run".to_owned(), "/srv/win11.ron".to_owned()],
            waits: Waits { guest: 120, start: 30, end: 90 },
            until,
        };
        let group = UnitGroup { slice: None, divided: true };
        text(properties(&service, &group, [("HOME", "/root".to_owned())].into_iter()).unwrap())
    }

    fn text(properties: Properties<'_>) -> Vec<(String, String)> {
        properties.into_iter().map(|(name, value)| (name.to_owned(), value.to_string())).collect()
    }

    #[test]
    fn the_unit_ends_its_launcher_gently_and_puts_the_host_back() {
        let run = |arguments: &[&str]| {
            let program = "/usr/bin/vfio-run".to_owned();
            let argv: Vec<String> =
                std::iter::once(&*program).chain(arguments.iter().copied()).map(str::to_owned).collect();
            Value::from(vec![(program, argv, false)])
        };
        let guest = of(Until::GuestRuns);
        let expected = vec![
            ("Description", Value::from("Virtual machine win11")),
            ("Type", Value::from("notify")),
            ("NotifyAccess", Value::from("main")),
            ("ExecStart", run(&["run", "/srv/win11.ron"])),
            ("ExecStopPost", run(&["recover", "win11"])),
            // SIGTERM for the launcher alone, which presses the guest's power button; SIGKILL for all when it has died.
            ("KillMode", Value::from("mixed")),
            ("DelegateControllers", Value::from(vec!["cpuset", "pids"])),
            ("TimeoutStartUSec", Value::from(630_000_000u64)),
            ("TimeoutStopUSec", Value::from(300_000_000u64)),
            ("LimitMEMLOCK", Value::from(u64::MAX)),
            ("Environment", Value::from(vec!["HOME=/root"])),
            ("CollectMode", Value::from("inactive-or-failed")),
            // Else a unit that failed is forgotten before its exit code is read.
            ("AddRef", Value::from(true)),
        ];
        assert_eq!(guest, text(expected));
        let service = Service {
            name: "win11",
            program: Path::new("/usr/bin/vfio-run"),
            arguments: &[],
            waits: Waits { guest: 120, start: 0, end: 0 },
            until: Until::GuestRuns,
        };
        let group = UnitGroup { slice: Some("vfiorunwin11.slice".to_owned()), divided: false };
        let sliced = properties(&service, &group, std::iter::empty()).unwrap();
        assert!(sliced.contains(&("Slice", Value::from("vfiorunwin11.slice"))));
        assert!(sliced.contains(&("DelegateControllers", Value::from(vec!["pids"]))));
        // A program whose end is waited for has as long as it takes.
        let rehearsal = of(Until::Ended);
        let changed: Vec<_> = rehearsal.into_iter().filter(|property| !guest.contains(property)).collect();
        let expected = vec![
            ("Type", Value::from("oneshot")),
            ("NotifyAccess", Value::from("none")),
            ("TimeoutStartUSec", Value::from(u64::MAX)),
        ];
        assert_eq!(changed, text(expected));
    }
}
