//! A simple command of a shell script, and how its words are told apart.

use super::marks::SPLIT;
use super::variables::OnlyIf;
use crate::units::printable_start;

/// How a command is joined to the next one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Joined {
    /// The next one runs in any case.
    #[default]
    No,
    /// `&&`.
    And,
    /// `||`.
    Or,
}

/// A simple command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Command {
    /// Its line, from 1.
    pub line: u32,
    /// Its words, with variables in their places as far as they are known.
    pub words: Vec<String>,
    /// The line of each word.
    pub lines: Vec<u32>,
    /// The assignments before its words, which only it sees.
    pub environment: Vec<String>,
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
    /// Why it is never run, if the script tells that.
    pub never: Option<&'static str>,
    /// What `words` has only if tests hold.
    pub only_if: Vec<OnlyIf>,
    /// Without that, if there is any: its words, and the line of each.
    pub certain: Option<(Vec<String>, Vec<u32>)>,
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

    /// The command with only the words that it has whatever the script's tests say.
    pub fn certain(mut self) -> Self {
        if let Some((words, lines)) = self.certain.take() {
            (self.words, self.lines) = (words, lines);
        }
        self
    }
}

/// A script that was read.
#[derive(Debug, Default)]
pub struct Script {
    /// Its commands, in order.
    pub commands: Vec<Command>,
    /// Names of its functions.
    pub functions: Vec<String>,
    /// How many braces are open while it is read.
    pub braces: usize,
    /// The function that is open while it is read, and how many braces were open before it.
    pub open: Option<(String, usize)>,
}

/// How many words a command may have.
pub const MAX_WORDS: usize = 512;

/// Words after which a command follows.
pub const LEADS: [&str; 14] =
    ["if", "then", "else", "elif", "do", "while", "until", "!", "{", "time", "coproc", "fi", "done", "}"];

/// Words that give variables of a shell's values: `export NAME=VALUE`.
pub const DECLARES: [&str; 5] = ["local", "export", "declare", "typeset", "readonly"];

/// Whether an array follows: `NAME=(`, also after `local -a` and `then`.
pub fn is_array(words: &[String]) -> bool {
    let leading = words.iter().take_while(|word| LEADS.contains(&word.as_str())).count();
    let words = &words[leading..];
    let declares = words.len() == 1 || words.first().is_some_and(|word| DECLARES.contains(&word.as_str()));
    declares && words.last().is_some_and(|word| word.ends_with('='))
}

/// A command as it is written, in one line, without what leads to it and ends it.
pub fn plain_line(written: &str, label: bool) -> String {
    let ends: &[char] = if label { &[';', '&', '|', ')', ' '] } else { &[';', '&', '|', ' '] };
    let line = written.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut line = line.trim_end_matches(ends);
    while let Some((_, rest)) = line.split_once(' ').filter(|(first, _)| LEADS.contains(first) && *first != "!") {
        line = rest;
    }
    printable_start(line, 80)
}

/// The name that is assigned to, with its `=` or `+=`, and the value.
pub fn assignment(word: &str) -> Option<(String, String)> {
    let (name, value) = word.split_once('=')?;
    let plain = name.strip_suffix('+').unwrap_or(name);
    let is_name = plain.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && plain.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then(|| (format!("{name}="), value.to_owned()))
}

/// Words of variables that hold several become several.
pub fn split(command: &mut Command) {
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
