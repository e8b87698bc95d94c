//! The branches of a script that are open while it is read: which of them is taken, as far as the script itself tells.

use super::variables::{Change, Variables};

/// Why a command is never run.
pub const NEVER: &str = "the script never runs it: the test before it is on a value that the script sets";

/// What opens a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `if`.
    If,
    /// `case`.
    Case,
    /// A single command after `&&` or `||`, or a round of a loop.
    Once,
    /// `{` after `&&` or `||`, with how many braces were open before it.
    Brace(usize),
}

#[derive(Debug)]
struct Branch {
    kind: Kind,
    line: u32,
    /// How many assignments there were when it began.
    since: usize,
    /// Whether its test is being read.
    in_test: bool,
    /// What the test says so far; `None` outside if none was read.
    test: Option<Option<bool>>,
    /// The test, as it is written.
    condition: String,
    /// Why it is not taken, if it is not.
    dead: Option<&'static str>,
    /// Whether it is certainly taken.
    sure: bool,
    /// Whether one before it is certainly taken, or may be.
    sure_before: bool,
    maybe_before: bool,
    /// What the branches before it changed.
    changes: Vec<Change>,
    /// The variable that its test says is empty.
    default_of: Option<String>,
    /// What `case` looks at, if it is known.
    subject: (String, Option<String>),
}

/// The open branches, the innermost last.
#[derive(Debug, Default)]
pub struct Branches {
    open: Vec<Branch>,
}

impl Branches {
    /// How many are open.
    pub fn depth(&self) -> usize {
        self.open.len()
    }

