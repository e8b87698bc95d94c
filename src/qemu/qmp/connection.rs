//! The conversation with a running QEMU over QMP.
//!
//! qapi gives the types of commands and replies; the connection is our own, because qapi's ends for good at the first
//! event or enum value that it does not know, and aborts the process when a command that timed out is followed by
//! another. Here everything is read as plain JSON first and typed second, so a newer QEMU is never a broken one.
//!
//! One owner, no tasks, no locks, and a timer only while a command waits for its reply: an idle connection never wakes
//! the process. Specification: `docs/interop/qmp-spec.rst` in QEMU's source.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use qapi::qmp::QmpCommand;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::error::QmpError;
use super::wire::{Cost, Wire};
use crate::units::printable_up_to;

/// How long a command may take unless the caller says otherwise. QEMU answers within milliseconds unless its main loop
/// is stuck, for example on storage that does not answer.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// How long it may take to write a command whose reply nobody waits for.
const ORDER_LIMIT: Duration = Duration::from_secs(1);

/// The longest line that is believed unless the caller says otherwise. `query-cpus-fast` of 1024 vCPUs is a quarter.
pub const LINE_LIMIT: usize = 1024 * 1024;

/// How much memory events take at most while nobody reads them. QEMU is not trusted: a guest may have taken it over.
const EVENT_LIMIT: usize = 4 * 1024 * 1024;

/// How long an event may be whose details are kept. Those that QEMU has take some hundred bytes.
const DETAILS_LIMIT: usize = 16 * 1024;

/// How much of QEMU's words is kept.
const WORDS_LIMIT: usize = 4096;

/// Words of QEMU's that a terminal can take, cut where they are too many.
fn words(text: &str) -> String {
    printable_up_to(text, WORDS_LIMIT)
}

/// Makes all texts of a value such words.
fn clean(value: &mut Value) {
    match value {
        Value::String(text) => *text = words(text),
        Value::Array(values) => values.iter_mut().for_each(clean),
        Value::Object(values) => values.values_mut().for_each(clean),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Something that happened in QEMU, as it said it, without control characters.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// `SHUTDOWN`, `RESET`, `DEVICE_DELETED`…
    pub name: String,
    /// Its details; an empty object if QEMU gives none.
    pub data: Value,
    /// Since 1970, by the host's clock; `None` if QEMU could not tell.
    pub timestamp: Option<Duration>,
}

impl Event {
    /// One of the details.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.data.get(key)
    }

    /// One of the details, if it is text.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }

    /// The event in qapi's types, if those know it and all its values.
    pub fn typed(&self) -> Option<qapi::qmp::Event> {
        let time = self.timestamp.unwrap_or_default();
        serde_json::from_value(serde_json::json!({
            "event": self.name,
            "data": self.data,
            "timestamp": { "seconds": time.as_secs(), "microseconds": time.subsec_micros() },
        }))
        .ok()
    }

    fn read(mut message: Map<String, Value>, cost: Cost) -> Option<Self> {
        let Some(Value::String(name)) = message.remove("event") else { return None };
        let name = words(&name);
        let data = message.remove("data").filter(|_| cost.bytes <= DETAILS_LIMIT);
        let mut data = data.unwrap_or_else(|| Value::Object(Map::new()));
        clean(&mut data);
        // QEMU writes -1 if it could not read the clock; that is no u64.
        let part = |key| message.get("timestamp").and_then(|t| t.get(key)).and_then(Value::as_u64);
        let timestamp = part("seconds")
            .zip(part("microseconds"))
            .and_then(|(s, us)| Duration::from_secs(s).checked_add(Duration::from_micros(us)));
        Some(Self { name, data, timestamp })
    }
}

/// The version in QEMU's greeting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Version {
    /// Major, minor, micro.
    pub numbers: (u64, u64, u64),
    /// The packager's words, such as `Debian 1:7.2+dfsg-7`; often empty.
    pub package: String,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (major, minor, micro) = self.numbers;
        write!(f, "{major}.{minor}.{micro}")?;
        match self.package.trim_matches(['(', ')', ' ']) {
            "" => Ok(()),
            package => write!(f, " ({package})"),
        }
    }
}

/// What a command came to.
pub type Answer = Result<Value, QmpError>;

/// An answer in qapi's type of the command's answers.
pub fn typed<C: QmpCommand>(answer: Value) -> Result<C::Ok, QmpError> {
    serde_json::from_value(answer)
        .map_err(|error| QmpError::Unexpected { command: C::NAME.into(), detail: words(&error.to_string()) })
}

