//! Stop a unit of systemd's, and start it again.
//! Source: org.freedesktop.systemd1(5).

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use zbus::zvariant::OwnedObjectPath;

use crate::change::{Before, ChangeError, Undone};

/// How long a unit may take: systemd kills what does not stop within 90 s by default.
const LIMIT: Duration = Duration::from_secs(100);
/// How long systemd may take to answer a question.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

/// What failed, in words.
type Failed = String;

/// Whether it runs, or is about to.
pub(in crate::change) fn capture(unit: &str) -> Result<Before, ChangeError> {
    ask(unit, async |systemd: &Systemd| Ok(Before::Exists(is_up(&systemd.state(unit).await?))))
}

/// Stops it and waits until it has ended.
pub(in crate::change) fn stop(unit: &str) -> Result<(), ChangeError> {
    ask(unit, async |systemd: &Systemd| {
        if !is_up(&systemd.state(unit).await?) {
            return Ok(());
        }
        systemd.call("StopUnit", unit).await?;
        systemd.wait(unit, |state| matches!(state, "inactive" | "failed")).await
    })
}

/// Starts it again, if it was up. Its count of failed starts is forgotten first: systemd gives up on a unit that was
/// started often within a short time, and nothing was wrong with those.
pub(in crate::change) fn start(unit: &str, was_up: bool) -> Result<Undone, ChangeError> {
    if !was_up {
        return Ok(Undone::AlreadyBack);
    }
    ask(unit, async |systemd: &Systemd| {
        if systemd.state(unit).await? == "active" {
            return Ok(Undone::AlreadyBack);
        }
        // Refused where the unit is not loaded: then there is nothing to forget.
        let _ = timeout(ANSWER_LIMIT, systemd.manager.call_method("ResetFailedUnit", &(unit,))).await;
        systemd.call("StartUnit", unit).await?;
        systemd.wait(unit, |state| matches!(state, "active" | "failed")).await?;
        match systemd.state(unit).await?.as_str() {
            "active" => Ok(Undone::Restored),
            state => Err(format!("it is {state} after its start; `systemctl status {unit}` says why")),
        }
    })
}

/// Whether a unit in this state (`ActiveState`) runs, or is about to.
pub(in crate::change) fn is_up(state: &str) -> bool {
    matches!(state, "active" | "activating" | "reloading")
}

struct Systemd {
    manager: zbus::Proxy<'static>,
}

impl Systemd {
    const NAME: &'static str = "org.freedesktop.systemd1";

    async fn connect() -> Result<Self, Failed> {
        let bus = timeout(ANSWER_LIMIT, zbus::Connection::system()).await;
        let bus = bus.map_err(|_| "the system bus does not answer".to_owned())?.map_err(words)?;
        let manager =
            zbus::Proxy::new(&bus, Self::NAME, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager").await;
        Ok(Self { manager: manager.map_err(words)? })
    }

    /// `active`, `inactive`, `failed`, …; a unit that is not loaded is inactive.
    async fn state(&self, unit: &str) -> Result<String, Failed> {
        let path: OwnedObjectPath = match timeout(ANSWER_LIMIT, self.manager.call("GetUnit", &(unit,))).await {
            Ok(Ok(path)) => path,
            Ok(Err(zbus::Error::MethodError(name, ..))) if name.ends_with(".NoSuchUnit") => {
                return Ok("inactive".to_owned());
            }
            Ok(Err(error)) => return Err(words(error)),
            Err(_) => return Err("systemd does not answer".to_owned()),
        };
        let connection = self.manager.connection();
        let arguments = ("org.freedesktop.systemd1.Unit", "ActiveState");
        let call = connection.call_method(
            Some(Self::NAME),
            path.as_str(),
            Some("org.freedesktop.DBus.Properties"),
            "Get",
            &arguments,
        );
        let reply =
            timeout(ANSWER_LIMIT, call).await.map_err(|_| "systemd does not answer".to_owned())?.map_err(words)?;
        let value: zbus::zvariant::OwnedValue = reply.body().deserialize().map_err(words)?;
        String::try_from(value).map_err(|error| error.to_string())
    }

    async fn call(&self, method: &str, unit: &str) -> Result<(), Failed> {
        let arguments = (unit, "replace");
        let call = self.manager.call::<_, _, OwnedObjectPath>(method, &arguments);
        let job = timeout(ANSWER_LIMIT, call).await.map_err(|_| "systemd does not answer".to_owned())?;
        job.map(drop).map_err(words)
    }

    async fn wait(&self, unit: &str, settled: impl Fn(&str) -> bool) -> Result<(), Failed> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let state = self.state(unit).await?;
            if settled(&state) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("it is still {state} after {} s", LIMIT.as_secs()));
            }
            sleep(POLL).await;
        }
    }
}

fn words(error: zbus::Error) -> Failed {
    error.to_string()
}

/// Asks systemd on a thread of its own: changes are made one after the other, and whoever makes them may be in an event
/// loop already, which cannot be entered twice.
fn ask<T: Send>(unit: &str, question: impl AsyncFn(&Systemd) -> Result<T, Failed> + Send) -> Result<T, ChangeError> {
    let answer = move || -> Result<T, Failed> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        runtime.block_on(async { question(&Systemd::connect().await?).await })
    };
    let answer = std::thread::scope(|scope| scope.spawn(answer).join());
    let answer = answer.unwrap_or_else(|_| Err("asking systemd failed".to_owned()));
    answer.map_err(|why| ChangeError::Unit { unit: unit.to_owned(), why })
}
