//! What a command of a hook does, and what becomes of that here.

use super::outcome::{Outcome, left, log};
use super::programs::{self, LOOKS};
use super::settings;
use super::shell::Command;
use crate::import::account::Verdict;
use crate::import::context::Context;
use crate::units::Stage;

/// Words before a command that change nothing of what it does.
const BEFORE: [&str; 10] = ["sudo", "exec", "nohup", "command", "builtin", "eval", "env", "setsid", "doas", "xargs"];

/// What becomes of a command. `functions`: those that the scripts define. `stage`: when it runs.
pub fn of(cx: &mut Context, command: &Command, functions: &[String], stage: Stage) -> Outcome {
    if command.control {
        return Outcome(Verdict::LeftOut, "what leads to commands has no meaning without them".to_owned());
    }
    let mut words: Vec<&str> = command.words.iter().map(String::as_str).collect();
    if let ["command", "-v" | "-V", ..] = &words[..] {
        return Outcome(Verdict::LeftOut, LOOKS.to_owned());
    }
    let whole = words.clone();
    loop {
        let skip = match words.first() {
            Some(first) if BEFORE.contains(&base(first)) => 1,
            Some(first) if first.contains('=') && !first.starts_with(['/', '-']) => 1,
            Some(&"-u" | &"-g") => 2,
            Some(first) if first.starts_with('-') => 1,
            Some(&"timeout" | &"nice" | &"ionice") if words.len() > 2 => 2,
            // Another user's, in a shell of its own.
            Some(&"machinectl") if words.get(1) == Some(&"shell") && words.len() > 3 => {
                2 + usize::from(!words[2].starts_with('/'))
            }
            Some(&"runuser") if words.len() > 2 => 1,
            // The old way to call a unit.
            Some(first) if first.starts_with("/etc/init.d/") && words.len() == 2 => {
                words[0] = base(words[0]);
                words.insert(0, "service");
                0
            }
            _ => 0,
        };
        if skip == 0 || words.len() <= skip {
            break;
        }
        words.drain(..skip);
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

/// A program's name without its folder.
fn base(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
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