/// A negotiated QMP connection.
///
/// Every method may be dropped at any await (in `select!`, under a timeout) and the connection stays usable.
#[derive(Debug)]
pub struct Qmp<S = UnixStream> {
    wire: Wire<S>,
    version: Version,
    next_id: u64,
    /// Events that came while a reply was waited for, each with the memory that it takes.
    events: VecDeque<(Event, usize)>,
    event_bytes: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Qmp<S> {
    /// Reads the greeting and leaves the negotiation mode. The deadline holds for both together.
    pub async fn negotiate(stream: S, deadline: Duration) -> Result<Self, QmpError> {
        Self::negotiate_and_ask(stream, [], deadline).await.map(|(qmp, [])| qmp)
    }

    /// [`Self::negotiate`], with the answers to these commands, which take no arguments. All are sent with the answer to the
    /// greeting: QEMU, which has devices to make first, answers them one after the other, and nobody waits for anybody in
    /// between.
    pub async fn negotiate_and_ask<const N: usize>(
        stream: S,
        commands: [&str; N],
        deadline: Duration,
    ) -> Result<(Self, [Answer; N]), QmpError> {
        let wire = Wire::new(stream, LINE_LIMIT);
        let mut qmp = Self { wire, version: Version::default(), next_id: 0, events: VecDeque::new(), event_bytes: 0 };
        let greet = async {
            qmp.version = qmp.greeting().await?;
            let (mut lines, leaves) = qmp.line("qmp_capabilities", &Value::Object(Map::new()))?;
            let mut ids = [0; N];
            for (name, its) in commands.iter().zip(&mut ids) {
                let (line, id) = qmp.line(name, &Value::Object(Map::new()))?;
                lines.push(b'\n');
                lines.extend(line);
                *its = id;
            }
            qmp.wire.send(lines).await?;
            qmp.reply("qmp_capabilities", leaves).await?;
            let mut answers = [const { Ok(Value::Null) }; N];
            for ((name, id), answer) in commands.iter().zip(ids).zip(&mut answers) {
                *answer = match qmp.reply(name, id).await {
                    Err(error) if !matches!(error, QmpError::Refused { .. }) => return Err(error),
                    answer => answer,
                };
            }
            Ok(answers)
        };
        match timeout(deadline, greet).await {
            Ok(answers) => answers.map(|answers| (qmp, answers)),
            Err(_) => Err(QmpError::Deadline { command: "greeting".into(), after: deadline }),
        }
    }

    /// The version in the greeting.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Sets the longest line that is believed (the schema of QEMU is larger than [`LINE_LIMIT`] allows).
    pub fn set_line_limit(&mut self, bytes: usize) {
        self.wire.limit = bytes;
    }

    /// Runs a command within [`DEADLINE`].
    pub async fn execute<C: QmpCommand>(&mut self, command: C) -> Result<C::Ok, QmpError> {
        self.execute_within(command, DEADLINE).await
    }

    /// Runs a command; the answer must come within the deadline.
    pub async fn execute_within<C: QmpCommand>(&mut self, command: C, deadline: Duration) -> Result<C::Ok, QmpError> {
        let reply = self.converse_within(C::NAME, &command, deadline).await?;
        typed::<C>(reply)
    }

    /// Runs a command by name within [`DEADLINE`], its answer as it came: for commands and answers that qapi's types
    /// do not know, or know in another version.
    pub async fn execute_raw(&mut self, name: &str, arguments: Value) -> Result<Value, QmpError> {
        self.execute_raw_within(name, arguments, DEADLINE).await
    }

    /// [`Self::execute_raw`] with its own deadline.
    pub async fn execute_raw_within(
        &mut self,
        name: &str,
        arguments: Value,
        deadline: Duration,
    ) -> Result<Value, QmpError> {
        self.converse_within(name, &arguments, deadline).await
    }

    /// Has QEMU do something after all that it was told before, and does not wait for that; its reply is dropped.
    pub async fn order(&mut self, name: &str, arguments: Value) -> Result<(), QmpError> {
        let (line, _) = self.line(name, &arguments)?;
        match timeout(ORDER_LIMIT, self.wire.send(line)).await {
            Ok(sent) => sent,
            Err(_) => Err(QmpError::Deadline { command: name.to_owned(), after: ORDER_LIMIT }),
        }
    }

    /// The next event: first those that came while a reply was waited for, then what comes. Waits without a timer.
    pub async fn next_event(&mut self) -> Result<Event, QmpError> {
        loop {
            if let Some(event) = self.queued_event() {
                return Ok(event);
            }
            // Whatever is no event is a reply to a command that was given up.
            self.receive().await?;
        }
    }

    /// An event that has already come, without waiting.
    pub fn queued_event(&mut self) -> Option<Event> {
        let (event, bytes) = self.events.pop_front()?;
        self.event_bytes -= bytes;
        Some(event)
    }

    /// Waits until an event of this kind has come, in the deadline. It stays among those that [`Self::next_event`] gives.
    pub async fn wait_for_event(&mut self, is: impl Fn(&Event) -> bool, deadline: Duration) -> Result<(), QmpError> {
        let wait = async {
            while !self.events.iter().any(|(event, _)| is(event)) {
                self.receive().await?;
            }
            Ok(())
        };
        timeout(deadline, wait)
            .await
            .unwrap_or_else(|_| Err(QmpError::Deadline { command: "event".into(), after: deadline }))
    }

    async fn greeting(&mut self) -> Result<Version, QmpError> {
        let (message, _) = self.wire.receive().await?;
        let Some(qemu) = message.pointer("/QMP/version/qemu") else {
            let detail = "no `QMP.version.qemu`; is this a QMP socket?".into();
            return Err(QmpError::Unexpected { command: "greeting".into(), detail });
        };
        let number = |key| qemu.get(key).and_then(Value::as_u64).unwrap_or_default();
        let package = message.pointer("/QMP/version/package").and_then(Value::as_str).unwrap_or_default();
        Ok(Version { numbers: (number("major"), number("minor"), number("micro")), package: words(package) })
    }

    async fn converse_within<A: Serialize>(
        &mut self,
        name: &str,
        arguments: &A,
        deadline: Duration,
    ) -> Result<Value, QmpError> {
        match timeout(deadline, self.converse(name, arguments)).await {
            Ok(answer) => answer,
            Err(_) => Err(QmpError::Deadline { command: name.to_owned(), after: deadline }),
        }
    }

    async fn converse<A: Serialize>(&mut self, name: &str, arguments: &A) -> Result<Value, QmpError> {
        let (line, id) = self.line(name, arguments)?;
        self.wire.send(line).await?;
        self.reply(name, id).await
    }

    /// A command's line, and the id that its reply will have.
    fn line<A: Serialize>(&mut self, name: &str, arguments: &A) -> Result<(Vec<u8>, u64), QmpError> {
        #[derive(Serialize)]
        struct Line<'a, A> {
            execute: &'a str,
            arguments: &'a A,
            id: u64,
        }
        // Never used twice, so that a late answer can't be taken for another command's.
        let id = self.next_id;
        self.next_id += 1;
        let line = serde_json::to_vec(&Line { execute: name, arguments, id }).map_err(|error| {
            QmpError::Unexpected { command: name.to_owned(), detail: format!("arguments: {error}") }
        })?;
        Ok((line, id))
    }

