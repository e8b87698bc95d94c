//! libvirt's hooks: shell scripts that are read, never run. What they do that vfio-run does by itself is entered so, by script and
//! line; settings become fields; what only the user knows needs the user.

mod action;
mod branches;
mod calls;
mod command;
mod decide;
mod ends;
mod enter;
mod find;
mod marks;
mod other;
mod outcome;
mod programs;
mod settings;
mod shell;
mod stages;
mod taps;
mod tested;
mod tokens;
mod units;
mod values;
mod variables;
#[cfg(test)]
mod whole_scripts;
mod wrapped;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::import::account::Verdict;
use crate::import::context::Context;
use crate::machine::{HostPlace, Tune};
use crate::units::{Stage, printable_start};

pub use command::Command;
pub use enter::{enter, in_a_shell, only_if};
pub use find::Scripts;
use find::{Hook, MAX_SCRIPTS};
pub use outcome::Outcome;
pub use shell::read_calls as read_shell;
pub use taps::Taps;
pub use units::isolated;
pub use wrapped::{base, starters};

/// Reads all hooks into the machine and the account.
pub fn read(cx: &mut Context, scripts: &Scripts, domain: &str) {
    let hooks = find::all(scripts, domain);
    let mut variables = BTreeMap::new();
    let mut functions: Vec<String> = Vec::new();
    let mut seen: BTreeSet<String> = hooks.iter().map(|hook| hook.name.clone()).collect();
    let mut open: Vec<Hook> = hooks.iter().rev().cloned().collect();
    while let Some(hook) = open.pop() {
        if is_dispatcher(&hook) {
            let words = "it calls the scripts of `qemu.d`, which are read";
            let lines = (1..).zip(hook.text.lines().map(str::trim));
            for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
                cx.account.line(Verdict::LeftOut, &hook.name, number, &printable_start(line, 80), words);
            }
            continue;
        }
        if let Some(language) = other::language(&hook.text) {
            other::read(cx, &hook, language);
            continue;
        }
        let script = shell::read(&hook.text, &mut variables);
        functions.extend(script.functions.iter().cloned());
        let own = tested::Domain { name: domain, tested: !scripts.named || stages::knows(&script, domain) };
        // libvirt calls only these with the domain's name.
        let own = (hook.name == "qemu" || hook.name.starts_with("qemu.d/")).then_some(own);
        let stages = stages::of(&script, hook.stage, own);
        for (command, stage) in script.commands.iter().zip(stages) {
            let Some(stage) = stage else {
                cx.account.line(
                    Verdict::LeftOut,
                    &hook.name,
                    command.line,
                    &command.shown(),
                    "it is for another domain",
                );
                continue;
            };
            if calls_others(&hook, command) {
                let words = "it calls the scripts of `qemu.d`, which are read";
                cx.account.line(Verdict::LeftOut, &hook.name, command.line, &command.shown(), words);
                continue;
            }
            let other = called(command, scripts, stage)
                .filter(|other| seen.len() < MAX_SCRIPTS && seen.insert(other.name.clone()));
            if other.is_some() || called_before(command, &seen) {
                let words = "it calls a script that is read too";
                cx.account.line(Verdict::LeftOut, &hook.name, command.line, &command.shown(), words);
                if let Some(other) = &other {
                    // A script that is sourced is known to the commands below.
                    functions.extend(shell::read(&other.text, &mut variables).functions);
                }
                open.extend(other);
                continue;
            }
            enter(cx, &hook.name, command, &functions, stage);
        }
    }
    in_one_word(cx);
    if !scripts.named {
        return;
    }
    for hook in find::below(scripts).iter().filter(|hook| !seen.contains(&hook.name)) {
        let lines = (1..).zip(hook.text.lines().map(str::trim));
        for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let words = "no hook of this domain calls this script";
            cx.account.line(Verdict::LeftOut, &hook.name, number, &printable_start(line, 80), words);
        }
    }
}

/// Scripts that keep all of the host's work off the vCPUs' CPUs, and its CPUs awake, mean what `tune: Desktop` does.
fn in_one_word(cx: &mut Context) {
    let host = &mut cx.machine.host;
    let away = [host.irqs, host.workqueues, host.kernel_threads];
    if host.governor.as_deref() != Some("performance") || away.iter().any(|place| *place != Some(HostPlace::Away)) {
        return;
    }
    host.tune = Some(Tune::Desktop);
    host.governor = None;
    [host.irqs, host.workqueues, host.kernel_threads, host.watchdog] = [None; 4];
    host.numa_balancing = host.numa_balancing.filter(|on| *on);
    host.ksm = host.ksm.filter(|on| *on);
    cx.account.remark(
        Verdict::TakenOver,
        "interrupts, the kernel's own work and the governor in one word: `host.tune: Desktop`, with the smaller settings that belong to it",
    );
}

