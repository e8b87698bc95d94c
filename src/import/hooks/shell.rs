//! A tolerant reader of shell scripts: simple commands with the line that each is on. Nothing is run, and nothing that a shell
//! would compute is computed, but plain assignments, lists of `for`, and tests on what the script itself sets.

use std::collections::BTreeMap;

use super::branches::{Branches, Kind};
use super::calls::{Calls, Loop, UNCALLED};
use super::command::{Command, LEADS, MAX_WORDS, Script, is_array};
use super::decide;
use super::marks::SPLIT;
use super::tokens::{Place, Reader, Token};
use super::variables::Variables;

/// What one script may have of commands.
const MAX_COMMANDS: usize = 4096;

/// Reads a script: a function's commands where they stand. `variables`: what is known of variables so far; what it assigns is
/// added.
pub fn read(text: &str, variables: &mut BTreeMap<String, String>) -> Script {
    Shell::new(text, variables, false).read()
}

/// Reads a script: a function's commands at each call of it, with what it is called with.
pub fn read_calls(text: &str, variables: &mut BTreeMap<String, String>) -> Script {
    Shell::new(text, variables, true).read()
}

/// What stands after a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    Pipe,
    And,
    Or,
    Nothing,
}

/// A script that is being read.
pub struct Shell<'v> {
    pub script: Script,
    pub reader: Reader,
    pub variables: Variables<'v>,
    pub branches: Branches,
    pub loops: Vec<Loop>,
    pub calls: Calls,
    /// Whether functions are read where they are called.
    pub at_calls: bool,
    pub command: Command,
    /// Where the command begins.
    pub start: usize,
    /// Arrays that the command assigns: `NAME=`, and the words.
    pub arrays: Vec<(String, String)>,
    /// What stands after the command before.
    pub after: After,
    /// What the commands before it say, if `&&` or `||` joins it to them, as they are written.
    pub chain: Option<(Option<bool>, String)>,
}

impl<'v> Shell<'v> {
    fn new(text: &str, values: &'v mut BTreeMap<String, String>, at_calls: bool) -> Self {
        let mut reader = Reader::new(text);
        reader.constants = decide::constants(text);
        Self {
            script: Script::default(),
            reader,
            variables: Variables::new(values),
            branches: Branches::default(),
            loops: Vec::new(),
            calls: Calls::default(),
            at_calls,
            command: Command { line: 1, ..Command::default() },
            start: 0,
            arrays: Vec::new(),
            after: After::Nothing,
            chain: None,
        }
    }

    fn token(&mut self) -> Token {
        self.reader.token(self.variables.values)
    }

    fn read(mut self) -> Script {
        let mut depth = 0_usize;
        while self.script.commands.len() < MAX_COMMANDS {
            if self.command.words.is_empty() {
                self.reader.varies = false;
            }
            let token = self.token();
            if self.calls.is_over(self.reader.place().at) {
                // The brace that ends the function is no command.
                self.end(After::Nothing, false);
                self.back();
                continue;
            }
            match token {
                Token::Word(word) => self.word(word),
                Token::Output(file) => {
                    if self.command.words.is_empty() {
                        self.command.line = self.reader.line;
                    }
                    self.command.output = Some(file);
                }
                Token::Open if is_name(&self.command.words) && self.reader.take(')') => {
                    let name = self.command.words[0].clone();
                    self.command.words[0].push_str("()");
                    self.script.functions.push(name.clone());
                    if !self.at_calls {
                        self.script.open = Some((name.clone(), self.script.braces));
                    }
                    self.end(After::Nothing, true);
                    self.define(&name, false);
                }
                Token::Open if is_function(&self.command.words) && self.reader.take(')') => {
                    self.end(After::Nothing, false)
                }
                Token::Open if is_array(&self.command.words) => self.array(),
                Token::Open => {
                    depth += 1;
                    self.end(After::Nothing, false);
                }
                Token::Close => {
                    let label = depth == 0;
                    depth = depth.saturating_sub(1);
                    self.end(After::Nothing, label);
                }
                Token::Pipe => self.end(After::Pipe, false),
                Token::And => self.end(After::And, false),
                Token::Or => self.end(After::Or, false),
                Token::End => self.end(After::Nothing, false),
                Token::Over => {
                    self.end(After::Nothing, false);
                    // What was called last is read first.
                    if !self.calls.is_open() && self.reader.is_over() && !self.call_the_rest() {
                        break;
                    }
                }
            }
        }
        while self.branches.depth() > 0 {
            self.branches.close(&mut self.variables);
        }
        self.variables.close();
        self.script
    }

    fn word(&mut self, word: String) {
        let first = self.command.words.iter().all(|word| LEADS.contains(&word.as_str()));
        if self.command.words.is_empty() {
            self.command.line = self.reader.line;
            self.start = self.reader.start;
            if word == "done" && self.round_over() {
                return;
            }
        }
        if first {
            match word.as_str() {
                "while" | "until" => self.loops.push(Loop::default()),
                "do" => self.round_begins(),
                _ => {}
            }
        }
        if self.command.words.len() < MAX_WORDS {
            self.command.words.push(word);
            self.command.lines.push(self.reader.line);
        }
    }