    /// Why nothing here is run, if it is not.
    pub fn dead(&self) -> Option<&'static str> {
        self.open.iter().find_map(|branch| branch.dead)
    }

    /// Whether the test of an `if` is being read.
    pub fn in_test(&self) -> bool {
        self.open.last().is_some_and(|branch| branch.in_test)
    }

    /// The kind of the innermost.
    pub fn kind(&self) -> Option<Kind> {
        self.open.last().map(|branch| branch.kind)
    }

    fn push(&mut self, kind: Kind, line: u32, since: usize) -> Option<&mut Branch> {
        self.open.push(Branch {
            kind,
            line,
            since,
            in_test: kind == Kind::If,
            test: None,
            condition: String::new(),
            dead: None,
            sure: true,
            sure_before: false,
            maybe_before: false,
            changes: Vec::new(),
            default_of: None,
            subject: (String::new(), None),
        });
        self.open.last_mut()
    }

    /// `if`.
    pub fn open_if(&mut self, line: u32, variables: &Variables) {
        self.push(Kind::If, line, variables.now());
    }

    /// `case`. `written`: what it looks at; `known`: the value of that, if the script sets it.
    pub fn open_case(&mut self, line: u32, variables: &Variables, written: &str, known: Option<String>) {
        if let Some(branch) = self.push(Kind::Case, line, variables.now()) {
            branch.subject = (written.to_owned(), known);
        }
    }

    /// A branch that is taken if `taken` says so.
    pub fn open(&mut self, kind: Kind, line: u32, variables: &Variables, taken: Option<bool>, condition: &str) {
        let Some(branch) = self.push(kind, line, variables.now()) else { return };
        condition.clone_into(&mut branch.condition);
        branch.default_of = empty_variable(condition);
        branch.begin(taken, variables);
    }

    /// One that is never taken, for this reason.
    pub fn open_dead(&mut self, why: &'static str, variables: &Variables) {
        if let Some(branch) = self.push(Kind::Once, 0, variables.now()) {
            branch.dead = Some(why);
        }
    }

    /// A command of a test. `and`, `or`: what joins it to the one before.
    pub fn test(&mut self, says: Option<bool>, written: &str, and: bool, or: bool) {
        let Some(branch) = self.open.last_mut().filter(|branch| branch.in_test) else { return };
        let joined = match (branch.test, and, or) {
            (None, ..) => says,
            (Some(before), true, _) => match (before, says) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            (Some(before), _, true) => match (before, says) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            // A pipe, or several commands: the last alone decides.
            _ => None,
        };
        branch.test = Some(joined);
        let join = match (branch.condition.is_empty(), and, or) {
            (true, ..) => "",
            (_, true, _) => " && ",
            (_, _, true) => " || ",
            _ => "; ",
        };
        branch.condition.push_str(join);
        branch.condition.push_str(written);
        branch.default_of = if join.is_empty() { empty_variable(written) } else { None };
    }

    /// `then`.
    pub fn then(&mut self, variables: &Variables) {
        let Some(branch) = self.open.last_mut().filter(|branch| branch.in_test) else { return };
        branch.in_test = false;
        let taken = branch.test.flatten();
        branch.begin(taken, variables);
    }

    /// `elif`.
    pub fn elif(&mut self, line: u32, variables: &mut Variables) {
        let Some(branch) = self.last_of(Kind::If) else { return };
        branch.end(variables);
        (branch.in_test, branch.test, branch.line) = (true, None, line);
        branch.condition.clear();
        // Its test is read whatever those before say.
        branch.dead = None;
    }

    /// `else`.
    pub fn otherwise(&mut self, line: u32, variables: &mut Variables) {
        let Some(branch) = self.last_of(Kind::If) else { return };
        branch.end(variables);
        branch.line = line;
        branch.condition = format!("! {}", branch.condition);
        branch.default_of = None;
        branch.begin(Some(true), variables);
    }

    /// A label of `case`: `patterns` are those before its `)`.
    pub fn label(&mut self, line: u32, patterns: &[String], variables: &mut Variables) {
        let Some(branch) = self.last_of(Kind::Case) else { return };
        branch.end(variables);
        branch.line = line;
        let (written, known) = &branch.subject;
        branch.condition = format!("{written} is {}", patterns.join("|"));
        let any = |pattern: &String| pattern.as_str() == "*";
        let plain = |pattern: &String| !pattern.contains(['*', '?', '[', '$', '`']);
        let taken = match known {
            _ if patterns.iter().any(any) => Some(true),
            Some(known) if patterns.contains(known) => Some(true),
            Some(_) if patterns.iter().all(plain) => Some(false),
            _ => None,
        };
        branch.begin(taken, variables);
    }

    fn last_of(&mut self, kind: Kind) -> Option<&mut Branch> {
        self.open.last_mut().filter(|branch| branch.kind == kind)
    }

    /// Closes the innermost, if it is of this kind.
    pub fn close_kind(&mut self, kind: Kind, variables: &mut Variables) {
        if self.kind() == Some(kind) {
            self.close(variables);
        }
    }

    /// Closes the innermost: `fi`, `esac`.
    pub fn close(&mut self, variables: &mut Variables) {
        let Some(mut branch) = self.open.pop() else { return };
        branch.end(variables);
        variables.join(branch.changes);
    }
}

impl Branch {
    /// Begins a branch. `taken`: what its test says.
    fn begin(&mut self, taken: Option<bool>, variables: &Variables) {
        self.since = variables.now();
        self.sure = taken == Some(true) && !self.maybe_before;
        self.dead = (taken == Some(false) || self.sure_before).then_some(NEVER);
        self.sure_before |= taken == Some(true);
        self.maybe_before |= taken.is_none();
    }

    /// Ends it: what it changed counts only if it was taken.
    fn end(&mut self, variables: &mut Variables) {
        if !self.sure && self.dead.is_none() {
            let default = self.default_of.as_deref();
            let changes = variables.take_back(self.since, &self.condition, self.line, default);
            self.changes.extend(changes);
        }
        self.since = variables.now();
    }
}

/// The variable that a test says is empty, and nothing else: `[ -z "$NAME" ]`.
fn empty_variable(written: &str) -> Option<String> {
    let inner = written.trim_start_matches('[').trim_end_matches(']').trim().strip_prefix("-z")?;
    let name = inner.trim().trim_matches('"').strip_prefix('$')?.trim_matches(['{', '}']);
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then(|| name.to_owned())
}
