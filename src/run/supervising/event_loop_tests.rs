//! The event loop beside a QEMU that misbehaves.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::control::{self, Request};
use super::event_loop::{Ended, Running, supervise};
use super::lasting::Lasting;
use crate::host::Root;
use crate::journal::Journal;
use crate::plan::Plan;
use crate::plan::sample::{self, Shape};
use crate::qemu::Qmp;
use crate::run::late::LateDevices;
use crate::run::outcome::Outcome;
use crate::run::process::Watched;
use crate::run::processes::Processes;
use crate::run::reporting::Timeline;
use crate::run::signals::Signals;

const GREETING: &str =
    r#"{"QMP":{"version":{"qemu":{"micro":22,"minor":2,"major":7},"package":""},"capabilities":["oob"]}}"#;
const EVENT: &str = r#"{"timestamp":{"seconds":1,"microseconds":2},"event":"RTC_CHANGE","data":{"offset":0}}"#;
const SHUTDOWN: &str = r#"{"timestamp":{"seconds":1,"microseconds":2},"event":"SHUTDOWN","data":{"guest":true,"reason":"guest-shutdown"}}"#;
/// How many of them are sent at once.
const MANY: usize = 100;
const LONG: Duration = Duration::from_secs(20);

/// Greets, and answers the first command.
fn answer_negotiation(stream: &mut UnixStream) -> std::io::Result<()> {
    writeln!(stream, "{GREETING}")?;
    let mut line = String::new();
    BufReader::new(stream.try_clone()?).read_line(&mut line)?;
    let command: serde_json::Value = serde_json::from_str(&line)?;
    writeln!(stream, "{}", serde_json::json!({ "return": {}, "id": command["id"] }))
}

/// A QEMU that sends events for as long as anybody takes them.
fn sends_events_without_end(mut stream: UnixStream) -> std::io::Result<()> {
    answer_negotiation(&mut stream)?;
    let many = format!("{EVENT}\n").repeat(MANY);
    loop {
        stream.write_all(many.as_bytes())?;
    }
}

/// What a guest is supervised with that has nothing but a monitor.
fn running(qmp: Qmp, plan: &Plan) -> Running {
    let (root, late) = (Root::new("/"), LateDevices::new(plan, &Root::new("/"), &[]));
    Running { qmp, log: None, console: None, switch: None, late, root }
}

/// Nothing that outlasts a QEMU, but its times.
fn lasting() -> Lasting {
    Lasting { notices: None, recording: None, timeline: Timeline::begin("a", "QEMU starts and answers") }
}

#[tokio::test]
async fn endless_events_do_not_starve_the_control_socket() {
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
        // A socket has its name a moment before it listens. If the loop read events first, the answer would never come.
        let mut reply = control::ask(&run, &Request::Status);
        while matches!(reply, Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
            reply = control::ask(&run, &Request::Status);
        }
        drop(child.kill().and_then(|()| child.wait()));
        drop(closed.shutdown(std::net::Shutdown::Both));
        reply
    });
    let mut processes = Processes { qemu: Some(qemu), ..Processes::default() };
    let running = running(qmp, &plan);
    let mut signals = Signals::catch().unwrap();
    let mut journal = Journal::open(folder.path()).unwrap();
    let (signals, lasting) = (&mut signals, &mut lasting());
    let outcome = supervise(&plan, running, "running", &mut processes, signals, &mut journal, lasting).await;
    assert!(matches!(outcome, Ended::For(Outcome::Crashed(_))), "{outcome:?}");
    assert_eq!(asks.join().unwrap().unwrap().unwrap().state, "running");
    assert!(sends.join().unwrap().is_err());
}

