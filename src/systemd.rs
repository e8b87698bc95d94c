//! The one client for systemd's manager over D-Bus: states, start and stop, transient units, properties.
//! Source: org.freedesktop.systemd1(5).
//!
//! A client lives no longer than the question that it was made for, so nothing of the bus wakes the launcher while a
//! guest runs; the one connection that stays is for news that ends the guest (`logind`).

pub mod logind;

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use futures_core::Stream as _;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use zbus::proxy::SignalStream;
use zbus::zvariant::{DynamicType, OwnedObjectPath, OwnedValue, Value};

/// How long systemd may take to answer a question.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How often a state is read after its job has ended: a unit that failed may still run its `ExecStopPost=`.
const POLL: Duration = Duration::from_millis(50);

const NAME: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// Properties of a transient unit, as systemd names and types them.
pub type Properties<'a> = Vec<(&'a str, Value<'a>)>;

/// Why systemd did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// There is no system bus, or it does not answer.
    #[error("the system bus cannot be reached: {0}")]
    NoBus(String),
    /// systemd did not answer within [`ANSWER_LIMIT`].
    #[error("systemd does not answer")]
    NoAnswer,
    /// systemd, or the bus, refused, in its own words.
    #[error("{0}")]
    Refused(zbus::Error),
    /// A job did not end, or a unit did not reach a state, in time.
    #[error("it is still {state} after {} s", .limit.as_secs())]
    Late {
        /// The unit's state then.
        state: String,
        /// The time that was given.
        limit: Duration,
    },
    /// The answer is not of the type that systemd documents.
    #[error("systemd's answer cannot be understood: {0}")]
    Answer(String),
}

impl From<zbus::Error> for SystemdError {
    fn from(error: zbus::Error) -> Self {
        Self::Refused(error)
    }
}

type Result<T> = std::result::Result<T, SystemdError>;

/// What happens to a job for the same unit that is queued already (`mode` of `StartUnit`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It is replaced.
    Replace,
    /// It stays, and the new one is refused.
    Fail,
}

impl Mode {
    fn word(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::Fail => "fail",
        }
    }
}

/// Whether a unit in this state (`ActiveState`) runs, or is about to.
pub fn is_up(state: &str) -> bool {
    matches!(state, "active" | "activating" | "reloading")
}

/// A connection to systemd's manager.
#[derive(Debug)]
pub struct Systemd {
    manager: zbus::Proxy<'static>,
}

impl Systemd {
    /// Connects to the system's manager.
    pub async fn connect() -> Result<Self> {
        let bus = timeout(ANSWER_LIMIT, zbus::Connection::system()).await;
        let bus = bus.map_err(|_| SystemdError::NoBus("it does not answer".to_owned()))?;
        Self::on(&bus.map_err(|error| SystemdError::NoBus(error.to_string()))?).await
    }

    /// The manager on this connection.
    async fn on(connection: &zbus::Connection) -> Result<Self> {
        Ok(Self { manager: zbus::Proxy::new(connection, NAME, PATH, MANAGER).await? })
    }

    /// The unit's `ActiveState`: `active`, `inactive`, `failed`, …; a unit that is not loaded is inactive.
    pub async fn state(&self, unit: &str) -> Result<String> {
        match self.call::<OwnedObjectPath>("GetUnit", &(unit,)).await {
            Ok(path) => self.state_at(path).await,
            Err(SystemdError::Refused(zbus::Error::MethodError(name, ..))) if name.ends_with(".NoSuchUnit") => {
                Ok("inactive".to_owned())
            }
            Err(error) => Err(error),
        }
    }

    /// Starts the unit and waits until that job has ended, whether it succeeded or not.
    pub async fn start(&self, unit: &str, mode: Mode, limit: Option<Duration>) -> Result<()> {
        self.job("StartUnit", unit, &(unit, mode.word()), limit).await
    }

    /// Stops the unit and waits until that job has ended.
    pub async fn stop(&self, unit: &str, limit: Option<Duration>) -> Result<()> {
        self.job("StopUnit", unit, &(unit, Mode::Replace.word()), limit).await
    }

    /// Has systemd stop the unit, and does not wait for it. A job that is queued already, also for a unit that needs this one,
    /// goes first: then it is refused.
    pub async fn stop_later(&self, unit: &str) -> Result<()> {
        self.call::<OwnedObjectPath>("StopUnit", &(unit, Mode::Fail.word())).await.map(drop)
    }

