//! The event loop beside a QEMU that misbehaves.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::plan::sample::{self, Shape};
use crate::qemu::Qmp;
use crate::run::process::Watched;
use crate::run::signals::Signals;
use crate::run::supervising::control::{self, Request};
use crate::run::supervising::event_loop::{Running, supervise};
use crate::run::{Outcome, Processes};

const GREETING: &str =
    r#"{"QMP":{"version":{"qemu":{"micro":22,"minor":2,"major":7},"package":""},"capabilities":["oob"]}}"#;
const EVENT: &str = r#"{"timestamp":{"seconds":1,"microseconds":2},"event":"RTC_CHANGE","data":{"offset":0}}"#;
/// How many of them are sent at once.
const MANY: usize = 100;
const LONG: Duration = Duration::from_secs(20);

/// A QEMU that sends events for as long as anybody takes them.
fn sends_events_without_end(mut stream: UnixStream) -> std::io::Result<()> {
    writeln!(stream, "{GREETING}")?;
    let mut line = String::new();
    BufReader::new(stream.try_clone()?).read_line(&mut line)?;
    let command: serde_json::Value = serde_json::from_str(&line)?;
    writeln!(stream, "{}", serde_json::json!({ "return": {}, "id": command["id"] }))?;
    let many = format!("{EVENT}\n").repeat(MANY);
    loop {
        stream.write_all(many.as_bytes())?;
    }
}

#[tokio::test]
async fn events_without_end_keep_nobody_from_being_heard() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = sample::plan("(guest: Linux, memory: (size: \"1 GiB\"))", &sample::host(Shape::simple(4, 2)));
    plan.paths.run = folder.path().to_owned();
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let qemu = Watched::child(child.id() as i32).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let closed = theirs.try_clone().unwrap();
    let sends = std::thread::spawn(move || sends_events_without_end(theirs));
    let qmp = Qmp::negotiate(tokio::net::UnixStream::from_std(ours).unwrap(), LONG).await.unwrap();
    let run = plan.paths.run.clone();
    let asks = std::thread::spawn(move || {
        let deadline = Instant::now() + LONG;
        while !control::path(&run).exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Where the events came first, there would be no end to the waiting.
        let reply = control::ask(&run, Request::Status);
        let _ = child.kill().and_then(|()| child.wait());
        let _ = closed.shutdown(std::net::Shutdown::Both);
        reply
    });
    let mut processes = Processes { qemu: Some(qemu), helpers: Vec::new() };
    let running = Running { qmp, log: None, console: None, switch: None };
    let mut signals = Signals::catch().unwrap();
    let outcome = supervise(&plan, running, "running", &mut processes, &mut signals).await;
    assert!(matches!(outcome, Outcome::Crashed(_)), "{outcome:?}");
    assert_eq!(asks.join().unwrap().unwrap().unwrap().state, "running");
    assert!(sends.join().unwrap().is_err());
}