    /// `NAME=(`, up to its `)`.
    fn array(&mut self) {
        let name = self.command.words.pop().unwrap_or_default();
        self.command.lines.pop();
        let mut words = Vec::new();
        loop {
            match self.token() {
                Token::Word(word) if words.len() < MAX_WORDS => words.push(word),
                Token::Close | Token::Over => break,
                _ => {}
            }
        }
        self.arrays.push((name.clone(), words.join(&SPLIT.to_string())));
        self.command.words.push(format!("{name}(…)"));
        self.command.lines.push(self.reader.line);
    }

    /// `do`.
    fn round_begins(&mut self) {
        let place = self.reader.place();
        let Some(open) = self.loops.last_mut().filter(|open| open.body.is_none()) else { return };
        open.body = Some(place);
        let (line, unsure) = (self.reader.line, open.of_nothing.clone());
        match unsure.filter(|_| self.branches.dead().is_none()) {
            Some(list) => {
                open.branch = true;
                self.branches.open(Kind::Once, line, &self.variables, None, &list);
            }
            None => drop(self.next_round()),
        }
    }

    /// `done`: whether another round is read.
    fn round_over(&mut self) -> bool {
        let Some(open) = self.loops.last_mut() else { return false };
        if std::mem::take(&mut open.branch) {
            self.branches.close_kind(Kind::Once, &mut self.variables);
        }
        if self.next_round() {
            return true;
        }
        self.loops.pop();
        false
    }

    /// Has the innermost loop go on with the next of its list.
    fn next_round(&mut self) -> bool {
        let Some(open) = self.loops.last_mut().filter(|_| self.branches.dead().is_none()) else { return false };
        let Some(next) = open.next(&mut self.variables) else { return false };
        if let Some(only_if) = next {
            open.branch = true;
            let condition = only_if.condition;
            self.branches.open(Kind::Once, only_if.line, &self.variables, None, &condition);
        }
        open.body.is_some_and(|body| self.reader.go(body))
    }

    /// Keeps where a function's commands are, and goes on after them. `opened`: whether its brace has been read.
    pub fn define(&mut self, name: &str, opened: bool) {
        if !self.at_calls {
            return;
        }
        let before = self.reader.place();
        if !opened {
            loop {
                match self.token() {
                    Token::End => {}
                    Token::Word(word) if word == "{" => break,
                    _ => return self.reader.back_to(before),
                }
            }
        }
        let body = self.reader.place();
        let mut depth = 1_usize;
        while depth > 0 {
            match self.token() {
                Token::Word(word) if word == "{" => depth += 1,
                Token::Word(word) if word == "}" => depth -= 1,
                Token::Over => break,
                _ => {}
            }
        }
        let end = self.reader.place().at;
        let text = self.reader.written(body.at);
        self.calls.define(name, body, end, text);
    }

    /// Goes to a function's commands, if the command calls one.
    pub fn call(&mut self, words: &[String], back: Place, branches: usize, varies: bool) -> bool {
        let Some(body) = self.calls.call(words, &mut self.variables, (back, self.loops.len(), branches)) else {
            return false;
        };
        for number in 1..10 {
            match varies {
                true => {
                    self.reader.constants.remove(&number.to_string());
                }
                false => {
                    self.reader.constants.insert(number.to_string());
                }
            }
        }
        if !self.reader.go(body) {
            self.back();
        }
        true
    }

    /// Goes back to where a function was called.
    fn back(&mut self) {
        let Some(call) = self.calls.end(&mut self.variables) else { return };
        while self.branches.depth() > call.branches {
            self.branches.close(&mut self.variables);
        }
        self.loops.truncate(call.loops);
        for number in 1..10 {
            self.reader.constants.remove(&number.to_string());
        }
        self.chain = None;
        self.reader.back_to(call.back);
    }

    /// Reads a function that nothing calls by its name; whether there is one.
    fn call_the_rest(&mut self) -> bool {
        let Some((name, may)) = self.calls.uncalled(&self.script) else { return false };
        let depth = self.branches.depth();
        if !may {
            self.branches.open_dead(UNCALLED, &self.variables);
        }
        let back = self.reader.place();
        self.call(&[name], back, depth, true)
    }
}

/// The name of a function, before a parenthesis.
fn is_name(words: &[String]) -> bool {
    matches!(words, [name] if !name.ends_with('='))
}

/// `function NAME`, before a parenthesis.
fn is_function(words: &[String]) -> bool {
    matches!(words, [first, _] if first == "function")
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
        assert!(variables["a"].len() <= crate::import::hooks::marks::MAX_VALUE);
    }
}
