//! The launcher goes on in a unit of systemd's, out of the session that it is about to end.
//! Source: org.freedesktop.systemd1(5), `StartTransientUnit`; properties as `systemd-run` sets them.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::time::{Instant, sleep, timeout};
use zbus::zvariant::{OwnedObjectPath, OwnedValue, Value};

use crate::child::wait_until;
use crate::plan::Move;

/// How long a start may take: a huge page reservation and the guest's memory can take minutes.
const START_LIMIT: Duration = Duration::from_secs(600);
/// How much longer than the guest's own time systemd waits: QEMU's quit, a QEMU that the kernel does not let go, the
/// helpers' end and putting the host back.
const STOP_GRACE: Duration = Duration::from_secs(90);
/// Enough to make a group for the guest; more controllers would switch them on for the whole host.
pub const DELEGATED: &str = "pids";
/// The kernel's last choice when memory runs out.
pub const OOM_SCORE_ADJUST: i32 = -500;

/// How long systemd may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Beyond the start itself: `ExecStopPost=` puts the host back after a start that failed.
const FAILURE_LIMIT: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(100);
/// How many of the unit's messages are repeated where it failed.
const MESSAGES: &str = "20";

/// The variables that what is found on the host depends on. Those of the session's screen end with it.
const PASSED_ON: [&str; 5] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ"];

const SYSTEMD: &str = "org.freedesktop.systemd1";
type Properties<'a> = Vec<(&'a str, Value<'a>)>;

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
        /// The exit code; `None` where the launcher there was killed.
        code: Option<u8>,
        /// Its last messages.
        messages: Vec<String>,
    },
}

