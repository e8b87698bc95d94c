//! Hooks that are no shell scripts. What they call by a list of words or by one text is read; no other line is understood.

use std::collections::BTreeMap;

use super::enter::enter;
use super::find::{Hook, stage_of};
use super::shell;
use crate::import::account::Verdict;
use crate::import::context::Context;
use crate::units::printable_start;

/// The language of a script, from its first line; `None` if it is the shell's.
pub fn language(text: &str) -> Option<&'static str> {
    const LANGUAGES: [&str; 7] = ["python", "perl", "ruby", "node", "lua", "php", "osascript"];
    let first = text.lines().next().filter(|line| line.starts_with("#!"))?;
    LANGUAGES.into_iter().find(|language| first.contains(language))
}

/// Reads it into the machine and the account.
pub fn read(cx: &mut Context, hook: &Hook, language: &str) {
    let mut stage = hook.stage;
    for (number, line) in (1..).zip(hook.text.lines().map(str::trim)) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let words = calls(line).then(|| texts(line)).filter(|words| !words.is_empty());
        if let Some(words) = words {
            let quoted: Vec<String> = words.iter().map(|word| format!("'{}'", word.replace('\'', ""))).collect();
            // One text is a line for a shell, several are words.
            let text = if let [one] = &words[..] { one.clone() } else { quoted.join(" ") };
            for mut command in shell::read(&text, &mut BTreeMap::new()).commands {
                command.line = number;
                enter(cx, &hook.name, &command, &[], stage);
            }
            continue;
        }
        stage = stage_of(line).filter(|_| leads(line)).unwrap_or(stage);
        let shown = printable_start(line, 80);
        let (verdict, words) = match leads(line) {
            true => (Verdict::LeftOut, "what leads to commands has no meaning without them".to_owned()),
            false => (
                Verdict::NeedsYou,
                format!(
                    "this is {language}, of which only calls of programs are read; if it is still wanted, keep it as a program of its own: \
                     `hooks: ({}: [[\"/usr/local/bin/SCRIPT\"]])`",
                    stage.name()
                ),
            ),
        };
        cx.account.line(verdict, &hook.name, number, &shown, &words);
    }
}

/// Whether a line calls a program.
fn calls(line: &str) -> bool {
    [
        "subprocess",
        "os.system",
        "os.popen",
        "check_call",
        "check_output",
        "run([",
        "call([",
        "Popen",
        "system(",
        "exec(",
    ]
    .iter()
    .any(|call| line.contains(call))
        && !line.starts_with("import")
        && !line.starts_with("from")
        && !line.starts_with("def")
}

/// Whether a line has no meaning without others.
fn leads(line: &str) -> bool {
    const STARTS: [&str; 27] = [
        "import", "from", "def", "if", "elif", "else", "for", "while", "return", "try", "except", "finally", "with",
        "pass", "class", "use", "my", "sub", "}", "{", "print", "exit", "sys.exit", "require", "end", "\"\"\"", ")",
    ];
    let assigns = line.split_once('=').is_some_and(|(name, _)| {
        name.trim().chars().all(|c| c.is_ascii_alphanumeric() || "_, $".contains(c)) && !name.trim().is_empty()
    });
    assigns || STARTS.iter().any(|start| line.starts_with(start))
}

/// The texts in quotes of a line.
fn texts(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<(char, String)> = None;
    for c in line.chars() {
        match &mut open {
            Some((quote, text)) if *quote == c => {
                found.push(std::mem::take(text));
                open = None;
            }
            Some((_, text)) => text.push(c),
            None if c == '"' || c == '\'' => open = Some((c, String::new())),
            None => {}
        }
    }
    found.retain(|text| !text.is_empty());
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_a_program_in_another_language_are_read() {
        assert_eq!(language("#!/usr/bin/env python3\nprint(1)\n"), Some("python"));
        assert_eq!(language("#!/usr/bin/env bash\npython3 x.py\n"), None);
        let line = "    subprocess.run([\"systemctl\", 'stop', \"sddm\"], check=True)";
        assert!(calls(line.trim()));
        assert_eq!(texts(line), ["systemctl", "stop", "sddm"]);
        assert!(calls("os.system(\"modprobe -r nvidia\")") && !calls("import subprocess"));
        assert!(leads("if op == \"prepare\":") && leads("name, op = sys.argv[1:3]") && !leads("shutil.copy(a, b)"));
    }
}
