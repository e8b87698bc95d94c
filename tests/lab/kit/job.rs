//! A command inside a lab host, and what came of it.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::agent::Ended;
use super::lab::{Lab, until};

/// A command that was started and not waited for yet.
pub struct Job<'lab> {
    lab: &'lab Lab,
    id: u32,
    command: String,
    since: Instant,
}

/// What came of a command.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command.
    pub command: String,
    /// Exit status as a shell counts it: 128 + n for signal n.
    pub status: i32,
    /// Standard output without the last line ends.
    pub stdout: String,
    /// Standard error without the last line ends.
    pub stderr: String,
    /// Time from start to the report of the end, as the test saw it.
    pub took: Duration,
}

impl<'lab> Job<'lab> {
    pub(super) fn new(lab: &'lab Lab, id: u32, command: &str) -> Self {
        Self { lab, id, command: command.to_owned(), since: Instant::now() }
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// When it does not come in time: the command is killed then, and the error has what it had printed.
    pub fn wait(mut self, patience: Duration) -> Result<Output> {
        if let Some(output) = self.wait_quietly(patience)? {
            return Ok(output);
        }
        bail!("`{}` did not end within {} s; {}", self.command, patience.as_secs(), self.abandon())
    }

    /// Waits for the end; nothing when it does not come in time.
    pub fn wait_quietly(&mut self, patience: Duration) -> Result<Option<Output>> {
        let deadline = Instant::now() + patience;
        let waited = self.lab.on(|running| running.agent.wait(self.id, deadline));
        match waited {
            Ok(ended) => Ok(Some(self.output(ended))),
            Err(error) if Instant::now() < deadline => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// Waits until `condition` succeeds while this command runs.
    ///
    /// # Errors
    /// When the command ends before, or the time passes; with what it said.
    pub fn wait_until(&self, condition: &str, patience: Duration) -> Result<()> {
        const ENDED_BEFORE: i32 = 99;
        let alive = format!("[ -e /run/lab/{}.group ]", self.id);
        let script = until(condition, &format!("{alive} || exit {ENDED_BEFORE}"));
        let waited = self.lab.run_for(&script, patience)?;
        if waited.status == ENDED_BEFORE {
            let soon = Instant::now() + Duration::from_secs(10);
            let ended = self.lab.on(|running| running.agent.wait(self.id, soon))?;
            bail!("before `{condition}` came true, {}", self.output(ended));
        }
        waited.ok().map(drop)
    }

    /// Whether it has ended; waits for nothing.
    pub fn has_ended(&self) -> Result<bool> {
        self.lab.on(|running| running.agent.has_ended(self.id))
    }

    /// Sends a signal, such as `INT`, to the command and all that it started in its process group.
    pub fn signal(&self, signal: &str) -> Result<()> {
        // The agent writes the group a moment after it took the command.
        let file = format!("/run/lab/{}.group", self.id);
        self.lab.sh(&format!("until [ -s {file} ]; do sleep 0.02; done; kill -{signal} -- -$(<{file})")).map(drop)
    }

    /// What it has printed so far.
    pub fn printed(&self) -> Result<String> {
        self.lab.sh(&format!("cat /run/lab/{0}.out /run/lab/{0}.err", self.id))
    }

    fn output(&self, ended: Ended) -> Output {
        let Ended { status, stdout, stderr } = ended;
        Output { command: self.command.clone(), status, stdout, stderr, took: self.since.elapsed() }
    }

    /// Kills a command that is late, and tells what it was at.
    fn abandon(&self) -> String {
        let look = format!(
            "group=$(</run/lab/{0}.group); ps -eo pgid,pid,stat,wchan:20,args | grep \"^ *$group \"; tail -n 20 /run/lab/{0}.out /run/lab/{0}.err; kill -KILL -- -$group",
            self.id
        );
        let soon = Instant::now() + Duration::from_secs(20);
        let seen = self.lab.on(|running| {
            let id = running.agent.start(&look)?;
            running.agent.wait(id, soon)
        });
        match seen {
            Ok(ended) => format!("it was at\n{}", ended.stdout),
            Err(_) => "and the host does not answer any more".into(),
        }
    }
}

impl Output {
    /// The standard output of a command that succeeded.
    ///
    /// # Errors
    /// With all that it said, when it did not.
    pub fn ok(self) -> Result<String> {
        if self.status != 0 {
            bail!("{self}");
        }
        Ok(self.stdout)
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ended with {} after {:.1} s", self.command, self.status, self.took.as_secs_f32())?;
        for (name, text) in [("output", &self.stdout), ("errors", &self.stderr)] {
            if !text.is_empty() {
                write!(f, "\n--- {name}\n{text}")?;
            }
        }
        Ok(())
    }
}
