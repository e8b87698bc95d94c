//! What a script's tests of libvirt's arguments say: `$1` is the domain, `$2` the operation, `$3` its part.

use super::command::Command;
use super::find::stage_of;
use crate::units::Stage;

/// Whose hook it is.
#[derive(Debug, Clone, Copy)]
pub struct Domain<'a> {
    /// The domain's name.
    pub name: &'a str,
    /// Whether the script is called with the domain as `$1`, and tests of it are meant: one that knows only other names, in a folder
    /// that was named for this domain, was copied.
    pub tested: bool,
}

/// When something runs, as far as tests say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// The operation that it runs at; `None` if no test says.
    pub stage: Option<Stage>,
    /// Whether it runs then, for this domain; `None` if that depends on something else.
    pub holds: Option<bool>,
}

impl Condition {
    /// No test at all.
    pub const ALWAYS: Self = Self { stage: None, holds: Some(true) };
    /// For other domains alone.
    pub const NEVER: Self = Self { stage: None, holds: Some(false) };
    /// A test of something else.
    pub const UNKNOWN: Self = Self { stage: None, holds: None };

    /// Both hold.
    pub fn and(self, other: Self) -> Self {
        if self == Self::NEVER || other == Self::NEVER {
            return Self::NEVER;
        }
        Self { stage: self.stage.or(other.stage), holds: self.holds.and(other.holds) }
    }

    /// One of the two holds.
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::NEVER, one) | (one, Self::NEVER) => one,
            (Self::ALWAYS, _) | (_, Self::ALWAYS) => Self::ALWAYS,
            _ if self.stage.is_some() && other.stage.is_some() => Self { holds: self.holds.and(other.holds), ..self },
            _ => Self::UNKNOWN,
        }
    }

    /// It does not hold.
    pub fn not(self) -> Self {
        match self {
            Self::NEVER => Self::ALWAYS,
            Self::ALWAYS => Self::NEVER,
            Self { stage: Some(stage), holds: Some(_) } => {
                other_end(stage).map_or(Self::UNKNOWN, |stage| Self { stage: Some(stage), ..self })
            }
            _ => Self::UNKNOWN,
        }
    }

    /// None of these holds.
    pub fn none_of(all: &[Self]) -> Self {
        let none = all.iter().fold(Self::ALWAYS, |so_far, one| so_far.and(one.not()));
        let mut ends = all.iter().filter_map(|one| one.stage).map(other_end);
        let first = ends.next();
        // What is neither at the start nor at the end says nothing.
        let same = ends.all(|end| Some(end) == first);
        if same || none == Self::NEVER { none } else { Self::UNKNOWN }
    }
}

/// Where a script is if it is not at this operation.
fn other_end(stage: Stage) -> Option<Stage> {
    match stage {
        Stage::Before | Stage::Ready => Some(Stage::Restored),
        Stage::Ended | Stage::Restored => Some(Stage::Before),
        Stage::Running | Stage::Toggled => None,
    }
}

/// Whether a command is a test, or a part of one (`[[ a == b && c == d ]]`).
pub fn is_test(command: &Command) -> bool {
    let words = &command.words;
    let compares = words.len() == 3 && words[0].starts_with('$') && matches!(&*words[1], "==" | "=" | "!=" | "=~");
    words.first().is_some_and(|word| matches!(&**word, "[" | "[[" | "test"))
        || words.last().is_some_and(|word| matches!(&**word, "]" | "]]"))
        || compares
}

/// What a test says.
pub fn condition(command: &Command, domain: Option<Domain>) -> Condition {
    let mut found: Option<Condition> = None;
    let mut either = false;
    let mut negated = command.leads.iter().filter(|word| *word == "!").count() % 2 == 1;
    let words: Vec<&str> = command.words.iter().map(String::as_str).collect();
    let words: Vec<&str> =
        words.into_iter().filter(|word| !matches!(*word, "[" | "[[" | "test" | "]" | "]]")).collect();
    let mut rest = &words[..];
    while !rest.is_empty() {
        let (one, used) = match rest {
            ["-a" | "-o", ..] => {
                either = rest[0] == "-o";
                rest = &rest[1..];
                continue;
            }
            ["!", ..] => {
                negated = !negated;
                rest = &rest[1..];
                continue;
            }
            [operand, compares @ ("=" | "==" | "!=" | "=~"), value, ..] => {
                let one = compared(operand, value, *compares == "=~", domain);
                (if *compares == "!=" { one.not() } else { one }, 3)
            }
            _ => {
                let end = rest.iter().position(|word| matches!(*word, "-a" | "-o")).unwrap_or(rest.len());
                (Condition::UNKNOWN, end.max(1))
            }
        };
        let one = if std::mem::take(&mut negated) { one.not() } else { one };
        found = Some(match found {
            None => one,
            Some(before) if either => before.or(one),
            Some(before) => before.and(one),
        });
        rest = &rest[used.min(rest.len())..];
    }
    found.unwrap_or(Condition::UNKNOWN)
}