/// Whether it is a line of the script that calls all others by the operation's name.
fn calls_others(hook: &Hook, command: &Command) -> bool {
    let is_path = |word: &String| {
        word.contains("HOOKPATH") || word.contains("qemu.d/$") || word.trim_matches('"').starts_with("$f")
    };
    let calls = hook.text.contains("qemu.d") || hook.text.contains("HOOKPATH");
    calls && !command.control && command.words.iter().take(2).any(is_path)
}

/// Whether it is the script that calls all others by the operation's name, which many copied.
fn is_dispatcher(hook: &Hook) -> bool {
    let calls = hook.text.contains("qemu.d") || hook.text.contains("HOOKPATH");
    if hook.name != "qemu" || !calls {
        return false;
    }
    // Nothing but what finds scripts, says something, or starts what a variable has.
    const HARMLESS: [&str; 36] = [
        "set",
        "exit",
        "return",
        "find",
        "eval",
        "echo",
        "printf",
        "exec",
        "local",
        "read",
        "shift",
        "cd",
        "basename",
        "dirname",
        "export",
        "declare",
        "readonly",
        "shopt",
        "logger",
        "run-parts",
        "xargs",
        "cat",
        "mkdir",
        "date",
        "sort",
        "grep",
        "umask",
        "trap",
        "unset",
        "tee",
        "bash",
        "sh",
        "mktemp",
        "IFS=",
        "sed",
        "tr",
    ];
    let script = shell::read(&hook.text, &mut BTreeMap::new());
    script.commands.iter().filter(|command| !command.control).all(|command| {
        let Some(program) = command.words.first() else { return true };
        let acts = command
            .words
            .iter()
            .chain(&command.output)
            .any(|word| word.starts_with("/sys/") || word.starts_with("/proc/sys/"));
        let starts = program.starts_with('$') || program.contains("qemu.d/") || script.functions.contains(program);
        !acts && (starts || HARMLESS.contains(&program.as_str()))
    })
}

/// A script that a command calls, if this host has it, or the folder of hooks has one of its name.
fn called(command: &Command, scripts: &Scripts, stage: Stage) -> Option<Hook> {
    let word = script_word(command)?;
    // The folder's own, by its name there, is what the report is about.
    let below = word
        .strip_prefix("/etc/libvirt/hooks/")
        .or_else(|| word.strip_prefix("./"))
        .filter(|below| !below.contains(".."));
    if let Some(below) = below
        && let Some(text) = find::script(scripts.root, &scripts.folder.join(below))
    {
        return Some(Hook { name: below.to_owned(), text, stage });
    }
    let name = Path::new(word).file_name()?.to_str()?;
    if let Some(text) = find::script(scripts.root, &scripts.folder.join(name)) {
        return Some(Hook { name: name.to_owned(), text, stage });
    }
    let root = scripts.host.filter(|_| word.starts_with('/'))?;
    Some(Hook { name: word.to_owned(), text: find::script(root, Path::new(word))?, stage })
}

fn called_before(command: &Command, seen: &BTreeSet<String>) -> bool {
    script_word(command).is_some_and(|word| {
        seen.contains(word)
            || seen.contains(base(word))
            || seen.iter().any(|name| word.ends_with(&format!("/hooks/{name}")))
    })
}

/// The path of a script that a command starts or sources.
fn script_word(command: &Command) -> Option<&str> {
    const BEFORE: [&str; 9] = ["source", ".", "bash", "sh", "sudo", "exec", "env", "nohup", "setsid"];
    let words = &command.words;
    let (mut at, mut sourced) = (0, false);
    while let Some(word) = words.get(at) {
        let name = base(word);
        at += match name {
            _ if BEFORE.contains(&name) || word.as_str() == "." => 1,
            "timeout" => 2,
            "-u" if at > 0 => 2,
            // `bash -c` has a text.
            _ if at > 0 && word.starts_with('-') && !word.ends_with('c') => 1,
            _ => break,
        };
        sourced |= word == "source" || word == ".";
    }
    // What is sourced is no program, so a path that begins with a variable is one of a script, too.
    let is_path = |word: &&str| word.starts_with('/') || word.starts_with("./") || sourced && word.contains('.');
    words.get(at).map(String::as_str).filter(|word| is_path(word) && !command.control)
}
