//! Key presses on a lab host's keyboard.

use anyhow::Result;
use serde_json::{Value, json};

use super::qmp::Qmp;

/// Presses chords one after the other: `"a"`, `"ctrl+alt+f2"`, `"v i m ret"`. The names are QEMU's key codes.
///
/// # Errors
/// When QEMU does not know a key.
pub fn press(qmp: &mut Qmp, chords: &str) -> Result<()> {
    for chord in chords.split_whitespace() {
        let keys: Vec<Value> = chord.split('+').map(|key| json!({ "type": "qcode", "data": key })).collect();
        // Down, then up: unlike `send-key` this does not leave the release to a timer.
        for down in [true, false] {
            let event = |key: &Value| json!({ "type": "key", "data": { "down": down, "key": key } });
            let events: Vec<Value> =
                if down { keys.iter().map(event).collect() } else { keys.iter().rev().map(event).collect() };
            qmp.execute("input-send-event", json!({ "events": events }))?;
        }
    }
    Ok(())
}
