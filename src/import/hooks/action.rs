//! What a command of a hook does, and what becomes of that here.

use super::command::Command;
use super::outcome::{Outcome, left, log};
use super::programs::{self, LOOKS};
use super::settings;
use super::wrapped::{base, before};
use crate::import::account::Verdict;
use crate::import::context::Context;
use crate::units::Stage;

/// What becomes of a command. `functions`: those that the scripts define. `stage`: when it runs.
pub fn of(cx: &mut Context, command: &Command, functions: &[String], stage: Stage) -> Outcome {
    if command.control {
        return Outcome(Verdict::LeftOut, "what leads to commands has no meaning without them".to_owned());
    }
    let whole: Vec<&str> = command.words.iter().map(String::as_str).collect();
    if let ["command", "-v" | "-V", ..] = &whole[..] {
        return Outcome(Verdict::LeftOut, LOOKS.to_owned());
    }
    let mut words = whole[before(&whole)..].to_vec();
    // The old way to call a unit.
    if words.first().is_some_and(|first| first.starts_with("/etc/init.d/")) && words.len() == 2 {
        words[0] = base(words[0]);
        words.insert(0, "service");
    }
    if words.first().is_some_and(|first| first.starts_with('-')) {
        let why = "no program begins with `-`: the line above lacks `\\` at its end, or a comment or blanks behind the `\\` end the command there";
        return Outcome(Verdict::NeedsYou, why.to_owned());
    }
    if words
        .iter()
        .find(|word| !matches!(base(word), "bash" | "sh") && !word.starts_with('-'))
        .is_some_and(|word| is_own(word))
    {
        let why = "the script only starts itself again, with other rights; `vfio-run run` says so if the machine needs root's";
        return Outcome(Verdict::DoneByItself, why.to_owned());
    }
    let starting = stage.is_start() || stage == Stage::Running;
    // What any other program says is not what it does.
    let only_says = words.first().is_none_or(|program| matches!(base(program), "echo" | "printf" | "cat"));
    let found = match &command.output {
        Some(file) => settings::written(cx, file, value(&words), starting).or_else(|| log(file).filter(|_| only_says)),
        None => None,
    };
    let found = found.or_else(|| {
        let (program, arguments) = words.split_first()?;
        if functions.iter().any(|name| name == program) {
            return left("it calls a function, whose commands are read where they stand");
        }
        // What is written to a file that nobody knows is not only said.
        if command.output.is_some() && only_says {
            None
        } else {
            programs::of(cx, base(program), arguments, starting, command)
        }
    });
    found.unwrap_or_else(|| Outcome(Verdict::NeedsYou, proposal(&words, &whole, command, stage)))
}

/// What `echo` says.
fn value<'w>(words: &[&'w str]) -> &'w str {
    words.iter().skip(1).find(|word| !word.starts_with('-')).copied().unwrap_or_default()
}

/// Whether a word is the script's own name, or has it found.
fn is_own(word: &str) -> bool {
    let found = word.strip_prefix("$(readlink").or(word.strip_prefix("$(realpath")).unwrap_or(word);
    let parts = found.split([' ', ')']).map(|part| part.trim_matches('"'));
    parts
        .filter(|part| !part.is_empty() && !part.starts_with('-'))
        .take(1)
        .any(|part| matches!(part, "$0" | "${0}" | "$BASH_SOURCE" | "${BASH_SOURCE}" | "${BASH_SOURCE[0]}"))
}

/// What to write for a command that only the user knows.
fn proposal(words: &[&str], whole: &[&str], command: &Command, stage: Stage) -> String {
    // A hook of root's runs as root; what was another user's, or has an environment of its own, stays so.
    let plain_before = ["sudo", "exec", "command", "eval", "builtin"];
    let before = &whole[..whole.len().saturating_sub(words.len())];
    let words = if before.iter().all(|word| plain_before.contains(word)) { words } else { whole };
    let plain = command.output.is_none() && !command.piped && words.iter().all(|word| !word.contains(['$', '`', '*']));
    let name = stage.name();
    if plain && !words.is_empty() {
        let argv: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
        let path = if words[0].starts_with('/') { "" } else { ", with the program's whole path" };
        return format!(
            "vfio-run does not know this; if it is still wanted: `hooks: ({name}: [[{}]])`{path}",
            argv.join(", ")
        );
    }
    format!(
        "vfio-run does not know this; if it is still wanted, put it into a script of its own: `hooks: ({name}: [[\"/usr/local/bin/SCRIPT\"]])`"
    )
}
