//! The lines of a monitor.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use vfio_run::qemu::{Qmp, QmpError};

use super::fuzz;
use super::mutate::Mutator;

const LONG: Duration = Duration::from_secs(10);
const GREETING: &str =
    r#"{"QMP":{"version":{"qemu":{"micro":22,"minor":2,"major":7},"package":""},"capabilities":["oob"]}}"#;
const LINES: [&str; 6] = [
    r#"{"return": {"status": "running", "running": true, "singlestep": false}, "id": 2}"#,
    r#"{"error": {"class": "GenericError", "desc": "no such device"}, "id": 2}"#,
    r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "RESET", "data": {"guest": true, "reason": "guest-reset"}}"#,
    r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "BLOCK_IO_ERROR", "data": {"device": "", "node-name": "disk0", "operation": "write", "action": "report", "reason": "No space"}}"#,
    r#"{"return": [{"cpu-index": 0, "thread-id": 4711, "qom-path": "/machine/unattached/device[0]", "target": "x86_64"}], "id": 2}"#,
    GREETING,
];

/// A conversation in which the other side says a few damaged lines, then what was asked for, and leaves.
async fn talk(mutator: &mut Mutator) {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    // A damaged greeting may be no greeting any more, so the right one follows.
    let mut greeting = if mutator.below(8) == 0 { mutator.bytes(GREETING.as_bytes()) } else { Vec::new() };
    greeting.extend(format!("\n{GREETING}\n").bytes());
    let mut damaged = Vec::new();
    for _ in 0..=mutator.below(6) {
        let line = *mutator.one_of(&LINES);
        damaged.extend(mutator.bytes(line.as_bytes()));
        damaged.push(b'\n');
    }
    let peer = async move {
        let mut stream = BufReader::new(theirs);
        let mut line = String::new();
        stream.write_all(&greeting).await?;
        for part in [&b""[..], &damaged] {
            stream.write_all(part).await?;
            line.clear();
            stream.read_line(&mut line).await?;
            let id = serde_json::from_str::<serde_json::Value>(&line)?["id"].take();
            stream.write_all(format!("{}\n", json!({ "return": {}, "id": id })).as_bytes()).await?;
        }
        std::io::Result::Ok(())
    };
    let conversation = async move {
        let mut qmp = Qmp::negotiate(ours, LONG).await?;
        let answer = qmp.execute_raw_within("query-status", json!({}), LONG).await;
        while let Ok(event) = qmp.next_event().await {
            assert!(!event.name.contains(|c: char| c.is_control()), "{event:?}");
            drop(event.typed());
        }
        answer
    };
    let (answer, _) = tokio::join!(conversation, peer);
    assert!(!matches!(answer, Err(QmpError::Deadline { .. })), "{answer:?}");
}

#[test]
fn monitor_lines() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    fuzz("monitor_lines", |mutator| runtime.block_on(talk(mutator)));
}
