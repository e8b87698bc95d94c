//! The conversation against a peer that misbehaves in every way that was seen, and in some that were not.

use std::future::Future;
use std::time::Duration;

use qapi::qmp;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::time::timeout;

use super::connection::{DEADLINE, LINE_LIMIT};
use super::{Qmp, QmpError};

const SOON: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(20);
const GREETING: &str = r#"{"QMP":{"version":{"qemu":{"micro":22,"minor":2,"major":7},"package":"Debian 1:7.2"},"capabilities":["oob","new"]}}"#;

/// QEMU's end of the connection.
struct Peer(BufReader<DuplexStream>);

impl Peer {
    async fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
        self.0.write_all(b"\r\n").await.unwrap();
    }

    /// The next command that came: its name and id.
    async fn hear(&mut self) -> (String, Value) {
        let mut line = String::new();
        self.0.read_line(&mut line).await.unwrap();
        let command: Value = serde_json::from_str(&line).unwrap();
        (command["execute"].as_str().unwrap().to_owned(), command["id"].clone())
    }

    async fn answer(&mut self, id: &Value, with: Value) {
        self.say(&json!({ "return": with, "id": id }).to_string()).await;
    }
}

/// A negotiated connection and its peer, with so many bytes of room on the way.
async fn connected(room: usize) -> (Qmp<DuplexStream>, Peer) {
    let (ours, theirs) = tokio::io::duplex(room);
    let mut peer = Peer(BufReader::new(theirs));
    let greet = async {
        peer.say(GREETING).await;
        let (name, id) = peer.hear().await;
        assert_eq!(name, "qmp_capabilities");
        peer.answer(&id, json!({})).await;
    };
    let (qmp, ()) = tokio::join!(Qmp::negotiate(ours, LONG), greet);
    (qmp.unwrap(), peer)
}

#[tokio::test]
async fn greets_and_tells_the_version() {
    let (qmp, _peer) = connected(4096).await;
    assert_eq!(qmp.version().numbers, (7, 2, 22));
    assert_eq!(qmp.version().to_string(), "7.2.22 (Debian 1:7.2)");
}

#[tokio::test]
async fn what_is_asked_with_the_greeting_is_sent_at_once_and_answered_in_order() {
    let (ours, theirs) = tokio::io::duplex(4096);
    let mut peer = Peer(BufReader::new(theirs));
    let script = async {
        peer.say(GREETING).await;
        // All are there before the first is answered.
        let mut heard = Vec::new();
        for _ in 0..4 {
            heard.push(peer.hear().await);
        }
        let names: Vec<&str> = heard.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["qmp_capabilities", "query-a", "query-b", "query-c"]);
        peer.answer(&heard[0].1, json!({})).await;
        peer.answer(&heard[1].1, json!(["a"])).await;
        peer.say(r#"{"event":"RESUME"}"#).await;
        peer.say(&json!({ "error": { "class": "GenericError", "desc": "no b" }, "id": heard[2].1 }).to_string()).await;
        peer.answer(&heard[3].1, json!(["c"])).await;
        // The connection goes on.
        let (name, id) = peer.hear().await;
        assert_eq!(name, "query-status");
        peer.answer(&id, json!({ "status": "prelaunch", "running": false, "singlestep": false })).await;
    };
    let ask = async {
        let (mut qmp, answers) = Qmp::negotiate_and_ask(ours, ["query-a", "query-b", "query-c"], LONG).await.unwrap();
        let [Ok(a), Err(QmpError::Refused { command, detail, .. }), Ok(c)] = answers else { panic!("{answers:?}") };
        assert_eq!((a, command.as_str(), detail.as_str(), c), (json!(["a"]), "query-b", "no b", json!(["c"])));
        assert_eq!(qmp.execute_raw("query-status", json!({})).await.unwrap()["status"], "prelaunch");
        assert_eq!(qmp.queued_event().unwrap().name, "RESUME");
    };
    tokio::join!(script, ask);
}

