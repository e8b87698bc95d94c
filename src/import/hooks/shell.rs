//! A tolerant reader of shell scripts: simple commands with the line that each is on. Nothing is run, and nothing that a shell
//! would compute is computed, but plain assignments and lists of `for`.

use std::collections::BTreeMap;

use super::tokens::{Joined, Reader, SPLIT, Token};
use crate::units::printable_start;

/// What one script may have of commands, words and characters of a word.
const MAX_COMMANDS: usize = 4096;
const MAX_WORDS: usize = 512;
/// What a variable may hold.
const MAX_VALUE: usize = 4000;

/// A simple command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Command {
    /// Its line, from 1.
    pub line: u32,
    /// Its words, with variables in their places as far as they are known.
    pub words: Vec<String>,
    /// The line of each word.
    pub lines: Vec<u32>,
    /// The file that its output goes to.
    pub output: Option<String>,
    /// Whether its output goes to the next command.
    pub piped: bool,
    /// What the command before it has given it, if that was `echo`.
    pub input: Option<String>,
    /// The function that it is a part of.
    pub function: Option<String>,
    /// Whether it only leads to others: `if`, `then`, a label of `case`.
    pub control: bool,
    /// The words that lead to it: `if`, `then`, `!`.
    pub leads: Vec<String>,
    /// Whether it is a label of `case`, or a part of one.
    pub label: bool,
    /// How the next command is joined to it.
    pub joined: Joined,
}

impl Command {
    /// The command as one line.
    pub fn shown(&self) -> String {
        let mut text = self.words.join(" ").replace(SPLIT, " ");
        if let Some(output) = &self.output {
            text.push_str(&format!(" > {output}"));
        }
        printable_start(&text, 100)
    }
}

/// A script that was read.
#[derive(Debug, Default)]
pub struct Script {
    /// Its commands, in order.
    pub commands: Vec<Command>,
    /// Names of its functions.
    pub functions: Vec<String>,
    /// How many `if` and `case` are open while it is read.
    conditions: usize,
    /// How many braces are open while it is read.
    braces: usize,
    /// The function that is open while it is read, and how many braces were open before it.
    open: Option<(String, usize)>,
}

/// Words after which a command follows.
const LEADS: [&str; 14] =
    ["if", "then", "else", "elif", "do", "while", "until", "!", "{", "time", "coproc", "fi", "done", "}"];

/// Reads a script. `variables`: what is known of variables so far; what it assigns is added.
pub fn read(text: &str, variables: &mut BTreeMap<String, String>) -> Script {
    let mut script = Script::default();
    let mut reader = Reader::new(text);
    let mut command = Command { line: 1, ..Command::default() };
    let mut depth = 0_usize;
    // An array that is being read: its name and its words.
    let mut array: Option<(String, Vec<String>)> = None;
    while script.commands.len() < MAX_COMMANDS {
        let token = reader.token(variables);
        if let Some((name, words)) = &mut array {
            match token {
                Token::Word(word) if words.len() < MAX_WORDS => words.push(word),
                Token::Close | Token::Over => {
                    let text = words.join(&SPLIT.to_string());
                    assign(variables, name, &text, false);
                    command.words.push(format!("{name}(…)"));
                    command.lines.push(command.line);
                    array = None;
                }
                _ => {}
            }
            continue;
        }
        match token {
            Token::Word(word) => {
                if command.words.is_empty() {
                    command.line = reader.line;
                }
                if command.words.len() < MAX_WORDS {
                    command.words.push(word);
                    command.lines.push(reader.line);
                }
            }
            Token::Output(file) => {
                if command.words.is_empty() {
                    command.line = reader.line;
                }
                command.output = Some(file);
            }
            Token::Open if command.words.len() == 1 && reader.take(')') => {
                script.functions.push(command.words[0].clone());
                script.open = Some((command.words[0].clone(), script.braces));
                command.words[0].push_str("()");
                end(&mut script, &mut command, variables, false, true);
            }
            Token::Open if is_array(&command.words) => {
                let name = command.words.pop().unwrap_or_default();
                command.lines.pop();
                array = Some((name, Vec::new()));
            }
            Token::Open => {
                depth += 1;
                end(&mut script, &mut command, variables, false, false);
            }
            Token::Close => {
                let label = depth == 0;
                depth = depth.saturating_sub(1);
                end(&mut script, &mut command, variables, false, label);
            }
            Token::Pipe => end(&mut script, &mut command, variables, true, false),
            Token::End => {
                command.joined = reader.joined;
                end(&mut script, &mut command, variables, false, false);
            }
            Token::Over => {
                end(&mut script, &mut command, variables, false, false);
                break;
            }
        }
    }
    script
}

