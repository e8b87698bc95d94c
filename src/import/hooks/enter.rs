//! What becomes of a command enters the account; of one that hands a text to a shell, what becomes of that text's.

use std::collections::BTreeMap;

use super::action;
use super::command::Command;
use super::outcome::Outcome;
use super::shell;
use super::wrapped::base;
use crate::import::account::Verdict;
use crate::import::context::Context;
use crate::units::Stage;

/// Enters what becomes of a command, or of those that it hands to a shell.
pub fn enter(cx: &mut Context, file: &str, command: &Command, functions: &[String], stage: Stage) {
    if let Some(why) = command.never {
        cx.account.line(Verdict::LeftOut, file, command.line, &command.shown(), why);
        return;
    }
    if let Some(inner) = in_a_shell(command) {
        let script = shell::read(inner, &mut BTreeMap::new());
        for below in script.commands {
            let Outcome(verdict, words) = action::of(cx, &below, functions, stage);
            cx.account.line(verdict, file, command.line, &below.shown(), &words);
        }
        return;
    }
    let Outcome(verdict, words) = action::of(cx, command, functions, stage);
    cx.account.line(verdict, file, command.line, &command.shown(), &words);
}

/// Enters what a command has only if tests hold that are known only when the script runs.
pub fn only_if(cx: &mut Context, file: &str, command: &Command) {
    for one in &command.only_if {
        let here = match one.taken {
            true => "this file has it, since there is no other: see that it is what you want",
            false => {
                "this file is without it: if you want it, write it into QEMU's command itself and import the script again"
            }
        };
        let words =
            format!("QEMU has this only if {}, which is known only when the script runs; {here}", one.condition);
        cx.account.line(Verdict::NeedsYou, file, one.line, &one.text, &words);
    }
}

/// What `sh -c` is given, or `su USER -c`.
pub fn in_a_shell(command: &Command) -> Option<&str> {
    let place = command.words.iter().position(|word| matches!(base(word), "sh" | "bash" | "su"))?;
    let before = command.words[..place].first().map(String::as_str);
    let leading = before.is_none_or(|word| {
        matches!(word, "sudo" | "exec" | "nohup" | "doas" | "timeout" | "env" | "nice" | "runuser") && place <= 4
    });
    let is_option = |word: &String| word.starts_with('-') && !word.starts_with("--") && word.ends_with('c');
    let option = command.words[place..].iter().position(is_option).filter(|option| *option <= 3)?;
    command.words.get(place + option + 1).map(String::as_str).filter(|_| leading && !command.control)
}
