//! What became of a command of a hook.

use crate::import::account::Verdict;

/// What became of a command.
pub struct Outcome(pub Verdict, pub String);

/// vfio-run does it by itself.
pub fn done(words: &str) -> Option<Outcome> {
    Some(Outcome(Verdict::DoneByItself, words.to_owned()))
}

/// The machine file says it.
pub fn taken(words: impl Into<String>) -> Option<Outcome> {
    Some(Outcome(Verdict::TakenOver, words.into()))
}

/// A mistake was mended.
pub fn improved(words: impl Into<String>) -> Option<Outcome> {
    Some(Outcome(Verdict::Improved, words.into()))
}

/// It has no meaning here.
pub fn left(words: &str) -> Option<Outcome> {
    Some(Outcome(Verdict::LeftOut, words.to_owned()))
}

/// What becomes of one call from what becomes of each part of it; `None` if a part needs the user.
pub fn together(parts: impl Iterator<Item = Option<Outcome>>) -> Option<Outcome> {
    let parts: Vec<Outcome> = parts.collect::<Option<_>>()?;
    let verdict = parts.iter().map(|part| part.0).min()?;
    let mut words: Vec<&str> = parts.iter().map(|part| part.1.as_str()).collect();
    words.dedup();
    Some(Outcome(verdict, words.join("; ")))
}

/// What is restored.
pub const RESTORED: &str = "after the guest, vfio-run restores what it changed to what it was, also after a crash";

/// A file of messages.
pub fn log(file: &str) -> Option<Outcome> {
    let name = file.to_ascii_lowercase();
    let is_log =
        name.contains("log") || name.contains("kmsg") || name.starts_with("/tmp/") || name.contains("/dev/tty");
    if is_log && !name.starts_with("/sys") { left("vfio-run has its own log: /var/log/vfio-run") } else { None }
}