    /// Makes a unit that lasts until it ends, starts it, and waits until that job has ended.
    pub async fn start_transient(&self, unit: &str, properties: Properties<'_>, limit: Option<Duration>) -> Result<()> {
        let auxiliary: Vec<(&str, Properties<'_>)> = Vec::new();
        self.job("StartTransientUnit", unit, &(unit, Mode::Fail.word(), properties, auxiliary), limit).await
    }

    /// Sets properties of the unit until the next boot.
    pub async fn set_properties(&self, unit: &str, properties: Properties<'_>) -> Result<()> {
        self.call("SetUnitProperties", &(unit, true, properties)).await
    }

    /// Forgets that the unit failed, and how often it was started. A unit that is not loaded has nothing to forget.
    pub async fn reset_failed(&self, unit: &str) {
        drop(self.call::<()>("ResetFailedUnit", &(unit,)).await);
    }

    /// Waits until the unit's state is one of those that are meant, and returns it.
    pub async fn wait_for(&self, unit: &str, limit: Duration, meant: impl Fn(&str) -> bool) -> Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            let state = self.state(unit).await?;
            if meant(&state) {
                return Ok(state);
            }
            if Instant::now() > deadline {
                return Err(SystemdError::Late { state, limit });
            }
            sleep(POLL).await;
        }
    }

    /// If a start of the unit is queued or under way, as at boot, waits for its end; whether there was one.
    pub async fn wait_for_start(&self, unit: &str, limit: Duration) -> Result<bool> {
        // Number, unit, type, state, and the paths of job and unit. The unit of an alias' job has its own name.
        type Job = (u32, String, String, String, OwnedObjectPath, OwnedObjectPath);
        let id: String = self.property(unit, "Unit", "Id").await?;
        let deadline = Instant::now() + limit;
        let mut waited = false;
        loop {
            let jobs: Vec<Job> = self.call("ListJobs", &()).await?;
            if !jobs.iter().any(|(_, of, kind, ..)| *of == id && kind == "start") {
                return Ok(waited);
            }
            if Instant::now() > deadline {
                return Err(SystemdError::Late { state: "starting".to_owned(), limit });
            }
            waited = true;
            sleep(POLL).await;
        }
    }

    /// Whether the host shuts down: then systemd takes no job that would start anything.
    pub async fn is_shutting_down(&self) -> Result<bool> {
        let manager = OwnedObjectPath::try_from(PATH).map_err(|error| SystemdError::Answer(error.to_string()))?;
        Ok(self.property_at::<String>(manager, "Manager", "SystemState").await? == "stopping")
    }

    /// A property of the unit, whose interface is `Unit` or the unit's type: `Service`, `Scope`, …
    pub async fn property<T>(&self, unit: &str, interface: &str, property: &str) -> Result<T>
    where
        T: TryFrom<OwnedValue>,
        T::Error: std::fmt::Display,
    {
        let path: OwnedObjectPath = self.call("LoadUnit", &(unit,)).await?;
        self.property_at(path, interface, property).await
    }

    async fn state_at(&self, path: OwnedObjectPath) -> Result<String> {
        self.property_at(path, "Unit", "ActiveState").await
    }

    async fn property_at<T>(&self, path: OwnedObjectPath, interface: &str, property: &str) -> Result<T>
    where
        T: TryFrom<OwnedValue>,
        T::Error: std::fmt::Display,
    {
        let arguments = (format!("{NAME}.{interface}"), property);
        let properties = Some("org.freedesktop.DBus.Properties");
        let connection = self.manager.connection();
        let call = connection.call_method(Some(NAME), path.as_str(), properties, "Get", &arguments);
        let reply = timeout(ANSWER_LIMIT, call).await.map_err(|_| SystemdError::NoAnswer)??;
        let value: OwnedValue = reply.body().deserialize()?;
        T::try_from(value).map_err(|error| SystemdError::Answer(error.to_string()))
    }

    async fn call<T>(&self, method: &str, arguments: &(impl serde::Serialize + DynamicType)) -> Result<T>
    where
        T: for<'d> zbus::zvariant::DynamicDeserialize<'d>,
    {
        let call = self.manager.call(method, arguments);
        timeout(ANSWER_LIMIT, call).await.map_err(|_| SystemdError::NoAnswer)?.map_err(SystemdError::Refused)
    }

    /// Queues a job and waits for the signal that it has ended. systemd sends these signals only to those who have
    /// subscribed, and a short job may end before its number has reached us, so both come before the call.
    async fn job(
        &self,
        method: &str,
        unit: &str,
        arguments: &(impl serde::Serialize + DynamicType),
        limit: Option<Duration>,
    ) -> Result<()> {
        let mut ended = self.manager.receive_signal("JobRemoved").await?;
        match self.call::<()>("Subscribe", &()).await {
            // An earlier job on this connection did.
            Err(SystemdError::Refused(zbus::Error::MethodError(name, ..))) if name.ends_with(".AlreadySubscribed") => {}
            subscribed => subscribed?,
        }
        let job: OwnedObjectPath = self.call(method, arguments).await?;
        let Some(limit) = limit else { return wait_for_job(&mut ended, &job).await };
        match timeout_at(Instant::now() + limit, wait_for_job(&mut ended, &job)).await {
            Ok(ended) => ended,
            Err(_) => Err(SystemdError::Late { state: self.state(unit).await?, limit }),
        }
    }
}

