//! When each command of a hook runs: by the tests of libvirt's arguments that it stands in, and in functions by where they are
//! called.

use std::collections::BTreeMap;

use super::command::{Command, Joined, Script};
use super::find::stage_of_function;
use super::tested::{Condition, Domain, compared, condition, is_test};
use crate::units::Stage;

/// The stage of each command; `None` if it is for another domain. `usual`: what the script's place says.
pub fn of(script: &Script, usual: Stage, domain: Option<Domain>) -> Vec<Option<Stage>> {
    let mut called = BTreeMap::new();
    let mut stages = Vec::new();
    // A function may be called by another, and that only below it.
    for _ in 0..4 {
        (stages, called) = walk(script, usual, domain, &called);
    }
    stages
}

/// Whether a test or a label of the script has this domain's name.
pub fn knows(script: &Script, domain: &str) -> bool {
    let mut tests = script.commands.iter().filter(|command| is_test(command) || command.label);
    tests.any(|command| command.words.iter().any(|word| word == domain))
}

/// Where each function is called first.
type Called<'s> = BTreeMap<&'s str, Option<Stage>>;

fn walk<'s>(
    script: &'s Script,
    usual: Stage,
    domain: Option<Domain>,
    called: &Called,
) -> (Vec<Option<Stage>>, Called<'s>) {
    let mut outside = Scope::new(Some(usual));
    let mut inside: (Option<&str>, Scope) = (None, Scope::new(Some(usual)));
    let mut stages = Vec::with_capacity(script.commands.len());
    let mut calls = Called::new();
    for command in &script.commands {
        let function = command.function.as_deref();
        if function != inside.0 {
            let by_name = |name: &str| called.get(name).copied().or_else(|| stage_of_function(name).map(Some));
            inside = (function, Scope::new(function.and_then(by_name).unwrap_or(Some(usual))));
        }
        // A function's `$1` is its own.
        let (scope, domain) = if function.is_some() { (&mut inside.1, None) } else { (&mut outside, domain) };
        let stage = scope.step(command, domain);
        stages.push(stage);
        if let Some(word) = command.words.first().filter(|word| script.functions.contains(word)) {
            let first = calls.entry(word).or_insert(stage);
            *first = first.or(stage);
        }
    }
    (stages, calls)
}

/// `if`, `case` or `{` that is open.
struct Block {
    /// Whether it is a `{`.
    brace: bool,
    /// What `case` compares.
    subject: Option<String>,
    /// Whether the test of an `if` is being read.
    testing: bool,
    /// When its present part runs.
    now: Condition,
    /// When the parts above that one run.
    before: Vec<Condition>,
    /// What holds below it, since the script is left otherwise.
    below: Condition,
    /// What the parts of a label say that has several.
    label: Option<Condition>,
}

/// A script or a function that is walked through.
struct Scope {
    usual: Option<Stage>,
    /// What holds outside all blocks.
    base: Condition,
    blocks: Vec<Block>,
    /// What the commands say that the last one is joined to by `&&` and `||`, and how it is joined to the next.
    list: (Condition, Joined),
}

impl Scope {
    fn new(usual: Option<Stage>) -> Self {
        Self { usual, base: Condition::ALWAYS, blocks: Vec::new(), list: (Condition::ALWAYS, Joined::No) }
    }

    /// Goes over a command, and says when it runs.
    fn step(&mut self, command: &Command, domain: Option<Domain>) -> Option<Stage> {
        for word in &command.leads {
            self.lead(word);
        }
        match command.words.first().map(String::as_str) {
            Some("case") => self.open(false, command.words.get(1).cloned()),
            Some("esac") => self.close(false),
            _ => {}
        }
        self.label(command, domain);
        let (list, joined) = self.list;
        let applies = match joined {
            Joined::No => Condition::ALWAYS,
            Joined::And => list,
            Joined::Or => list.not(),
        };
        let testing = self.blocks.last().is_some_and(|block| block.testing);
        self.list.0 = match (is_test(command), joined) {
            (true, Joined::No) => condition(command, domain),
            (true, Joined::And) => list.and(condition(command, domain)),
            (true, Joined::Or) => list.or(condition(command, domain)),
            (false, _) => applies.and(Condition::UNKNOWN),
        };
        if let Some(block) = self.blocks.last_mut().filter(|_| testing) {
            block.now = self.list.0;
        }
        self.list.1 = command.joined;
        if !testing && matches!(command.words.first().map(String::as_str), Some("exit" | "return")) {
            // `[ … ] || exit` says what holds from there on.
            let below = if joined == Joined::Or { list } else { applies.not() };
            match self.blocks.last_mut().filter(|block| !block.brace && block.subject.is_none()) {
                Some(block) if joined == Joined::No => block.below = block.below.and(block.now.not()),
                _ if joined == Joined::No => {}
                _ => self.narrow(below),
            }
        }
        let all = self.blocks.iter().filter(|block| !block.testing).map(|block| block.now);
        let all = all.fold(self.base, |outer, inner| inner.and(outer));
        let all = if is_test(command) { all } else { applies.and(all) };
        if all == Condition::NEVER { None } else { self.usual.map(|usual| all.stage.unwrap_or(usual)) }
    }

    fn lead(&mut self, word: &str) {
        let top = self.blocks.last_mut().filter(|block| !block.brace && block.subject.is_none());
        match (word, top) {
            ("if", _) => {
                self.open(false, None);
                self.blocks.last_mut().into_iter().for_each(|block| block.testing = true);
                self.list = (Condition::ALWAYS, Joined::No);
            }
            ("elif" | "else", Some(block)) => {
                block.before.push(block.now);
                block.testing = word == "elif";
                block.now = if block.testing { Condition::UNKNOWN } else { Condition::none_of(&block.before) };
                self.list = (Condition::ALWAYS, Joined::No);
            }
            ("then", Some(block)) => {
                block.testing = false;
                self.list = (Condition::ALWAYS, Joined::No);
            }
            ("fi", _) => self.close(false),
            ("{", _) => self.open(true, None),
            ("}", _) => self.close(true),
            _ => {}
        }
    }

