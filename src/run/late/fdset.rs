//! Descriptors that QEMU is given over its monitor, and opens by the path of a set.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::qemu::command::QemuOption;
use crate::qemu::{Qmp, QmpError};

/// How long QEMU may take to take a descriptor.
const LIMIT: Duration = Duration::from_secs(5);
/// The lowest number of a set that is made while the guest runs; those of the command line have the numbers of descriptors.
const FIRST: u64 = 1 << 16;

/// A descriptor in QEMU, in a set of its own.
pub(in crate::run) struct FdSet(u64);

impl FdSet {
    /// Gives QEMU a descriptor. If QEMU does not take it in time, QEMU closes it as soon as it answers again.
    pub async fn add(qmp: &mut Qmp, descriptor: BorrowedFd<'_>) -> Result<Self> {
        Self::add_within(qmp, descriptor, LIMIT).await
    }

    async fn add_within(qmp: &mut Qmp, descriptor: BorrowedFd<'_>, limit: Duration) -> Result<Self> {
        // We choose the number: a set whose number only QEMU knows could not be removed if its answer came too late.
        let sets = qmp.execute_raw_within("query-fdsets", json!({}), limit).await?;
        let set = Self(numbers(&sets).max().map_or(FIRST, |last| FIRST.max(last.saturating_add(1))));
        match qmp.execute_with_fd("add-fd", json!({ "fdset-id": set.0 }), descriptor, limit).await {
            Ok(_) => Ok(set),
            Err(error) => {
                if matches!(error, QmpError::Deadline { .. }) {
                    tell(set.remove_later(qmp).await);
                }
                Err(error.into())
            }
        }
    }

    /// Its number, which no other set has as long as QEMU has the descriptor open.
    pub fn number(&self) -> u64 {
        self.0
    }

    /// The path by which QEMU opens it.
    pub fn path(&self) -> String {
        format!("{}{}", QemuOption::FD_SET, self.0)
    }

    /// Has QEMU close it: by now it has a duplicate, or will never need one. `done`: how what it was for went. If QEMU did not
    /// answer, it closes it after it has done, or refused, that.
    pub async fn remove<T>(self, qmp: &mut Qmp, done: &Result<T>) {
        tell(match done.as_ref().is_err_and(QmpError::is_late) {
            true => self.remove_later(qmp).await,
            false => qmp.execute_raw("remove-fd", self.arguments()).await.map(drop),
        });
    }

    /// QEMU does what it is told in order, so nobody needs to wait for it.
    async fn remove_later(self, qmp: &mut Qmp) -> Result<(), QmpError> {
        qmp.order("remove-fd", self.arguments()).await
    }

    /// Has QEMU close what it was to close while its guest stood still: then it closes none (`monitor_fdset_cleanup()` in QEMU's
    /// `monitor/fds.c`), and does not come back to it.
    pub async fn remove_left(qmp: &mut Qmp) -> Result<()> {
        Self::remove_left_within(qmp, LIMIT).await
    }

    /// The limit holds for all together: a QEMU that a guest has taken over can name sets without end, and read slowly.
    async fn remove_left_within(qmp: &mut Qmp, limit: Duration) -> Result<()> {
        let remove = async {
            let sets = qmp.execute_raw("query-fdsets", json!({})).await?;
            for set in numbers(&sets).filter(|number| *number >= FIRST) {
                Self(set).remove_later(qmp).await?;
            }
            Ok(())
        };
        timeout(limit, remove).await.with_context(|| format!("QEMU did not take that within {limit:?}"))?
    }

    fn arguments(&self) -> Value {
        json!({ "fdset-id": self.0 })
    }
}

/// The numbers in an answer to `query-fdsets`.
fn numbers(sets: &Value) -> impl Iterator<Item = u64> {
    sets.as_array().into_iter().flatten().filter_map(|set| set["fdset-id"].as_u64())
}