/// Words that give variables of a shell's values: `export NAME=VALUE`.
const DECLARES: [&str; 5] = ["local", "export", "declare", "typeset", "readonly"];

/// Whether an array follows: `NAME=(`, also after `local -a`.
fn is_array(words: &[String]) -> bool {
    let declares = words.len() == 1 || words.first().is_some_and(|word| DECLARES.contains(&word.as_str()));
    declares && words.last().is_some_and(|word| word.ends_with('='))
}

/// Ends a command: takes leading words away, and keeps assignments.
fn end(script: &mut Script, command: &mut Command, variables: &mut BTreeMap<String, String>, piped: bool, label: bool) {
    let mut done = std::mem::take(command);
    if done.words.is_empty() && done.output.is_none() {
        return;
    }
    done.piped = piped;
    done.label = label;
    if label {
        // `a|b)` is one label.
        let before = script.commands.iter_mut().rev().take_while(|before| before.piped && before.line == done.line);
        before.for_each(|before| (before.control, before.label) = (true, true));
    }
    // What is assigned if something holds counts only if nothing else is known.
    let tested = script.commands.last().is_some_and(|before| {
        before.line == done.line
            && before.words.last().is_some_and(|word| word == "]]" || word == "]" || word.starts_with("(("))
    });
    let opens = |word: &String| word == "if" || word == "case";
    script.conditions += done.words.iter().take(2).filter(|word| opens(word)).count();
    if done.words.first().is_some_and(|word| word == "fi" || word == "esac") {
        script.conditions = script.conditions.saturating_sub(1);
    }
    let opens_brace = done.words.iter().any(|word| word == "{");
    script.braces += usize::from(opens_brace);
    done.function = script.open.as_ref().map(|(name, _)| name.clone());
    if done.words.iter().any(|word| word == "}") {
        script.braces = script.braces.saturating_sub(1);
        let closed = script.open.take_if(|(_, before)| script.braces <= *before);
        drop(closed);
    }
    let only_if = tested || script.conditions > 0;
    let leading = done.words.iter().take_while(|word| LEADS.contains(&word.as_str())).count();
    let shown = done.words.clone();
    done.leads = done.words.drain(..leading).collect();
    let lines = done.lines.clone();
    done.lines.drain(..leading.min(lines.len()));
    match done.words.first().map(String::as_str) {
        None => {
            (done.words, done.lines) = (shown, lines);
            done.control = true;
        }
        Some("function") => {
            let name = done.words.get(1).map(|name| name.trim_end_matches("()").to_owned());
            script.open = name.clone().map(|name| (name, script.braces.saturating_sub(usize::from(opens_brace))));
            script.functions.extend(name);
            done.control = true;
        }
        Some("for" | "select") => {
            // The first of the list stands for all of it.
            let list = done.words.iter().position(|word| word == "in").and_then(|at| done.words.get(at + 1));
            if let (Some(name), Some(first)) = (done.words.get(1).cloned(), list.cloned()) {
                variables.insert(name, first);
            }
            done.control = true;
        }
        Some("case" | "esac" | "[[" | "[" | "test" | "in" | "break" | "continue" | ":" | "true" | "false") => {
            done.control = true
        }
        Some(_) if done.words.last().is_some_and(|word| word == "]]" || word == "]") => done.control = true,
        Some(word) if label || word.starts_with("((") => done.control = true,
        Some(_) => {}
    }
    if done.words.first().is_some_and(|word| DECLARES.contains(&word.as_str())) {
        for (name, value) in done.words.iter().filter_map(|word| assignment(word)).filter(|(_, value)| value != "(…)")
        {
            assign(variables, &name, &value.replace(SPLIT, " "), only_if);
        }
    }
    while let Some((name, value)) = done.words.first().and_then(|word| assignment(word)) {
        let alone = done.words.len() == 1;
        // An array was kept when it was read.
        if value != "(…)" {
            assign(variables, &name, &value.replace(SPLIT, " "), only_if);
        }
        if alone {
            done.control = true;
            break;
        }
        done.words.remove(0);
        done.lines.remove(0);
    }
    split(&mut done);
    if let Some(before) = script.commands.last().filter(|before| before.piped)
        && let Some(("echo" | "printf", values)) =
            before.words.split_first().map(|(program, values)| (program.as_str(), values))
    {
        done.input = values.iter().find(|value| !value.starts_with('-')).cloned();
    }
    script.commands.push(done);
}