    /// Waits for the reply to the command of this id.
    async fn reply(&mut self, name: &str, id: u64) -> Result<Value, QmpError> {
        loop {
            let Some(mut reply) = self.receive().await? else { continue };
            match reply.get("id") {
                Some(theirs) if theirs.as_u64() == Some(id) => {}
                // QEMU leaves the id out only if it could not read the line, and it answers in order.
                None if reply.contains_key("error") => {}
                _ => {
                    tracing::debug!(waiting = name, "QMP: dropped the late reply to an earlier command");
                    continue;
                }
            }
            return match (reply.remove("return"), reply.get("error")) {
                (Some(value), _) => Ok(value),
                (None, Some(error)) => {
                    let word = |key| words(error.get(key).and_then(Value::as_str).unwrap_or("unknown"));
                    Err(QmpError::Refused { command: name.to_owned(), class: word("class"), detail: word("desc") })
                }
                (None, None) => Err(QmpError::Unexpected {
                    command: name.to_owned(),
                    detail: "neither `return` nor `error`".into(),
                }),
            };
        }
    }

    /// Reads one message. Events are queued and give `None`.
    async fn receive(&mut self) -> Result<Option<Map<String, Value>>, QmpError> {
        let (message, cost) = self.wire.receive().await?;
        let Value::Object(message) = message else { return Ok(None) };
        if !message.contains_key("event") {
            return Ok(Some(message));
        }
        let Some(event) = Event::read(message, cost) else {
            tracing::debug!("QMP: ignored an event without a name");
            return Ok(None);
        };
        // Details that were not kept cost nothing.
        let bytes = if cost.bytes <= DETAILS_LIMIT { cost.parsed } else { size_of::<Event>() + WORDS_LIMIT };
        if self.event_bytes + bytes > EVENT_LIMIT {
            // A guest can cause many of one kind (`BLOCK_IO_ERROR`); what must not be lost is the first of another.
            if self.events.iter().any(|(queued, _)| queued.name == event.name) {
                return Ok(None);
            }
            return Err(QmpError::Flood { limit: EVENT_LIMIT });
        }
        self.event_bytes += bytes;
        self.events.push_back((event, bytes));
        Ok(None)
    }
}

impl Qmp<UnixStream> {
    /// [`Self::execute_raw`] with a descriptor that QEMU gets a duplicate of: `add-fd`, `getfd`.
    pub async fn execute_with_fd(
        &mut self,
        name: &str,
        arguments: Value,
        fd: BorrowedFd<'_>,
        deadline: Duration,
    ) -> Result<Value, QmpError> {
        let converse = async {
            let (line, id) = self.line(name, &arguments)?;
            self.wire.send_with(line, fd).await?;
            self.reply(name, id).await
        };
        match timeout(deadline, converse).await {
            Ok(answer) => answer,
            Err(_) => Err(QmpError::Deadline { command: name.to_owned(), after: deadline }),
        }
    }
}
