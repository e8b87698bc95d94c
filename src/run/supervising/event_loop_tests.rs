//! The event loop beside a QEMU that misbehaves.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::control::{self, Button, Request};
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
    Lasting { notices: None, recording: None, timeline: Timeline::begin("a", &[], "QEMU starts and answers") }
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

/// A QEMU that obeys `stop` and `cont`, with the events of each, until it is asked to power off; the commands that it got, as
/// `note` has them. One that is late does what it is told first when it is told more.
fn obeys(
    mut theirs: UnixStream,
    mut child: std::process::Child,
    late: bool,
    note: impl Fn(&str) -> String + Send + 'static,
) -> std::thread::JoinHandle<Vec<String>> {
    std::thread::spawn(move || {
        answer_negotiation(&mut theirs).unwrap();
        let mut commands = Vec::new();
        let mut lines = BufReader::new(theirs.try_clone().unwrap()).lines().map(Result::unwrap);
        let first: Vec<String> = lines.by_ref().take(if late { 2 } else { 0 }).collect();
        for line in first.into_iter().chain(lines) {
            let command: serde_json::Value = serde_json::from_str(&line).unwrap();
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
            let answer = match name.as_str() {
                "query-chardev" => {
                    serde_json::json!([{ "label": "agent0", "filename": "unix:", "frontend-open": true }])
                }
                "query-fdsets" => serde_json::json!([{ "fdset-id": 7, "fds": [] }, { "fdset-id": 1 << 16, "fds": [] }]),
                _ => serde_json::json!({}),
            };
            // Before the answer, upon which the launcher does the next thing.
            commands.push(note(&name));
            writeln!(theirs, "{}", serde_json::json!({ "return": answer, "id": command["id"] })).unwrap();
            if name == "system_powerdown" {
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
fn agent(socket: &Path) -> Arc<AtomicUsize> {
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

/// The state after this request; the launcher is in this thread.
async fn asked(run: &Path, request: Request) -> String {
    let deadline = Instant::now() + LONG;
    loop {
        let (run, request) = (run.to_owned(), request.clone());
        match tokio::task::spawn_blocking(move || control::ask(&run, &request)).await.unwrap() {
            Ok(Some(reply)) => return reply.state,
            _ => assert!(Instant::now() < deadline, "no answer"),
        }
    }
}

#[tokio::test]
async fn what_qemu_kept_while_its_guest_stood_still_is_closed_when_somebody_lets_it_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = sample::plan("(guest: Linux, memory: (size: \"1 GiB\"))", &sample::host(Shape::simple(4, 2)));
    plan.paths.run = folder.path().to_owned();
    let child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let qemu = Watched::child(child.id() as i32).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let guest = obeys(theirs, child, false, str::to_owned);
    let qmp = Qmp::negotiate(tokio::net::UnixStream::from_std(ours).unwrap(), LONG).await.unwrap();
    let mut processes = Processes { qemu: Some(qemu), ..Processes::default() };
    let running = running(qmp, &plan);
    let mut signals = Signals::catch().unwrap();
    let mut journal = Journal::open(folder.path()).unwrap();
    let (signals, lasting) = (&mut signals, &mut lasting());
    let supervised = supervise(&plan, running, "running", &mut processes, signals, &mut journal, lasting);
    let somebody = async {
        let run = &plan.paths.run;
        assert_eq!(asked(run, Request::Press(Button::Pause)).await, "paused");
        assert_eq!(asked(run, Request::Status).await, "paused");
        assert_eq!(asked(run, Request::Press(Button::Resume)).await, "running");
        asked(run, Request::Stop).await;
    };
    let (ended, ()) = tokio::join!(supervised, somebody);
    drop(ended);
    // Without any event after those of `cont`, which came with its answer.
    assert_eq!(guest.join().unwrap(), ["stop", "cont", "query-fdsets", "remove-fd", "system_powerdown"]);
}

/// Who pauses the guest around the host's sleep.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Paused {
    BySomebody,
    ByTheLauncher,
    /// By the launcher, but QEMU does it when the host wakes.
    Late,
}

#[tokio::test]
async fn a_guest_is_paused_while_the_host_sleeps_unless_somebody_had_paused_it_before() {
    for paused in [Paused::BySomebody, Paused::ByTheLauncher] {
        sleeps_and_wakes(paused).await;
    }
}

#[tokio::test]
async fn a_guest_that_qemu_pauses_only_when_the_host_wakes_goes_on() {
    sleeps_and_wakes(Paused::Late).await;
}

async fn sleeps_and_wakes(paused: Paused) {
    let by_somebody = paused == Paused::BySomebody;
    let folder = tempfile::tempdir().unwrap();
    let mut plan = sample::plan("(guest: Linux, memory: (size: \"1 GiB\"))", &sample::host(Shape::simple(4, 2)));
    plan.paths.run = folder.path().to_owned();
    let set = agent(&folder.path().join("qga.sock"));
    let child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let qemu = Watched::child(child.id() as i32).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let (fake, mut notices) = crate::systemd::logind::fake::bus().await;
    notices.hold_sleep("it is paused").await.unwrap();
    let logind = fake.clone();
    let guest = obeys(theirs, child, paused == Paused::Late, move |command| match command {
        "cont" => format!("cont, while held: {:?}", logind.held()),
        other => other.to_owned(),
    });
    let qmp = Qmp::negotiate(tokio::net::UnixStream::from_std(ours).unwrap(), LONG).await.unwrap();
    let mut processes = Processes { qemu: Some(qemu), ..Processes::default() };
    let running = running(qmp, &plan);
    let mut signals = Signals::catch().unwrap();
    let mut journal = Journal::open(folder.path()).unwrap();
    let lasting = &mut Lasting { notices: Some(notices), ..lasting() };
    let signals = &mut signals;
    let supervised = supervise(&plan, running, "running", &mut processes, signals, &mut journal, lasting);
    let run = plan.paths.run.clone();
    let host = async {
        let becomes = async |held: &[&str], state: &str| {
            let deadline = Instant::now() + LONG;
            while (fake.held(), asked(&run, Request::Status).await)
                != (held.iter().map(|s| (*s).to_owned()).collect(), state.to_owned())
            {
                assert!(Instant::now() < deadline, "waited in vain for {held:?} and {state}");
            }
        };
        if by_somebody {
            assert_eq!(asked(&run, Request::Press(Button::Pause)).await, "paused");
        }
        let after = if by_somebody { "paused" } else { "running" };
        for round in 1..=2 {
            let asleep = match paused {
                Paused::BySomebody => "paused",
                Paused::Late if round == 1 => "running",
                _ => "host-sleeps",
            };
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
        asked(&run, Request::Stop).await;
    };
    let (ended, ()) = tokio::join!(supervised, host);
    drop(ended);
    let commands = guest.join().unwrap();
    // The guest does not wait until its host's next sleep is held up.
    let goes_on = ["stop", "cont, while held: []", "query-chardev"];
    // Somebody asked meanwhile, for all that the launcher knows to have QEMU do something.
    let closes = ["query-fdsets", "remove-fd"];
    let expected = match paused {
        Paused::BySomebody => vec!["stop", "cont, while held: [\"sleep delay\"]"],
        Paused::ByTheLauncher => [&goes_on[..], &closes, &goes_on, &closes].concat(),
        Paused::Late => [&goes_on[..], &goes_on, &closes].concat(),
    };
    assert_eq!(commands, [&expected[..], &["system_powerdown"]].concat());
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