#[tokio::test]
async fn a_guest_that_sleeps_is_woken_before_its_button_is_pressed() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = sample::plan("(guest: Linux, memory: (size: \"1 GiB\"))", &sample::host(Shape::simple(4, 2)));
    plan.paths.run = folder.path().to_owned();
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let qemu = Watched::child(child.id() as i32).unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let (sleeps, slept) = std::sync::mpsc::channel();
    let guest = std::thread::spawn(move || {
        answer_negotiation(&mut theirs).unwrap();
        let event =
            |name: &str| format!(r#"{{"timestamp":{{"seconds":1,"microseconds":2}},"event":"{name}","data":{{}}}}"#);
        writeln!(theirs, "{}", event("SUSPEND")).unwrap();
        sleeps.send(()).unwrap();
        let mut commands = Vec::new();
        for line in BufReader::new(theirs.try_clone().unwrap()).lines() {
            let command: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
            writeln!(theirs, "{}", serde_json::json!({ "return": {}, "id": command["id"] })).unwrap();
            let name = command["execute"].as_str().unwrap().to_owned();
            commands.push(name.clone());
            match name.as_str() {
                "system_wakeup" => writeln!(theirs, "{}", event("WAKEUP")).unwrap(),
                "system_powerdown" => break,
                _ => {}
            }
        }
        writeln!(theirs, "{SHUTDOWN}").unwrap();
        child.kill().unwrap();
        // The loop may have waited for it first.
        drop(child.wait());
        commands
    });
    let qmp = Qmp::negotiate(tokio::net::UnixStream::from_std(ours).unwrap(), LONG).await.unwrap();
    slept.recv().unwrap();
    let run = plan.paths.run.clone();
    let stops = std::thread::spawn(move || {
        let deadline = Instant::now() + LONG;
        let ask = |request: &Request| loop {
            match control::ask(&run, request) {
                Ok(Some(reply)) => return reply.state,
                _ if Instant::now() > deadline => return "silent".to_owned(),
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        while ask(&Request::Status) == "running" {}
        ask(&Request::Stop)
    });
    let mut processes = Processes { qemu: Some(qemu), ..Processes::default() };
    let running = running(qmp, &plan);
    let mut signals = Signals::catch().unwrap();
    let mut journal = Journal::open(folder.path()).unwrap();
    let (signals, lasting) = (&mut signals, &mut lasting());
    drop(supervise(&plan, running, "running", &mut processes, signals, &mut journal, lasting).await);
    let commands: Vec<String> = guest.join().unwrap().into_iter().filter(|name| name.starts_with("system_")).collect();
    assert_eq!(commands, ["system_wakeup", "system_powerdown"]);
    assert_ne!(stops.join().unwrap(), "silent");
}

/// A QEMU that obeys `stop` and `cont`, with the events of each, until it is asked to power off; the commands that it got.
fn obeys(mut theirs: UnixStream, mut child: std::process::Child) -> std::thread::JoinHandle<Vec<String>> {
    std::thread::spawn(move || {
        answer_negotiation(&mut theirs).unwrap();
        let mut commands = Vec::new();
        for line in BufReader::new(theirs.try_clone().unwrap()).lines() {
            let command: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
            let name = command["execute"].as_str().unwrap().to_owned();
            let event = match name.as_str() {
                "stop" => Some("STOP"),
                "cont" => Some("RESUME"),
                _ => None,
            };
            if let Some(event) = event {
                let timestamp = serde_json::json!({ "seconds": 1, "microseconds": 2 });
                writeln!(theirs, "{}", serde_json::json!({ "event": event, "timestamp": timestamp })).unwrap();
            }
            let agent = serde_json::json!([{ "label": "agent0", "filename": "unix:", "frontend-open": true }]);
            let answer = if name == "query-chardev" { agent } else { serde_json::json!({}) };
            writeln!(theirs, "{}", serde_json::json!({ "return": answer, "id": command["id"] })).unwrap();
            commands.push(name);
            if commands.last().is_some_and(|name| name == "system_powerdown") {
                break;
            }
        }
        writeln!(theirs, "{SHUTDOWN}").unwrap();
        child.kill().unwrap();
        // The loop may have waited for it first.
        drop(child.wait());
        commands
    })
}

/// A guest agent at this socket, whose clock is set so often.
fn agent(socket: &std::path::Path) -> Arc<AtomicUsize> {
    let set = Arc::new(AtomicUsize::new(0));
    let (listener, times) = (std::os::unix::net::UnixListener::bind(socket).unwrap(), Arc::clone(&set));
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            for line in BufReader::new(client.try_clone().unwrap()).split(b'\n') {
                let line = line.unwrap();
                let json = line.strip_prefix(b"\xff").unwrap_or(&line);
                let command: serde_json::Value = serde_json::from_slice(json).unwrap();
                if command["execute"] == "guest-set-time" {
                    assert!(command["arguments"]["time"].as_i64().unwrap() > 1_600_000_000_000_000_000);
                    writeln!(client, "{}", serde_json::json!({ "return": {} })).unwrap();
                    times.fetch_add(1, Ordering::Relaxed);
                } else {
                    client.write_all(b"\xff").unwrap();
                    writeln!(client, "{}", serde_json::json!({ "return": command["arguments"]["id"] })).unwrap();
                }
            }
        }
    });
    set
}

