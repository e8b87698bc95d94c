//! What the end of a command of a shell script means: for the branches that are open, for what variables hold, and for where
//! reading goes on.

use super::branches::Kind;
use super::calls::Loop;
use super::command::{Command, DECLARES, Joined, LEADS, assignment, plain_line, split};
use super::decide;
use super::marks::SPLIT;
use super::shell::{After, Shell};

impl Shell<'_> {
    /// What the commands before it say of whether the next command is run, if anything does.
    fn condition(&mut self, line: u32, leading: &[String], next: Option<&String>) -> bool {
        let Some((says, written)) = &self.chain else { return false };
        if !matches!(self.after, After::And | After::Or) || self.branches.in_test() {
            return false;
        }
        let runs = if self.after == After::And { *says } else { says.map(|says| !says) };
        let condition = if self.after == After::And { written.clone() } else { format!("! {written}") };
        let braces = leading.iter().any(|word| word == "{");
        let others = leading.iter().any(|word| word != "{" && word != "!")
            || next.is_some_and(|word| matches!(word.as_str(), "for" | "case" | "select"));
        if others {
            return false;
        }
        let kind = if braces { Kind::Brace(self.script.braces) } else { Kind::Once };
        self.branches.open(kind, line, &self.variables, runs, &condition);
        kind == Kind::Once
    }

    /// Ends a command: takes leading words away, and keeps assignments.
    pub fn end(&mut self, after: After, label: bool) {
        let mut done = std::mem::take(&mut self.command);
        let arrays = std::mem::take(&mut self.arrays);
        if done.words.is_empty() && done.output.is_none() {
            return;
        }
        let varies = self.reader.varies;
        done.piped = after == After::Pipe;
        done.label = label;
        done.joined = match after {
            After::And => Joined::And,
            After::Or => Joined::Or,
            After::Pipe | After::Nothing => Joined::No,
        };
        let mut patterns = Vec::new();
        if label {
            // `a|b)` is one label.
            let before = self.script.commands.iter_mut().rev();
            for before in before.take_while(|before| before.piped && before.line == done.line) {
                (before.control, before.label) = (true, true);
                patterns.extend(before.words.last().cloned());
            }
        }
        let leading = done.words.iter().take_while(|word| LEADS.contains(&word.as_str())).count();
        let once = self.condition(done.line, &done.words[..leading], done.words.get(leading));
        let depth = self.branches.depth() - usize::from(once);
        let opens_brace = done.words.iter().any(|word| word == "{");
        self.script.braces += usize::from(opens_brace);
        done.function = self.script.open.as_ref().map(|(name, _)| name.clone());
        if done.words.iter().any(|word| word == "}") {
            self.script.braces = self.script.braces.saturating_sub(1);
            let braces = self.script.braces;
            drop(self.script.open.take_if(|(_, before)| braces <= *before));
            if let Some(Kind::Brace(before)) = self.branches.kind()
                && braces <= before
            {
                self.branches.close(&mut self.variables);
            }
        }
        for word in &done.words[..leading] {
            match word.as_str() {
                "if" => self.branches.open_if(done.line, &self.variables),
                "then" => self.branches.then(&self.variables),
                "elif" => self.branches.elif(done.line, &mut self.variables),
                "else" => self.branches.otherwise(done.line, &mut self.variables),
                "fi" => self.branches.close_kind(Kind::If, &mut self.variables),
                _ => {}
            }
        }
        let shown = done.words.clone();
        let defines = shown.last().is_some_and(|word| word.ends_with("()"));
        done.leads = done.words.drain(..leading).collect();
        let negated = done.leads.iter().filter(|word| *word == "!").count() % 2 == 1;
        let lines = done.lines.clone();
        done.lines.drain(..leading.min(lines.len()));
        let written = plain_line(&self.reader.written(self.start), label);
        let mut function = None;
        match done.words.first().map(String::as_str) {
            None => {
                (done.words, done.lines) = (shown, lines);
                done.control = true;
            }
            Some("function") => {
                let name = done.words.get(1).map(|name| name.trim_end_matches("()").to_owned());
                if !self.at_calls {
                    let braces = self.script.braces.saturating_sub(usize::from(opens_brace));
                    self.script.open = name.clone().map(|name| (name, braces));
                }
                self.script.functions.extend(name.clone());
                done.control = true;
                function = name.filter(|_| self.at_calls);
            }
            Some("for" | "select") => {
                let list = done.words.iter().position(|word| word == "in").map(|at| &done.words[at + 1..]);
                let name = done.words.get(1).map(String::as_str).unwrap_or_default();
                let mut open = Loop::of(name, list.unwrap_or_default(), &self.variables);
                if list.is_some() && open.is_empty() {
                    open.of_nothing = Some(written.clone());
                }
                if done.words[0] == "select" {
                    open.first_alone();
                }
                self.loops.push(open);
                done.control = true;
            }
            Some("case") => {
                let subject = done.words.get(1).cloned().unwrap_or_default();
                let known = (!varies && !subject.contains(['$', '`'])).then(|| subject.clone());
                let of = written.split(" in").next().unwrap_or_default().trim_start_matches("case ");
                self.branches.open_case(done.line, &self.variables, of, known);
                done.control = true;
            }
            Some("esac") => {
                self.branches.close_kind(Kind::Case, &mut self.variables);
                done.control = true;
            }
            Some("[[" | "[" | "test" | "in" | "break" | "continue" | ":" | "true" | "false") => done.control = true,
            Some(_) if done.words.last().is_some_and(|word| word == "]]" || word == "]") => done.control = true,
            Some(word) if label || word.starts_with("((") => done.control = true,
            Some(_) => {}
        }
        if label && !defines {
            patterns.extend(done.words.last().cloned());
            self.branches.label(done.line, &patterns, &mut self.variables);
        }
        let says = if varies { None } else { decide::of(&done.words) };
        let says = says.map(|says| says != negated);
        if self.branches.in_test() {
            let (and, or) = (self.after == After::And, self.after == After::Or);
            self.branches.test(says, &plain_line(&written, false), and, or);
        }
        self.chain = self.chained(&done, after, says, negated, &written);
        self.after = after;
        done.never = self.branches.dead();
        if done.never.is_none() {
            self.assign(&mut done, &arrays);
        }
        done.control |= done.never.is_some();
        let marked = done.words.clone();
        self.finish(&mut done);
        let calls = !done.control;
        self.script.commands.push(done);
        if let Some(name) = function {
            self.define(&name, opens_brace);
        } else if calls && self.call(&marked, self.reader.place(), depth, varies) {
            return;
        }
        if once {
            self.branches.close_kind(Kind::Once, &mut self.variables);
        }
    }

    /// What a command and those that it is joined to say of the next.
    fn chained(
        &self,
        done: &Command,
        after: After,
        says: Option<bool>,
        negated: bool,
        written: &str,
    ) -> Option<(Option<bool>, String)> {
        if !matches!(after, After::And | After::Or) {
            return None;
        }
        const TESTS: [&str; 10] =
            ["[", "[[", "test", "grep", "pgrep", "lsmod", "command", "which", "lspci", "systemctl"];
        let first = done.words.first().map(String::as_str).unwrap_or_default();
        let tests = TESTS.contains(&first)
            || first.starts_with("((")
            || done.words.last().is_some_and(|word| word == "]]" || word == "]")
            || negated;
        // Of what is no test, it is usual that it succeeds, and `||` is there for when it does not.
        let says = if tests { says } else { (after == After::And).then_some(true) };
        match (&self.chain, self.after) {
            (Some((before, text)), After::And | After::Or) => {
                let and = self.after == After::And;
                let runs = if and { *before } else { before.map(|before| !before) };
                let says = match runs {
                    Some(true) => says,
                    Some(false) => *before,
                    None if and && says == Some(false) => says,
                    None => None,
                };
                Some((says, format!("{text} {} {written}", if and { "&&" } else { "||" })))
            }
            _ => Some((says, written.to_owned())),
        }
    }

    /// Keeps what a command assigns.
    fn assign(&mut self, done: &mut Command, arrays: &[(String, String)]) {
        for (name, words) in arrays {
            self.variables.assign(name, words);
        }
        if done.words.first().is_some_and(|word| word == "read") {
            done.words[1..].iter().for_each(|name| self.variables.forget(name));
        }
        // An array has been kept.
        let plain = |(_, value): &(String, String)| value != "(…)";
        if done.words.first().is_some_and(|word| DECLARES.contains(&word.as_str())) {
            for (name, value) in done.words.iter().filter_map(|word| assignment(word)).filter(plain) {
                self.variables.assign(&name, &value.replace(SPLIT, " "));
            }
        }
        while let Some((name, value)) = done.words.first().and_then(|word| assignment(word)) {
            let alone = done.words.len() == 1;
            if value != "(…)" {
                self.variables.assign(&name, &value.replace(SPLIT, " "));
            }
            if alone {
                done.control = true;
                break;
            }
            done.environment.push(done.words.remove(0));
            done.lines.remove(0);
        }
    }

    /// Puts into a command's words what they have whatever tests say, and what they may have.
    fn finish(&self, done: &mut Command) {
        for word in &done.words {
            self.variables.only_if(word, &mut done.only_if);
        }
        if !done.only_if.is_empty() {
            let certain = done.words.iter().map(|word| self.variables.certain(word)).collect();
            let mut command = Command { words: certain, lines: done.lines.clone(), ..Command::default() };
            // What a test alone gives is no word.
            let empty = |at: usize| command.words[at].is_empty() && !done.words[at].is_empty();
            let stays: Vec<bool> = (0..command.words.len()).map(|at| !empty(at)).collect();
            let mut at = stays.iter();
            command.words.retain(|_| at.next().copied().unwrap_or(true));
            let mut at = stays.iter();
            command.lines.retain(|_| at.next().copied().unwrap_or(true));
            split(&mut command);
            done.certain = Some((command.words, command.lines));
        }
        done.words.iter_mut().for_each(|word| *word = self.variables.whole(word));
        done.output = done.output.take().map(|output| self.variables.whole(&output));
        split(done);
        if let Some(before) = self.script.commands.last().filter(|before| before.piped)
            && let Some(("echo" | "printf", values)) =
                before.words.split_first().map(|(program, values)| (program.as_str(), values))
        {
            done.input = values.iter().find(|value| !value.starts_with('-')).cloned();
        }
    }
}