    fn open(&mut self, brace: bool, subject: Option<String>) {
        let now = match self.list {
            (list, Joined::And) if brace => list,
            (list, Joined::Or) if brace => list.not(),
            _ => Condition::ALWAYS,
        };
        if brace {
            self.list = (Condition::ALWAYS, Joined::No);
        }
        let below = Condition::ALWAYS;
        self.blocks.push(Block { brace, subject, testing: false, now, before: Vec::new(), below, label: None });
    }

    fn close(&mut self, brace: bool) {
        if self.blocks.last().is_some_and(|block| block.brace == brace)
            && let Some(block) = self.blocks.pop()
        {
            self.narrow(block.below);
        }
    }

    /// What holds from here on, to the end of the block.
    fn narrow(&mut self, below: Condition) {
        if below == Condition::UNKNOWN {
            return;
        }
        let now = self.blocks.last_mut().map_or(&mut self.base, |block| &mut block.now);
        *now = now.and(below);
    }

    /// A label of `case`.
    fn label(&mut self, command: &Command, domain: Option<Domain>) {
        let Some(block) = self.blocks.last_mut() else { return };
        let Some(subject) = block.subject.clone().filter(|_| command.label) else { return };
        let first = command.words.iter().position(|word| word == "in").map_or(0, |at| at + 1);
        let patterns: Vec<&str> = command.words.iter().skip(first).map(String::as_str).collect();
        let said = patterns.iter().map(|pattern| match *pattern {
            "*" => Condition::none_of(&block.before),
            pattern => compared(&subject, pattern, false, domain),
        });
        let Some(said) = block.label.into_iter().chain(said).reduce(Condition::or) else { return };
        if command.piped {
            block.label = Some(said);
            return;
        }
        (block.now, block.label) = (said, None);
        block.before.push(said);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::hooks::shell::read;

    #[test]
    fn a_function_belongs_to_where_it_is_called() {
        let text = "back() {\n  echo ondemand\n}\nfunction forth {\n  echo performance\n}\ncleanup() { echo bye; }\necho main\n\
                    if [ \"$2\" = release ]; then\n  back\nelif [ \"$2\" = prepare ]; then\n  forth\nfi\n";
        let script = read(text, &mut BTreeMap::new());
        let stages = of(&script, Stage::Before, None);
        let stage = |said: &str| {
            let at = script.commands.iter().position(|command| command.shown() == said).unwrap();
            stages[at]
        };
        assert_eq!(stage("echo ondemand"), Some(Stage::Restored));
        assert_eq!(stage("echo performance"), Some(Stage::Before));
        assert_eq!(stage("echo bye"), Some(Stage::Restored));
        assert_eq!(stage("echo main"), Some(Stage::Before));
    }

    /// The stage of each command `at N`, in order; `-` if it is for another domain.
    fn walked(text: &str, usual: Stage) -> String {
        let script = read(text, &mut BTreeMap::new());
        let domain = Some(Domain { name: "win10", tested: true });
        let stages = of(&script, usual, domain);
        let shown = script.commands.iter().zip(stages).filter(|(command, _)| command.words[0] == "at");
        shown.map(|(_, stage)| stage.map_or("-", Stage::name)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_test_counts_in_its_block_and_nowhere_else() {
        for (text, expected) in [
            (
                "FLAG=/tmp/vm-stopped\nat\nfor s in stopped; do at; done\n[ -f /u/release-notes ] && at\n",
                "before before before",
            ),
            ("if [ \"$2\" = release ]; then at; else\n at\nfi\nat\n", "restored before before"),
            ("if [ $2 != release ]; then\n at\nelse at\nfi", "before restored"),
            ("if [ $2 = prepare ]; then at\nelif [ $2 = release ]; then at\nelse at; fi", "before restored before"),
            (
                "case \"$2/$3\" in prepare/begin) at;;\n started/*|start/*) at;; release/end) at;; *) at;; esac; at",
                "before running restored before before",
            ),
            (
                "[ $2 = release ] && at || at\nat\n[[ $2 == release ]] && {\n at\n at\n}\nat",
                "restored before before restored restored before",
            ),
            ("[ $2 = release ] || exit 0\nat", "restored"),
            ("if [ $2 = prepare ]; then\n at\n exit 0\nfi\nat", "before restored"),
        ] {
            assert_eq!(walked(text, Stage::Before), expected, "{text}");
        }
    }

    #[test]
    fn commands_for_another_domain_are_known() {
        for (text, expected) in [
            ("case $1 in\n win10|win11)\n at ;;\n ubuntu) at ;;\n *) at ;;\nesac\nat", "before - - before"),
            ("if [[ $1 == macOS ]]; then\n if [[ $2 == release ]]; then at; fi\nelse at\nfi", "- before"),
            (
                "if [[ $1 == win10 && $2 == release ]]; then at; elif [ $1 = b ]; then at; else at; fi",
                "restored - before",
            ),
            ("[ \"$1\" = win10 ] || exit 0\nat", "before"),
            ("[ \"$1\" != ubuntu ] && exit 0\nat", "-"),
            ("if [ $1 != win10 ]; then exit; fi\nat", "before"),
            ("f() { case $1 in a) at;; esac; }\n[ $1 = b ] && f a", "-"),
        ] {
            assert_eq!(walked(text, Stage::Before), expected, "{text}");
        }
    }
}