#[tokio::test]
async fn a_guest_is_paused_while_the_host_sleeps_unless_somebody_had_paused_it_before() {
    use crate::run::supervising::control::Button;

    for by_somebody in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let mut plan = sample::plan("(guest: Linux, memory: (size: \"1 GiB\"))", &sample::host(Shape::simple(4, 2)));
        plan.paths.run = folder.path().to_owned();
        let set = agent(&folder.path().join("qga.sock"));
        let child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let qemu = Watched::child(child.id() as i32).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let guest = obeys(theirs, child);
        let qmp = Qmp::negotiate(tokio::net::UnixStream::from_std(ours).unwrap(), LONG).await.unwrap();
        let mut processes = Processes { qemu: Some(qemu), ..Processes::default() };
        let running = running(qmp, &plan);
        let mut signals = Signals::catch().unwrap();
        let mut journal = Journal::open(folder.path()).unwrap();
        let (fake, mut notices) = crate::systemd::logind::fake::bus().await;
        notices.hold_sleep("it is paused").await.unwrap();
        let lasting = &mut Lasting { notices: Some(notices), ..lasting() };
        let signals = &mut signals;
        let supervised = supervise(&plan, running, "running", &mut processes, signals, &mut journal, lasting);
        let run = plan.paths.run.clone();
        let host = async {
            // Each waits for the launcher, which is in this thread.
            let asked = async |request: Request| {
                let deadline = Instant::now() + LONG;
                loop {
                    let (run, request) = (run.clone(), request.clone());
                    match tokio::task::spawn_blocking(move || control::ask(&run, &request)).await.unwrap() {
                        Ok(Some(reply)) => return reply.state,
                        _ => assert!(Instant::now() < deadline, "no answer"),
                    }
                }
            };
            let becomes = async |held: &[&str], state: &str| {
                let deadline = Instant::now() + LONG;
                while (fake.held(), asked(Request::Status).await)
                    != (held.iter().map(|s| (*s).to_owned()).collect(), state.to_owned())
                {
                    assert!(Instant::now() < deadline, "waited in vain for {held:?} and {state}");
                }
            };
            if by_somebody {
                assert_eq!(asked(Request::Press(Button::Pause)).await, "paused");
            }
            let (asleep, after) = if by_somebody { ("paused", "paused") } else { ("host-sleeps", "running") };
            for round in 1..=2 {
                fake.says("PrepareForSleep", true).await;
                becomes(&[], asleep).await;
                fake.says("PrepareForSleep", false).await;
                becomes(&["sleep delay"], after).await;
                let deadline = Instant::now() + LONG;
                while !by_somebody && set.load(Ordering::Relaxed) < round {
                    assert!(Instant::now() < deadline, "the clock was not set");
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            assert!(!by_somebody || set.load(Ordering::Relaxed) == 0);
            asked(Request::Stop).await;
        };
        let (ended, ()) = tokio::join!(supervised, host);
        drop(ended);
        let commands = guest.join().unwrap();
        let expected: &[&str] = match by_somebody {
            false => &["stop", "cont", "query-chardev", "stop", "cont", "query-chardev", "system_powerdown"],
            true => &["stop", "cont", "system_powerdown"],
        };
        assert_eq!(commands, expected);
    }
}

#[tokio::test]
async fn the_reason_that_qemu_sent_before_it_exited_is_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = sample::plan("(guest: Linux, memory: (size: \"1 GiB\"))", &sample::host(Shape::simple(4, 2)));
    plan.paths.run = folder.path().to_owned();
    // Both are there when the loop looks first, so an order by chance would be seen in one of so many rounds.
    for _ in 0..24 {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let greets = std::thread::spawn(move || {
            answer_negotiation(&mut theirs).unwrap();
            theirs
        });
        let qmp = Qmp::negotiate(tokio::net::UnixStream::from_std(ours).unwrap(), LONG).await.unwrap();
        let mut theirs = greets.join().unwrap();
        writeln!(theirs, "{SHUTDOWN}").unwrap();
        #[expect(clippy::zombie_processes, reason = "the event loop waits for it")]
        let child = std::process::Command::new("true").spawn().unwrap();
        let qemu = Watched::child(child.id() as i32).unwrap();
        qemu.ended().await.unwrap();
        let mut processes = Processes { qemu: Some(qemu), ..Processes::default() };
        let running = running(qmp, &plan);
        let mut signals = Signals::catch().unwrap();
        let mut journal = Journal::open(folder.path()).unwrap();
        let (signals, lasting) = (&mut signals, &mut lasting());
        let outcome = supervise(&plan, running, "running", &mut processes, signals, &mut journal, lasting).await;
        assert!(matches!(&outcome, Ended::For(Outcome::ShutDown(reason)) if reason == "guest-shutdown"), "{outcome:?}");
    }
}