/// The name that is assigned to, with its `=` or `+=`, and the value.
fn assignment(word: &str) -> Option<(String, String)> {
    let (name, value) = word.split_once('=')?;
    let plain = name.strip_suffix('+').unwrap_or(name);
    let is_name = plain.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && plain.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then(|| (format!("{name}="), value.to_owned()))
}

/// Keeps a value; `+=` adds to the one before. `only_if`: another that is known stays.
fn assign(variables: &mut BTreeMap<String, String>, name: &str, value: &str, only_if: bool) {
    let plain = name.trim_end_matches(['=', '+']);
    let kept = variables.entry(plain.to_owned()).or_default();
    if only_if && !name.ends_with("+=") && !kept.is_empty() {
        return;
    }
    if !name.ends_with("+=") {
        kept.clear();
    } else if !kept.is_empty() && (kept.contains(SPLIT) || value.contains(SPLIT)) {
        kept.push(SPLIT);
    }
    value.chars().take(MAX_VALUE.saturating_sub(kept.len())).for_each(|c| kept.push(c));
}

/// Words of variables that hold several become several.
fn split(command: &mut Command) {
    if !command.words.iter().any(|word| word.contains(SPLIT)) {
        return;
    }
    let words = std::mem::take(&mut command.words);
    let lines = std::mem::take(&mut command.lines);
    for (word, line) in words.iter().zip(lines) {
        let parts = word.split(SPLIT).filter(|part| !part.is_empty()).take(MAX_WORDS);
        parts.for_each(|part| {
            command.words.push(part.to_owned());
            command.lines.push(line);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(text: &str) -> Vec<String> {
        let script = read(text, &mut BTreeMap::new());
        script
            .commands
            .iter()
            .filter(|command| !command.control)
            .map(|command| format!("{} {}", command.line, command.shown()))
            .collect()
    }

    #[test]
    fn simple_commands_are_found_with_their_lines() {
        let text = "#!/bin/bash\nset -x # loud\nGPU=pci_0000_01_00_0\nif [[ $1 == win && $2 == prepare ]]; then\n  systemctl stop \\\n    display-manager\n  \
                    virsh nodedev-detach \"$GPU\" || exit 1\nfi\nfor v in /sys/class/vtconsole/*; do echo 0 > $v/bind 2>/dev/null; done\n\
                    cat <<EOF\nrm -rf /\nEOF\necho 1 | tee /sys/x >/dev/null\n";
        assert_eq!(
            commands(text),
            [
                "2 set -x",
                "5 systemctl stop display-manager",
                "7 virsh nodedev-detach pci_0000_01_00_0",
                "7 exit 1",
                "9 echo 0 > /sys/class/vtconsole/*/bind",
                "10 cat",
                "13 echo 1",
                "13 tee /sys/x",
            ]
        );
    }

    #[test]
    fn functions_and_labels_are_no_commands() {
        let script = read("free() { sleep 2; }\ncase $2 in\n prepare) free ;;\n *) : ;;\nesac\n", &mut BTreeMap::new());
        assert_eq!(script.functions, ["free"]);
        let run: Vec<String> = script.commands.iter().filter(|command| !command.control).map(Command::shown).collect();
        assert_eq!(run, ["sleep 2", "free"]);
    }

    #[test]
    fn variables_and_arrays_are_words() {
        let text = "OPTS=\"-m 4G\"\nOPTS=\"$OPTS -cpu host\"\nargs=(-smp 4\n  -name 'a b')\nargs+=( -k de )\n\
                    qemu $OPTS \"${args[@]}\" -uuid \"$OPTS\"\n";
        let script = read(text, &mut BTreeMap::new());
        let last = script.commands.last().unwrap();
        assert_eq!(
            last.words,
            ["qemu", "-m", "4G", "-cpu", "host", "-smp", "4", "-name", "a b", "-k", "de", "-uuid", "-m 4G -cpu host"]
        );
        assert!(last.lines.iter().all(|line| *line == 6));
    }

    #[test]
    fn what_has_no_end_ends() {
        for text in ["'", "\"$(", "${", "cat <<E", "((((", "))))", "a>", "`", "\\", "<<<", "2>"] {
            read(&text.repeat(50), &mut BTreeMap::new());
        }
        // A variable that doubles itself grows no further than a word may.
        let double = "a=xxxxxxxx\n".to_owned() + &"a=$a$a\n".repeat(60);
        let mut variables = BTreeMap::new();
        read(&double, &mut variables);
        assert!(variables["a"].len() <= MAX_VALUE);
    }
}
