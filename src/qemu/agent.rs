//! The conversation with the guest agent (QEMU's `qga/qapi-schema.json`), by the socket that QEMU joins to the guest's channel.
//!
//! What answers is the guest, which nobody trusts: lines are bounded, texts made printable where they are shown, and nothing is
//! waited for without a limit. One client at a time has the channel. An answer that an earlier client did not wait for may still
//! come, so a conversation begins with a number that must come back (`guest-sync-delimited`), after a byte that no JSON has.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::units::printable_up_to;

/// Before the answer to a synchronisation, and at its beginning for the agent's own reader.
const SENTINEL: u8 = 0xff;
/// The longest answer: 1000 network interfaces take a quarter of it.
const LINE_LIMIT: usize = 1 << 20;
/// How much of the agent's words is kept.
const WORDS_LIMIT: usize = 1024;

/// What can go wrong in a conversation with the agent.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The socket cannot be reached, or was closed: the guest has ended.
    #[error("the connection to the guest agent failed")]
    Io(#[source] io::Error),
    /// Nothing came in time.
    #[error("the guest agent did not answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// The agent answered with an error.
    #[error("the guest agent refused `{command}`: {detail}")]
    Refused {
        /// The command.
        command: String,
        /// The agent's class: `GenericError`, `CommandNotFound`…
        class: String,
        /// The agent's words.
        detail: String,
    },
    /// The agent tried to set the guest's clock, and failed.
    #[error(
        "the guest agent refused to set the clock: {0} (in Linux it takes the program /sbin/hwclock for that, which \
             Debian has in util-linux-extra; older agents look for it only when they start)"
    )]
    NoClock(String),
    /// It answered, and not as an agent does.
    #[error("the guest agent's answer to `{0}` was not understood")]
    Unexpected(String),
}

/// A synchronised conversation.
#[derive(Debug)]
pub struct Agent {
    stream: UnixStream,
    /// Read and not yet looked at.
    incoming: Vec<u8>,
}

impl Agent {
    /// Connects, and waits so long until the agent answers.
    pub async fn connect(socket: &Path, limit: Duration) -> Result<Self, AgentError> {
        let stream = UnixStream::connect(socket).await.map_err(AgentError::Io)?;
        let mut agent = Self { stream, incoming: Vec::new() };
        agent.synchronise(limit).await?;
        Ok(agent)
    }