fn tell(removed: Result<(), QmpError>) {
    if let Err(error) = removed {
        tracing::warn!("QEMU keeps a descriptor that it does not need: {error:#}");
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn greet(stream: &mut UnixStream) {
        let version = json!({ "qemu": { "major": 7, "minor": 2, "micro": 0 }, "package": "" });
        writeln!(stream, "{}", json!({ "QMP": { "version": version, "capabilities": [] } })).unwrap();
    }

    /// The launcher's end of a monitor that a QEMU in a thread of its own has.
    async fn monitor<T: Send + 'static>(
        qemu: impl FnOnce(UnixStream) -> T + Send + 'static,
    ) -> (Qmp, std::thread::JoinHandle<T>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let qemu = std::thread::spawn(move || qemu(theirs));
        ours.set_nonblocking(true).unwrap();
        let stream = tokio::net::UnixStream::from_std(ours).unwrap();
        (Qmp::negotiate(stream, Duration::from_secs(20)).await.unwrap(), qemu)
    }

    /// A QEMU that answers nothing but what it is asked first, and tells which commands came until nobody is there.
    fn falls_silent(mut stream: UnixStream, answered: usize) -> Vec<Value> {
        greet(&mut stream);
        let lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let mut commands = Vec::new();
        for line in lines.map_while(Result::ok) {
            let command: Value = serde_json::from_str(&line).unwrap();
            if commands.len() < answered {
                let sets = json!([{ "fdset-id": 7, "fds": [] }, { "fdset-id": FIRST + 3, "fds": [] }]);
                let value = if command["execute"] == "query-fdsets" { sets } else { json!({}) };
                writeln!(stream, "{}", json!({ "return": value, "id": command["id"] })).unwrap();
            }
            commands.push(command);
        }
        commands
    }

    /// What QEMU was told that answers so many commands.
    async fn told(answered: usize) -> Vec<(String, Value)> {
        let (mut qmp, qemu) = monitor(move |stream| falls_silent(stream, answered)).await;
        let file = std::fs::File::open("/dev/null").unwrap();
        let added = FdSet::add_within(&mut qmp, file.as_fd(), Duration::from_millis(50)).await;
        match added {
            Ok(set) => {
                let limit = Duration::from_millis(50);
                let used = qmp.execute_raw_within("screendump", json!({ "filename": set.path() }), limit).await;
                set.remove(&mut qmp, &used.map_err(Into::into)).await;
            }
            Err(error) => assert!(QmpError::is_late(&error), "{error:#}"),
        }
        drop(qmp);
        let commands = qemu.join().unwrap();
        let name = |command: &Value| command["execute"].as_str().unwrap().to_owned();
        commands.iter().map(|command| (name(command), command["arguments"]["fdset-id"].clone())).collect()
    }

    #[tokio::test]
    async fn a_descriptor_that_qemu_takes_too_late_is_closed() {
        let next = json!(FIRST + 4);
        let commands = |more: &[(&str, &Value)]| -> Vec<(String, Value)> {
            let first = [("qmp_capabilities", &Value::Null), ("query-fdsets", &Value::Null), ("add-fd", &next)];
            first.iter().chain(more).map(|(name, set)| ((*name).to_owned(), (*set).clone())).collect()
        };
        assert_eq!(told(2).await, commands(&[("remove-fd", &next)]));
        assert_eq!(told(3).await, commands(&[("screendump", &Value::Null), ("remove-fd", &next)]));
        // Nothing was given to a QEMU that does not even answer this.
        assert_eq!(told(1).await, commands(&[])[..2]);
    }

    /// A QEMU that names these sets, and reads no further. Its end of the monitor, which stays open.
    fn reads_no_further(mut stream: UnixStream, sets: &Value) -> UnixStream {
        greet(&mut stream);
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        for answer in [&json!({}), sets] {
            let command: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            // In one piece: it is long.
            let line = format!("{}\n", json!({ "return": answer, "id": command["id"] }));
            stream.write_all(line.as_bytes()).unwrap();
        }
        stream
    }

    #[tokio::test]
    async fn a_qemu_that_names_many_sets_and_reads_no_further_holds_nobody_up() {
        let sets: Value = (0..2_000).map(|set| json!({ "fdset-id": FIRST + set, "fds": [] })).collect();
        let (mut qmp, qemu) = monitor(move |stream| reads_no_further(stream, &sets)).await;
        let removed = timeout(Duration::from_secs(20), async {
            FdSet::remove_left_within(&mut qmp, Duration::from_millis(500)).await
        });
        assert!(removed.await.expect("it goes on").is_err());
        drop(qmp);
        drop(qemu.join().unwrap());
    }

    #[tokio::test]
    async fn a_set_with_the_largest_number_is_no_reason_to_end() {
        let sets = json!([{ "fdset-id": u64::MAX, "fds": [] }]);
        let (mut qmp, qemu) = monitor(move |stream| reads_no_further(stream, &sets)).await;
        let file = std::fs::File::open("/dev/null").unwrap();
        let added = FdSet::add_within(&mut qmp, file.as_fd(), Duration::from_millis(50)).await;
        assert!(added.is_err_and(|error| QmpError::is_late(&error)));
        drop(qemu.join().unwrap());
    }
}
