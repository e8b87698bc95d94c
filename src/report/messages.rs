//! What the program says while it works: plain lines on standard error, JSON lines on standard output with `--json`, and
//! fields of the journal under systemd.

use std::io::Write;
use std::os::unix::fs::MetadataExt as _;

use anstyle::{AnsiColor, Style};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry;

use super::hanging::{each_within, messages_width};
use crate::cli::OutputArgs;
use crate::streams::{self, Which};
use crate::units::printable_lines;

/// Sets up where messages go for the rest of the process.
pub fn install(output: OutputArgs) {
    let level = match (output.quiet, output.verbose) {
        // Advice has no level of its own: who gives it asks (`OutputArgs::quiet`).
        (true, _) => LevelFilter::WARN,
        (false, 0) => LevelFilter::INFO,
        (false, 1) => LevelFilter::DEBUG,
        (false, _) => LevelFilter::TRACE,
    };
    // Others' crates have nothing to say to the user.
    let ours = tracing_subscriber::filter::Targets::new().with_target(env!("CARGO_CRATE_NAME"), level);
    let journald = to_journal()
        .then(|| tracing_journald::layer().ok())
        .flatten()
        .map(|l| l.with_syslog_identifier("vfio-run".into()));
    let lines = (output.json || journald.is_none()).then_some(Lines { json: output.json });
    let subscriber = registry().with(journald).with(lines).with(ours);
    // Only a second call could fail.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Whether standard error is the journal's own stream (systemd.exec(5), `$JOURNAL_STREAM`): then it can take fields.
fn to_journal() -> bool {
    let Some((device, inode)) = std::env::var("JOURNAL_STREAM").ok().and_then(|stream| {
        let (device, inode) = stream.split_once(':')?;
        Some((device.parse::<u64>().ok()?, inode.parse::<u64>().ok()?))
    }) else {
        return false;
    };
    std::fs::metadata("/proc/self/fd/2").is_ok_and(|m| (m.dev(), m.ino()) == (device, inode))
}

/// One line a message.
struct Lines {
    json: bool,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = *event.metadata().level();
        // A terminal that is gone must not end a launcher that still has to restore the host.
        drop(if self.json { fields.write_json(level) } else { fields.write_plain(level) });
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    others: serde_json::Map<String, serde_json::Value>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

impl Fields {
    fn put(&mut self, field: &Field, value: serde_json::Value) {
        match (field.name(), value) {
            // What QEMU and other programs said is in messages too; a guest may have taken QEMU over.
            ("message", serde_json::Value::String(text)) => {
                self.message = printable_lines(&text);
            }
            (name, value) => {
                self.others.insert(name.to_owned(), value);
            }
        }
    }

    fn write_plain(&self, level: Level) -> std::io::Result<()> {
        let styled = |text: &str| -> std::io::Result<Vec<u8>> {
            let choice = anstream::AutoStream::choice(&std::io::stderr());
            let mut line = anstream::AutoStream::new(Vec::new(), choice);
            writeln!(line, "{text}")?;
            Ok(line.into_inner())
        };
        let width = messages_width();
        let line = styled(&plain(level, &self.message, width))?;
        let lost = |lost| styled(&plain(Level::INFO, &words_for_lost(lost), width)).unwrap_or_default();
        streams::message(Which::Err, &line, lost)
    }

    fn write_json(self, level: Level) -> std::io::Result<()> {
        write_line(&self.json(level))
    }

    fn json(self, level: Level) -> serde_json::Value {
        let mut line = serde_json::Map::new();
        line.insert("level".to_owned(), level.as_str().to_lowercase().into());
        line.extend(self.others);
        line.insert("message".to_owned(), self.message.into());
        serde_json::Value::Object(line)
    }
}

/// A message for a terminal of this width. In a pipe or a log, which are searched by line, each of its lines is one.
fn plain(level: Level, message: &str, width: usize) -> String {
    let (word, style) = match level {
        Level::ERROR => ("error: ", AnsiColor::Red.on_default().bold()),
        Level::WARN => ("warning: ", AnsiColor::Yellow.on_default().bold()),
        _ => ("", Style::new()),
    };
    each_within(width, &format!("vfio-run: {style}{word}{style:#}{message}"))
}

/// Prints an error with more to it than a message's fields can hold as one of the JSON lines: what it is, its message,
/// and the value of one more field.
pub fn error_line(event: &str, message: &str, field: &str, value: serde_json::Value) {
    let mut fields = Fields { message: message.to_owned(), ..Fields::default() };
    fields.others.insert("event".to_owned(), event.into());
    fields.others.insert(field.to_owned(), value);
    // As with messages, a reader that went away is no error.
    drop(fields.write_json(Level::ERROR));
}

fn write_line(line: &serde_json::Value) -> std::io::Result<()> {
    let lost = |lost| {
        let level = Level::WARN.as_str().to_lowercase();
        format!("{}\n", serde_json::json!({ "level": level, "message": words_for_lost(lost) })).into_bytes()
    };
    streams::message(Which::Out, format!("{line}\n").as_bytes(), lost)
}

/// In place of messages that nobody took.
fn words_for_lost(lost: u64) -> String {
    match lost {
        1 => "1 message was lost, since nobody read it".to_owned(),
        n => format!("{n} messages were lost, since nobody read them"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Keeps what a line would be.
    struct Kept(Arc<Mutex<Vec<serde_json::Value>>>);

    impl<S: Subscriber> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut fields = Fields::default();
            event.record(&mut fields);
            self.0.lock().unwrap().push(fields.json(*event.metadata().level()));
        }
    }

    #[test]
    fn numbers_and_switches_stay_what_they_are() {
        let kept = Arc::new(Mutex::new(Vec::new()));
        tracing::subscriber::with_default(registry().with(Kept(kept.clone())), || {
            tracing::info!(event = "round", number = 3u32, there = 12.5, less = -1, well = true, "round {}", 3);
        });
        let line = serde_json::json!({
            "level": "info", "event": "round", "number": 3, "there": 12.5, "less": -1, "well": true, "message": "round 3",
        });
        assert_eq!(*kept.lock().unwrap(), [line]);
    }

    #[test]
    fn a_message_is_wrapped_for_a_terminal_and_one_line_elsewhere() {
        let message = "win11 runs without a launcher → `vfio-run recover --adopt win11` supervises it again";
        let shown = |width| anstream::adapter::strip_str(&plain(Level::WARN, message, width)).to_string();
        assert_eq!(shown(usize::MAX), format!("vfio-run: warning: {message}"));
        assert_eq!(
            shown(44),
            "vfio-run: warning: win11 runs without a\n  launcher\n  → `vfio-run recover --adopt win11`\n  supervises it again"
        );
    }
}