    /// Passes over all that was asked for before.
    pub async fn synchronise(&mut self, limit: Duration) -> Result<(), AgentError> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // The agent takes a number of 63 bits.
        let id = (now.as_nanos() as u64 ^ u64::from(std::process::id())) >> 1;
        let synchronised = async {
            self.send(&[SENTINEL], "guest-sync-delimited", &json!({ "id": id })).await?;
            loop {
                while !self.incoming.contains(&SENTINEL) {
                    self.incoming.clear();
                    self.fill().await?;
                }
                let begin = self.incoming.iter().position(|byte| *byte == SENTINEL).map_or(0, |at| at + 1);
                self.incoming.drain(..begin);
                let line = self.line("guest-sync-delimited").await?;
                if line.get("return").and_then(Value::as_u64) == Some(id) {
                    return Ok(());
                }
            }
        };
        timeout(limit, synchronised).await.unwrap_or(Err(AgentError::Silent(limit)))
    }

    /// Has the agent do something, and gives its answer. If that does not come in time, or nobody waits any more, the next
    /// thing must be [`Self::synchronise`].
    pub async fn execute(&mut self, command: &str, arguments: Value, limit: Duration) -> Result<Value, AgentError> {
        let answered = async {
            self.send(&[], command, &arguments).await?;
            let mut answer = self.line(command).await?;
            if let Some(error) = answer.get("error") {
                let word =
                    |key: &str| printable_up_to(error[key].as_str().unwrap_or("unknown").trim_end(), WORDS_LIMIT);
                let (class, detail) = (word("class"), word("desc"));
                return Err(AgentError::Refused { command: command.to_owned(), class, detail });
            }
            match answer.get_mut("return") {
                Some(value) => Ok(value.take()),
                None => Err(AgentError::Unexpected(command.to_owned())),
            }
        };
        timeout(limit, answered).await.unwrap_or(Err(AgentError::Silent(limit)))
    }

    /// Whether the guest's file systems are frozen, when it does little else; `None` if it does not say.
    pub async fn is_frozen(&mut self, limit: Duration) -> Option<bool> {
        let told = self.execute("guest-fsfreeze-status", json!({}), limit).await.ok()?;
        Some(told.as_str()? == "frozen")
    }

    /// Sets the guest's clock to the host's.
    pub async fn set_clock(&mut self, limit: Duration) -> Result<(), AgentError> {
        // Before 1970 and after 2262 the host has no time to give.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let nanoseconds = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
        match self.execute("guest-set-time", json!({ "time": nanoseconds }), limit).await {
            // `CommandNotFound`: it does not know the command, or was told not to obey it.
            Err(AgentError::Refused { class, detail, .. })
                if class == "GenericError" && self.is_frozen(limit).await != Some(true) =>
            {
                Err(AgentError::NoClock(detail))
            }
            other => other.map(drop),
        }
    }

    async fn send(&mut self, before: &[u8], command: &str, arguments: &Value) -> Result<(), AgentError> {
        let mut line = before.to_vec();
        line.extend(json!({ "execute": command, "arguments": arguments }).to_string().into_bytes());
        line.push(b'\n');
        self.stream.write_all(&line).await.map_err(AgentError::Io)
    }

    /// The next line, which must be a JSON object.
    async fn line(&mut self, command: &str) -> Result<Value, AgentError> {
        let end = loop {
            match self.incoming.iter().position(|byte| *byte == b'\n') {
                Some(end) => break end,
                None if self.incoming.len() > LINE_LIMIT => return Err(AgentError::Unexpected(command.to_owned())),
                None => self.fill().await?,
            }
        };
        let line: Vec<u8> = self.incoming.drain(..=end).collect();
        let value = serde_json::from_slice(&line).ok().filter(Value::is_object);
        value.ok_or_else(|| AgentError::Unexpected(command.to_owned()))
    }

    async fn fill(&mut self) -> Result<(), AgentError> {
        match self.stream.read_buf(&mut self.incoming).await {
            Ok(0) => Err(AgentError::Io(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => Ok(()),
            Err(error) => Err(AgentError::Io(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt as _, BufReader};
    use tokio::net::UnixListener;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    /// What is told by an agent that says this before it answers the synchronisation, and this to the command after it.
    async fn with_agent(before: &'static [u8], then: &'static [u8]) -> Result<Value, AgentError> {
        ask(before, then, async |agent| agent.execute("guest-info", json!({}), LIMIT).await).await
    }

    /// Asks such an agent, which ends when it has obeyed one command.
    async fn ask<T>(
        before: &'static [u8],
        then: &'static [u8],
        what: impl AsyncFnOnce(&mut Agent) -> Result<T, AgentError>,
    ) -> Result<T, AgentError> {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("qga.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let agent = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (read, mut write) = stream.into_split();
            let mut lines = BufReader::new(read).split(b'\n');
            let asked = lines.next_segment().await.unwrap().unwrap();
            assert_eq!(asked[0], SENTINEL);
            let asked: Value = serde_json::from_slice(&asked[1..]).unwrap();
            write.write_all(before).await.unwrap();
            write.write_all(&[SENTINEL]).await.unwrap();
            write.write_all(format!("{{\"return\": {}}}\n", asked["arguments"]["id"]).as_bytes()).await.unwrap();
            if lines.next_segment().await.unwrap().is_some() {
                // The client may have had enough.
                drop(write.write_all(then).await);
            }
        });
        let answer = match Agent::connect(&socket, LIMIT).await {
            Ok(mut client) => what(&mut client).await,
            Err(error) => Err(error),
        };
        agent.await.unwrap();
        answer
    }

    #[tokio::test]
    async fn what_an_earlier_client_asked_for_is_passed_over() {
        let before = b"{\"return\": \"late\"}\n\xff{\"return\": 1}\n{\"return\": {}}\n";
        let answer = with_agent(before, b"{\"return\": {\"version\": \"9\"}}\n").await.unwrap();
        assert_eq!(answer["version"], "9");
    }

    #[tokio::test]
    async fn the_agents_error_is_told_in_words_that_a_terminal_can_take() {
        let error = b"{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\\u001b[2J\"}}\n";
        let told = with_agent(b"", error).await.unwrap_err().to_string();
        assert_eq!(told, "the guest agent refused `guest-info`: no\u{fffd}[2J");
    }

    #[tokio::test]
    async fn the_clocks_program_is_blamed_only_if_the_agent_tried() {
        let set = async |agent: &mut Agent| agent.set_clock(LIMIT).await;
        let failed = b"{\"error\": {\"class\": \"GenericError\", \"desc\": \"hwclock failed\"}}\n";
        let told = ask(b"", failed, set).await.unwrap_err();
        assert!(matches!(&told, AgentError::NoClock(why) if why == "hwclock failed"), "{told}");
        let forbidden = b"{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"it has been disabled\"}}\n";
        let told = ask(b"", forbidden, set).await.unwrap_err();
        assert_eq!(told.to_string(), "the guest agent refused `guest-set-time`: it has been disabled");
    }

    #[tokio::test]
    async fn what_is_no_answer_or_too_long_is_not_believed() {
        static LONG: [u8; LINE_LIMIT + 100] = [b' '; LINE_LIMIT + 100];
        for nonsense in [b"[]\n".as_slice(), b"x\n", b"{}\n", &LONG] {
            let error = with_agent(b"", nonsense).await.unwrap_err();
            assert!(matches!(error, AgentError::Unexpected(_)), "{error}");
        }
    }

    #[tokio::test]
    async fn nobody_is_waited_for_without_a_limit() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("qga.sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        let error = Agent::connect(&socket, Duration::from_millis(20)).await.unwrap_err();
        assert!(matches!(error, AgentError::Silent(_)), "{error}");
    }
}