/// Starts the unit and waits until what was waited for has come, or the unit has failed.
///
/// # Errors
/// When systemd refuses, or does not answer. The unit goes on where only the answer is missing.
pub async fn go_on_in_unit(moves: &Move, service: &Service<'_>) -> Result<Started> {
    let bus = timeout(ANSWER_LIMIT, zbus::Connection::system()).await.context("the system bus does not answer")??;
    let manager =
        zbus::Proxy::new(&bus, SYSTEMD, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager").await?;
    let unit = moves.unit.as_str();
    // What failed before keeps the name; that there is none is the usual case.
    let _ = timeout(ANSWER_LIMIT, manager.call_method("ResetFailedUnit", &(unit,))).await;
    let refused = || format!("systemd did not start {unit}");
    if moves.installed {
        let arguments = (unit, "fail");
        let call = manager.call::<_, _, OwnedObjectPath>("StartUnit", &arguments);
        timeout(ANSWER_LIMIT, call).await.context("systemd does not answer")?.with_context(refused)?;
    } else {
        let auxiliary: Vec<(&str, Properties<'_>)> = Vec::new();
        let arguments = (unit, "fail", properties(service)?, auxiliary);
        let call = manager.call::<_, _, OwnedObjectPath>("StartTransientUnit", &arguments);
        timeout(ANSWER_LIMIT, call).await.context("systemd does not answer")?.with_context(refused)?;
    }
    let arguments = (unit,);
    let call = manager.call::<_, _, OwnedObjectPath>("LoadUnit", &arguments);
    let path = timeout(ANSWER_LIMIT, call).await.context("systemd does not answer")??;
    let unit_of = Unit { bus: &bus, path };
    let deadline = service.limit().map(|limit| Instant::now() + limit + FAILURE_LIMIT);
    loop {
        // A job that waits or runs: what the unit is then says nothing yet.
        let (job, _): (u32, OwnedObjectPath) = unit_of.get("Unit", "Job").await?.try_into()?;
        let state: String = unit_of.get("Unit", "ActiveState").await?.try_into()?;
        match (job, state.as_str()) {
            (0, "active") => return Ok(Started::Well),
            (0, "inactive" | "failed") => break,
            _ if deadline.is_some_and(|deadline| Instant::now() > deadline) => {
                bail!("{unit} is still {state}; `systemctl status {unit}` says more")
            }
            _ => sleep(POLL).await,
        }
    }
    let result: String = unit_of.get("Service", "Result").await?.try_into()?;
    if result == "success" {
        return Ok(Started::Well);
    }
    let status: i32 = unit_of.get("Service", "ExecMainStatus").await?.try_into()?;
    let code = u8::try_from(status).ok().filter(|_| result == "exit-code");
    let invocation: Vec<u8> = unit_of.get("Unit", "InvocationID").await?.try_into()?;
    Ok(Started::Failed { code, messages: messages(&invocation) })
}

/// As `vfio-run unit` writes them (where the program is to end, its whole work is the start), and: kept while we look (`AddRef`), forgotten afterwards.
fn properties<'a>(service: &Service<'a>) -> Result<Properties<'a>> {
    let program = service.program.to_str().context("this program's path is not UTF-8, which a unit must be")?;
    let run = |arguments: Vec<&str>| {
        let argv: Vec<String> = std::iter::once(program).chain(arguments).map(str::to_owned).collect();
        // Program, arguments with the program's name, and whether a failure is ignored.
        Value::from(vec![(program.to_owned(), argv, false)])
    };
    let limit = service.limit();
    let microseconds = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let environment: Vec<String> =
        PASSED_ON.iter().filter_map(|name| Some(format!("{name}={}", std::env::var(name).ok()?))).collect();
    Ok(vec![
        ("Description", Value::from(format!("Virtual machine {}", service.name))),
        ("Type", Value::from(if limit.is_some() { "notify" } else { "oneshot" })),
        ("NotifyAccess", Value::from(if limit.is_some() { "main" } else { "none" })),
        ("ExecStart", run(service.arguments.iter().map(String::as_str).collect())),
        ("ExecStopPost", run(vec!["recover", service.name])),
        ("KillMode", Value::from("mixed")),
        ("DelegateControllers", Value::from(vec![DELEGATED])),
        ("TimeoutStartUSec", Value::from(limit.map_or(u64::MAX, microseconds))),
        ("TimeoutStopUSec", Value::from(microseconds(service.waits.limit_of_stop()))),
        ("LimitMEMLOCK", Value::from(u64::MAX)),
        ("OOMScoreAdjust", Value::from(OOM_SCORE_ADJUST)),
        ("Environment", Value::from(environment)),
        ("CollectMode", Value::from("inactive-or-failed")),
        ("AddRef", Value::from(true)),
    ])
}

struct Unit<'a> {
    bus: &'a zbus::Connection,
    path: OwnedObjectPath,
}

impl Unit<'_> {
    async fn get(&self, kind: &str, property: &str) -> Result<OwnedValue> {
        let arguments = (format!("{SYSTEMD}.{kind}"), property);
        let interface = Some("org.freedesktop.DBus.Properties");
        let call = self.bus.call_method(Some(SYSTEMD), self.path.as_str(), interface, "Get", &arguments);
        let reply = timeout(ANSWER_LIMIT, call).await.context("systemd does not answer")??;
        Ok(reply.body().deserialize()?)
    }
}

/// The last messages of one run of the unit. Without them there is still the exit code.
fn messages(invocation: &[u8]) -> Vec<String> {
    let id: String = invocation.iter().map(|byte| format!("{byte:02x}")).collect();
    // What was said last may be on its way still; a journal that does not answer is read as it is.
    let sync = Command::new("journalctl").arg("--sync").stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    if let Ok(mut sync) = sync
        && !matches!(wait_until(&mut sync, std::time::Instant::now() + ANSWER_LIMIT), Ok(Some(_)))
    {
        let _ = sync.kill();
    }
    let mut journalctl = Command::new("journalctl");
    journalctl.args(["--quiet", "--no-pager", "--output=cat", "--lines", MESSAGES]);
    let output = journalctl.arg(format!("_SYSTEMD_INVOCATION_ID={id}")).stderr(Stdio::null()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().map(|line| line.chars().filter(|c| !c.is_control()).collect()).collect()
}