/// What it says that an argument has a value, or fits a pattern.
pub fn compared(operand: &str, pattern: &str, regex: bool, domain: Option<Domain>) -> Condition {
    let lower = operand.to_ascii_lowercase();
    if !operand.starts_with('$') || operand.starts_with("$(") || lower.contains("state") || lower.contains("status") {
        return Condition::UNKNOWN;
    }
    let plain = operand.replace(['{', '}'], "");
    let of_domain = plain == "$1" || plain.starts_with("$1:") || plain.starts_with("$1-");
    if of_domain && let Some(domain) = domain {
        let known = !regex && !pattern.contains(['[', '$', '\\']);
        if known && (domain.tested || fits(pattern, domain.name)) {
            return if fits(pattern, domain.name) { Condition::ALWAYS } else { Condition::NEVER };
        }
        return Condition::UNKNOWN;
    }
    // `prepare/begin`, `(prepare|start)`: nothing but the operation's words.
    let stage = stage_of(pattern).or((pattern == "stop").then_some(Stage::Restored));
    let joined = plain.matches('$').count() > 1;
    let whole = pattern.split(['/', '|', '*', ' ', '^', '$', '(', ')', ':', ',']).filter(|part| !part.is_empty());
    let is_whole = |part: &str| stage_of(part).is_some() && part.chars().all(char::is_alphanumeric);
    let (mut words, mut others) = (0, 0);
    whole.for_each(|part| match part {
        "begin" | "end" | "-" | "stop" => {}
        part if is_whole(part) => words += 1,
        _ => others += 1,
    });
    match stage {
        Some(stage) if others == 0 || joined && words > 0 => Condition { stage: Some(stage), holds: Some(true) },
        _ => Condition::UNKNOWN,
    }
}

/// Whether a name fits a shell's pattern of plain characters, `*` and `?`.
pub fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // Which starts of the name the pattern's start fits.
    let mut row: Vec<bool> = (0..=name.len()).map(|at| at == 0).collect();
    for c in pattern {
        let before = row.clone();
        row[0] = before[0] && c == '*';
        for at in 1..=name.len() {
            row[at] = match c {
                '*' => before[at] || row[at - 1],
                '?' => before[at - 1],
                _ => before[at - 1] && name[at - 1] == c,
            };
        }
    }
    row[name.len()]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::import::hooks::shell::read;

    fn said(text: &str) -> (Option<Stage>, Option<bool>) {
        let script = read(text, &mut BTreeMap::new());
        let found = condition(&script.commands[0], Some(Domain { name: "win10", tested: true }));
        (found.stage, found.holds)
    }

    #[test]
    fn only_tests_of_arguments_say_when() {
        let (yes, no) = (Some(true), Some(false));
        assert_eq!(said("[ \"$2\" = release ]"), (Some(Stage::Restored), yes));
        assert_eq!(said("[[ $2 != \"release\" ]]"), (Some(Stage::Before), yes));
        assert_eq!(said("! [ $2 = prepare ]"), (Some(Stage::Restored), yes));
        assert_eq!(said("[ -e /x -a $2 = prepare ]"), (Some(Stage::Before), None));
        assert_eq!(said("[ \"$1\" = win10 -a \"$2/$3\" = prepare/begin ]"), (Some(Stage::Before), yes));
        assert_eq!(said("[[ ${1} == win* ]]"), (None, yes));
        assert_eq!(said("[[ $1 == macOS ]]"), (None, no));
        assert_eq!(said("[ $1 = a -o $1 = win10 ]"), (None, yes));
        for other in ["[ -f /home/u/release-notes ]", "[ \"$NOTES\" = release-notes ]", "[ started = x ]"] {
            assert_eq!(said(other), (None, None), "{other}");
        }
    }

    #[test]
    fn patterns_fit_as_a_shells() {
        assert!(fits("w*1?", "win10") && fits("*", "") && fits("a", "a") && !fits("a", "ab") && !fits("?", ""));
    }
}