/// Waits for `JobRemoved` (its number, its path, the unit, its result) of this job.
async fn wait_for_job(ended: &mut SignalStream<'_>, job: &OwnedObjectPath) -> Result<()> {
    while let Some(message) = poll_fn(|context| Pin::new(&mut *ended).poll_next(context)).await {
        let (_, its, _, _): (u32, OwnedObjectPath, String, String) = message.body().deserialize()?;
        if its == *job {
            return Ok(());
        }
    }
    Err(SystemdError::NoBus("it closed the connection".to_owned()))
}

/// Asks systemd from code that is not async, on a thread of its own: the caller may run inside an event loop, which
/// cannot be entered twice.
///
/// # Errors
/// Those of the question, and when systemd cannot be reached.
pub fn blocking<T: Send>(question: impl AsyncFnOnce(&Systemd) -> Result<T> + Send) -> Result<T> {
    let answer = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| SystemdError::NoBus(error.to_string()))?;
        runtime.block_on(async { question(&Systemd::connect().await?).await })
    };
    let answer = std::thread::scope(|scope| scope.spawn(answer).join());
    answer.unwrap_or_else(|_| Err(SystemdError::NoBus("the thread that asked it panicked".to_owned())))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use zbus::object_server::SignalEmitter;
    use zbus::zvariant::ObjectPath;

    use super::*;
    use std::result::Result;

    /// A manager of one unit, `a.service`, whose jobs end at once, before their path is returned.
    #[derive(Default)]
    struct Manager {
        subscribed: bool,
        /// How often its jobs were listed.
        looks: u32,
        units: Arc<Mutex<BTreeMap<String, &'static str>>>,
    }

    /// What systemd refuses, under its names.
    #[derive(Debug, zbus::DBusError)]
    #[zbus(prefix = "org.freedesktop.systemd1")]
    enum Refusal {
        #[zbus(error)]
        ZBus(zbus::Error),
        AlreadySubscribed(String),
        NoSuchUnit(String),
    }

    type JobOfList = (u32, String, String, String, OwnedObjectPath, OwnedObjectPath);

    const JOB: ObjectPath<'static> = ObjectPath::from_static_str_unchecked("/org/freedesktop/systemd1/job/7");
    const OTHER_JOB: ObjectPath<'static> = ObjectPath::from_static_str_unchecked("/org/freedesktop/systemd1/job/6");
    const UNIT: ObjectPath<'static> = ObjectPath::from_static_str_unchecked("/org/freedesktop/systemd1/unit/a");

    impl Manager {
        async fn end_job(&self, emitter: SignalEmitter<'_>, unit: &str, state: &'static str) -> ObjectPath<'static> {
            self.units.lock().unwrap().insert(unit.to_owned(), state);
            if self.subscribed {
                for (number, job) in [(6, OTHER_JOB), (7, JOB)] {
                    Self::job_removed(&emitter, number, job, unit, "done").await.unwrap();
                }
            }
            JOB
        }
    }

    #[zbus::interface(name = "org.freedesktop.systemd1.Manager")]
    impl Manager {
        fn subscribe(&mut self) -> Result<(), Refusal> {
            match std::mem::replace(&mut self.subscribed, true) {
                true => Err(Refusal::AlreadySubscribed("Client is already subscribed.".to_owned())),
                false => Ok(()),
            }
        }

        fn get_unit(&self, unit: &str) -> Result<ObjectPath<'static>, Refusal> {
            let known = self.units.lock().unwrap().contains_key(unit);
            known.then_some(UNIT).ok_or_else(|| Refusal::NoSuchUnit(format!("Unit {unit} not loaded.")))
        }

        fn load_unit(&self, _unit: &str) -> ObjectPath<'static> {
            UNIT
        }

        async fn start_unit(
            &self,
            #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
            unit: &str,
            _mode: &str,
        ) -> ObjectPath<'static> {
            self.end_job(emitter, unit, "active").await
        }

        async fn stop_unit(
            &self,
            #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
            unit: &str,
            mode: &str,
        ) -> ObjectPath<'static> {
            assert_eq!(mode, "replace");
            // Its job never ends: nobody is told.
            match unit {
                "a.service" => self.end_job(emitter, unit, "inactive").await,
                _ => JOB,
            }
        }

        /// The start of `a.service` at boot, which ends after some looks.
        fn list_jobs(&mut self) -> Vec<JobOfList> {
            self.looks += 1;
            let job = |of: &str, kind: &str| {
                let (of, kind, state) = (of.to_owned(), kind.to_owned(), "waiting".to_owned());
                (7, of, kind, state, JOB.into(), UNIT.into())
            };
            let own = (self.looks < 3).then(|| job("a.service", "start"));
            own.into_iter().chain([job("a.service", "stop"), job("other.service", "start")]).collect()
        }

        #[zbus(property)]
        fn system_state(&self) -> String {
            if self.looks < 3 { "starting" } else { "stopping" }.to_owned()
        }

        #[zbus(signal)]
        async fn job_removed(
            emitter: &SignalEmitter<'_>,
            id: u32,
            job: ObjectPath<'_>,
            unit: &str,
            result: &str,
        ) -> zbus::Result<()>;
    }

    struct Unit(Arc<Mutex<BTreeMap<String, &'static str>>>);

    #[zbus::interface(name = "org.freedesktop.systemd1.Unit")]
    impl Unit {
        /// What `alias.service` is an alias of.
        #[zbus(property)]
        fn id(&self) -> String {
            "a.service".to_owned()
        }

        #[zbus(property)]
        fn active_state(&self) -> String {
            self.0.lock().unwrap().get("a.service").copied().unwrap_or("deactivating").to_owned()
        }
    }

    async fn with_a_fake() -> (zbus::Connection, Systemd) {
        let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
        let manager = Manager::default();
        let unit = Unit(manager.units.clone());
        let server = zbus::connection::Builder::unix_stream(theirs)
            .server(zbus::Guid::generate())
            .unwrap()
            .p2p()
            .serve_at(PATH, manager)
            .unwrap()
            .serve_at(UNIT, unit)
            .unwrap()
            .build();
        let client = zbus::connection::Builder::unix_stream(ours).p2p().build();
        let (server, client) = tokio::join!(server, client);
        (server.unwrap(), Systemd::on(&client.unwrap()).await.unwrap())
    }

    #[tokio::test]
    async fn a_job_that_ends_before_its_path_is_known_is_not_missed() {
        let (_server, systemd) = with_a_fake().await;
        let long = Some(Duration::from_secs(30));
        assert_eq!(systemd.state("a.service").await.unwrap(), "inactive");
        systemd.start("a.service", Mode::Fail, long).await.unwrap();
        assert_eq!(systemd.state("a.service").await.unwrap(), "active");
        systemd.stop("a.service", long).await.unwrap();
        assert_eq!(systemd.wait_for("a.service", Duration::ZERO, |state| !is_up(state)).await.unwrap(), "inactive");
        assert_eq!(systemd.property::<String>("a.service", "Unit", "ActiveState").await.unwrap(), "inactive");
        let failed = systemd.property::<u32>("a.service", "Unit", "ActiveState").await.unwrap_err();
        assert!(matches!(failed, SystemdError::Answer(_)), "{failed}");
    }

    #[tokio::test]
    async fn a_job_that_does_not_end_is_waited_for_so_long_and_no_longer() {
        let (_server, systemd) = with_a_fake().await;
        systemd.start("b.service", Mode::Replace, None).await.unwrap();
        let limit = Duration::from_millis(20);
        let late = systemd.stop("b.service", Some(limit)).await.unwrap_err().to_string();
        assert_eq!(late, "it is still deactivating after 0 s");
        let late = systemd.wait_for("b.service", limit, |state| state == "failed").await.unwrap_err().to_string();
        assert_eq!(late, "it is still deactivating after 0 s");
    }

    #[tokio::test]
    async fn a_unit_that_is_about_to_start_is_waited_for_under_its_own_name() {
        let (_server, systemd) = with_a_fake().await;
        assert!(!systemd.is_shutting_down().await.unwrap());
        let late = systemd.wait_for_start("alias.service", Duration::ZERO).await.unwrap_err().to_string();
        assert_eq!(late, "it is still starting after 0 s");
        assert!(systemd.wait_for_start("alias.service", Duration::from_secs(30)).await.unwrap());
        assert!(!systemd.wait_for_start("alias.service", Duration::ZERO).await.unwrap());
        assert!(systemd.is_shutting_down().await.unwrap());
    }
}