#[tokio::test]
async fn a_peer_that_goes_before_it_has_answered_all_has_not_answered() {
    let (ours, theirs) = tokio::io::duplex(4096);
    let mut peer = Peer(BufReader::new(theirs));
    let script = async move {
        peer.say(GREETING).await;
        let (_, id) = peer.hear().await;
        peer.answer(&id, json!({})).await;
    };
    let (answers, ()) = tokio::join!(Qmp::negotiate_and_ask(ours, ["query-a"], LONG), script);
    assert!(matches!(answers, Err(QmpError::Closed)));
}

#[tokio::test]
async fn what_greets_otherwise_is_no_qemu() {
    let (ours, theirs) = tokio::io::duplex(4096);
    let mut peer = Peer(BufReader::new(theirs));
    peer.say(r#"{"hello":1}"#).await;
    assert!(matches!(Qmp::negotiate(ours, LONG).await, Err(QmpError::Unexpected { .. })));
    let (ours, _theirs) = tokio::io::duplex(4096);
    assert!(matches!(Qmp::negotiate(ours, SOON).await, Err(QmpError::Deadline { .. })));
    let (ours, theirs) = tokio::io::duplex(4096);
    drop(theirs);
    assert!(matches!(Qmp::negotiate(ours, LONG).await, Err(QmpError::Closed)));
}

#[tokio::test]
async fn unknown_events_and_values_are_passed_on_and_end_nothing() {
    let (mut qmp, mut peer) = connected(4096).await;
    let script = async {
        let (_, id) = peer.hear().await;
        peer.say(r#"{"event":"BRAND_NEW","data":{"x":1},"timestamp":{"seconds":5,"microseconds":7}}"#).await;
        peer.say(r#"{"event":"SHUTDOWN","data":{"guest":true,"reason":"invented"},"timestamp":{"seconds":-1,"microseconds":-1}}"#).await;
        peer.say(r#"{"event":"STOP","timestamp":{"seconds":1,"microseconds":2}}"#).await;
        peer.answer(&id, json!({ "enabled": true, "present": true })).await;
    };
    let (kvm, ()) = tokio::join!(qmp.execute(qmp::query_kvm {}), script);
    assert!(kvm.unwrap().enabled);
    let new = qmp.next_event().await.unwrap();
    assert_eq!((new.name.as_str(), new.get("x")), ("BRAND_NEW", Some(&json!(1))));
    assert_eq!(new.timestamp, Some(Duration::new(5, 7000)));
    assert!(new.typed().is_none());
    let shutdown = qmp.next_event().await.unwrap();
    assert_eq!((shutdown.text("reason"), shutdown.timestamp), (Some("invented"), None));
    assert!(shutdown.typed().is_none());
    assert!(matches!(qmp.next_event().await.unwrap().typed(), Some(qmp::Event::STOP { .. })));
    assert!(qmp.queued_event().is_none());
}

#[tokio::test]
async fn a_value_that_the_types_do_not_know_is_one_error_and_raw_still_works() {
    let (mut qmp, mut peer) = connected(4096).await;
    let status = json!({ "status": "invented", "running": false });
    let script = async {
        for _ in 0..2 {
            let (_, id) = peer.hear().await;
            peer.answer(&id, status.clone()).await;
        }
    };
    let ask = async {
        assert!(matches!(qmp.execute(qmp::query_status {}).await, Err(QmpError::Unexpected { .. })));
        assert_eq!(qmp.execute_raw("query-status", json!({})).await.unwrap(), status);
    };
    tokio::join!(ask, script);
}

#[tokio::test]
async fn an_error_keeps_qemus_class_and_words() {
    let (mut qmp, mut peer) = connected(4096).await;
    let script = async {
        let (_, id) = peer.hear().await;
        let error = json!({ "error": { "class": "CommandNotFound", "desc": "no such", "data": 1 }, "id": id });
        peer.say(&error.to_string()).await;
    };
    let (answer, ()) = tokio::join!(qmp.execute_raw("x-new", json!({})), script);
    let error = answer.unwrap_err();
    assert!(matches!(&error, QmpError::Refused { class, .. } if class == "CommandNotFound"), "{error:?}");
    assert_eq!(error.to_string(), "QEMU refused `x-new`: no such");
}

#[tokio::test]
async fn a_late_answer_is_dropped_and_answers_may_come_in_any_order() {
    let (mut qmp, mut peer) = connected(4096).await;
    let late = qmp.execute_raw_within("first", json!({}), SOON).await;
    assert!(matches!(late, Err(QmpError::Deadline { command, .. }) if command == "first"));
    let dropped = timeout(SOON, qmp.execute_raw("second", json!({}))).await;
    assert!(dropped.is_err());
    let script = async {
        let ids = [peer.hear().await.1, peer.hear().await.1, peer.hear().await.1];
        peer.answer(&ids[1], json!("second")).await;
        peer.answer(&json!("not a number"), json!("nobody's")).await;
        peer.say(r#"{"return":"without id"}"#).await;
        peer.answer(&ids[2], json!("third")).await;
        peer.answer(&ids[0], json!("first")).await;
        peer.say(r#"{"event":"RESUME"}"#).await;
    };
    let (third, ()) = tokio::join!(qmp.execute_raw("third", json!({})), script);
    assert_eq!(third.unwrap(), json!("third"));
    // The first one's answer comes while events are waited for.
    assert_eq!(qmp.next_event().await.unwrap().name, "RESUME");
}

#[tokio::test]
async fn a_command_cut_short_in_writing_is_finished_before_the_next() {
    // So narrow that the command is cut; the deadline ends it there.
    let (mut qmp, mut peer) = connected(128).await;
    let big = json!({ "text": "x".repeat(1000) });
    assert!(matches!(qmp.execute_raw_within("big", big, SOON).await, Err(QmpError::Deadline { .. })));
    let script = async {
        assert_eq!(peer.hear().await.0, "big");
        let (name, id) = peer.hear().await;
        assert_eq!(name, "small");
        peer.answer(&id, json!(1)).await;
    };
    let (answer, ()) = tokio::join!(qmp.execute_raw("small", json!({})), script);
    assert_eq!(answer.unwrap(), json!(1));
}

#[tokio::test]
async fn a_command_that_was_never_begun_is_not_sent_out_of_turn() {
    // The first fills the way; of the second not one byte goes out.
    let (mut qmp, mut peer) = connected(128).await;
    let big = json!({ "text": "x".repeat(1000) });
    assert!(qmp.execute_raw_within("big", big, SOON).await.is_err());
    assert!(qmp.execute_raw_within("forgotten", json!({}), SOON).await.is_err());
    let script = async {
        assert_eq!(peer.hear().await.0, "big");
        let (name, id) = peer.hear().await;
        assert_eq!(name, "last");
        peer.answer(&id, json!(1)).await;
    };
    let (answer, ()) = tokio::join!(qmp.execute_raw("last", json!({})), script);
    assert_eq!(answer.unwrap(), json!(1));
}

#[tokio::test]
async fn garbage_is_passed_over() {
    let (mut qmp, mut peer) = connected(64 * 1024).await;
    let script = async {
        let (_, id) = peer.hear().await;
        for line in ["", "not json", "[1]", "{\"half\":", "\u{1b}[31m", r#"{"event":7}"#, &"[".repeat(5000)] {
            peer.say(line).await;
        }
        peer.0.write_all(b"\xff\xfe\n").await.unwrap();
        peer.answer(&id, json!(1)).await;
    };
    let (answer, ()) = tokio::join!(qmp.execute_raw("x", json!({})), script);
    assert_eq!(answer.unwrap(), json!(1));
}

#[tokio::test]
async fn an_over_long_line_is_thrown_away_and_the_next_is_read() {
    let (mut qmp, mut peer) = connected(64 * 1024).await;
    let script = async {
        let (_, id) = peer.hear().await;
        peer.answer(&id, json!("x".repeat(3 * LINE_LIMIT))).await;
        let (_, id) = peer.hear().await;
        peer.answer(&id, json!("short")).await;
        let (_, id) = peer.hear().await;
        peer.answer(&id, json!("x".repeat(2 * LINE_LIMIT))).await;
    };
    let ask = async {
        assert!(matches!(qmp.execute_raw("long", json!({})).await, Err(QmpError::LineTooLong { .. })));
        assert_eq!(qmp.execute_raw("short", json!({})).await.unwrap(), json!("short"));
        qmp.set_line_limit(3 * LINE_LIMIT);
        assert!(qmp.execute_raw("long", json!({})).await.is_ok());
    };
    tokio::join!(ask, script);
}

#[tokio::test]
async fn an_end_in_the_middle_is_closed_and_the_events_before_it_are_kept() {
    let (mut qmp, mut peer) = connected(4096).await;
    let script = async move {
        peer.hear().await;
        peer.say(r#"{"event":"SHUTDOWN","data":{"guest":false,"reason":"host-qmp-quit"}}"#).await;
        peer.0.write_all(br#"{"return": {"#).await.unwrap();
        drop(peer);
    };
    let (answer, ()) = tokio::join!(qmp.execute(qmp::quit {}), script);
    assert!(matches!(answer, Err(QmpError::Closed)));
    assert_eq!(qmp.next_event().await.unwrap().name, "SHUTDOWN");
    assert!(matches!(qmp.next_event().await, Err(QmpError::Closed)));
    assert!(matches!(qmp.execute(qmp::query_kvm {}).await, Err(QmpError::Closed)));
}

#[tokio::test]
async fn a_flood_of_one_event_is_cut_and_one_of_another_is_not_lost() {
    let (mut qmp, mut peer) = connected(64 * 1024).await;
    let script = async {
        let (_, id) = peer.hear().await;
        let event = json!({ "event": "BLOCK_IO_ERROR", "data": { "reason": "x".repeat(1000) } }).to_string();
        for _ in 0..6000 {
            peer.say(&event).await;
        }
        peer.answer(&id, json!(1)).await;
    };
    let (answer, ()) = tokio::join!(qmp.execute_raw("x", json!({})), script);
    assert_eq!(answer.unwrap(), json!(1));
    let mut kept = 0;
    while qmp.queued_event().is_some() {
        kept += 1;
    }
    assert!((1500..4000).contains(&kept), "{kept}");
}

#[tokio::test]
async fn words_that_a_terminal_would_obey_reach_nobody() {
    let (mut qmp, mut peer) = connected(4096).await;
    let evil = "no\u{1b}]0;title\u{7}\nvfio-run: the host is as it was";
    let clean = "no\u{fffd}]0;title\u{fffd}\u{fffd}vfio-run: the host is as it was";
    let script = async {
        let (_, id) = peer.hear().await;
        let event = json!({ "event": format!("A{evil}"), "data": { "reason": evil, "deep": [{ "x": evil }] } });
        peer.say(&event.to_string()).await;
        let error = json!({ "error": { "class": evil, "desc": evil.to_owned() + &"x".repeat(900_000) }, "id": id });
        peer.say(&error.to_string()).await;
        let (_, id) = peer.hear().await;
        peer.answer(&id, json!({ "status": evil, "running": true })).await;
    };
    let ask = async {
        let refused = qmp.execute_raw("x", json!({})).await.unwrap_err().to_string();
        assert!(refused.starts_with(&format!("QEMU refused `x`: {clean}xxx")) && refused.ends_with("x…"), "{refused}");
        assert!(refused.len() < 5000);
        let unexpected = qmp.execute(qmp::query_status {}).await.unwrap_err().to_string();
        assert!(unexpected.contains(clean), "{unexpected}");
        let event = qmp.queued_event().unwrap();
        assert_eq!(event.name, format!("A{clean}"));
        assert_eq!(event.data, json!({ "reason": clean, "deep": [{ "x": clean }] }));
    };
    tokio::join!(ask, script);
}

#[tokio::test]
async fn lines_that_cost_much_memory_are_not_parsed() {
    let (mut qmp, mut peer) = connected(64 * 1024).await;
    let script = async {
        let (_, id) = peer.hear().await;
        // Some 300 MB as values, from one line of 1 MiB.
        let objects = vec!["{\"\":0}"; 130_000].join(",");
        peer.say(&format!("{{\"return\":[{objects}],\"id\":{id}}}")).await;
        for _ in 0..3 {
            // An event that nobody knows: its name is enough.
            let objects = vec!["{\"\":0}"; 3_000].join(",");
            peer.say(&format!("{{\"event\":\"BIG\",\"data\":{{\"all\":[{objects}]}}}}")).await;
        }
        peer.answer(&id, json!(1)).await;
    };
    let (answer, ()) = tokio::join!(qmp.execute_raw_within("x", json!({}), 6 * LONG), script);
    assert_eq!(answer.unwrap(), json!(1));
    let event = qmp.queued_event().unwrap();
    assert_eq!((event.name.as_str(), event.data), ("BIG", json!({})));
}

#[tokio::test]
async fn endless_garbage_ends_the_conversation() {
    let (mut qmp, mut peer) = connected(64 * 1024).await;
    let script = async {
        peer.hear().await;
        for _ in 0..200 {
            peer.say("garbage").await;
        }
    };
    let (answer, ()) = tokio::join!(qmp.execute_raw("x", json!({})), script);
    assert!(matches!(answer, Err(QmpError::Garbled { lines: 101 })), "{answer:?}");
}

#[tokio::test]
async fn an_idle_connection_is_not_woken() {
    let (mut qmp, _peer) = connected(4096).await;
    let mut polls = 0;
    let mut waiting = std::pin::pin!(qmp.next_event());
    let counted = std::future::poll_fn(|context| {
        polls += 1;
        waiting.as_mut().poll(context).map(drop)
    });
    // The timeout itself polls once more at its end.
    assert!(timeout(4 * SOON, counted).await.is_err());
    assert!(polls <= 2, "{polls}");
}

#[tokio::test]
async fn a_descriptor_goes_along_with_its_command() {
    use std::io::{IoSliceMut, Write as _};
    use std::os::fd::{AsFd as _, AsRawFd as _};

    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    use tokio::net::UnixStream;

    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"of the host").unwrap();
    let peer = std::thread::spawn(move || {
        let mut said = &theirs;
        let hear = || {
            let mut text = [0; 512];
            let mut space = nix::cmsg_space!([std::os::fd::RawFd; 2]);
            let mut parts = [IoSliceMut::new(&mut text)];
            let got = recvmsg::<()>(theirs.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty()).unwrap();
            let fds: usize = got
                .cmsgs()
                .unwrap()
                .map(|m| match m {
                    ControlMessageOwned::ScmRights(fds) => fds.len(),
                    _ => 0,
                })
                .sum();
            let bytes = got.bytes;
            (serde_json::from_slice::<Value>(&text[..bytes]).unwrap(), fds)
        };
        said.write_all(GREETING.as_bytes()).unwrap();
        said.write_all(b"\r\n").unwrap();
        let mut told = Vec::new();
        for _ in 0..2 {
            let (command, fds) = hear();
            told.push((command["execute"].as_str().unwrap().to_owned(), fds));
            writeln!(said, "{}", json!({ "return": { "fdset-id": 4 }, "id": command["id"] })).unwrap();
        }
        told
    });
    let mut qmp = Qmp::negotiate(UnixStream::from_std(ours).unwrap(), LONG).await.unwrap();
    let answer = qmp.execute_with_fd("add-fd", json!({}), file.as_fd(), DEADLINE).await.unwrap();
    assert_eq!(answer["fdset-id"], 4);
    assert_eq!(peer.join().unwrap(), [("qmp_capabilities".to_owned(), 0), ("add-fd".to_owned(), 1)]);
}

#[tokio::test]
async fn an_event_that_was_waited_for_is_still_read() {
    let (mut qmp, mut peer) = connected(4096).await;
    peer.say(r#"{"event":"RESET"}"#).await;
    peer.say(r#"{"event":"DEVICE_DELETED","data":{"device":"usb-1"}}"#).await;
    let is = |id: &'static str| move |event: &super::Event| event.text("device") == Some(id);
    qmp.wait_for_event(is("usb-1"), LONG).await.unwrap();
    assert!(matches!(qmp.wait_for_event(is("usb-2"), SOON).await, Err(QmpError::Deadline { .. })));
    assert_eq!(qmp.next_event().await.unwrap().name, "RESET");
    assert_eq!(qmp.next_event().await.unwrap().name, "DEVICE_DELETED");
}
