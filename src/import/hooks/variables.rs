//! What variables hold while a script is read, and what they hold only if a test of the script's holds: that is taken out of
//! the value again at the test's end, and a mark stands in its place.

use std::collections::BTreeMap;

use super::marks::{MAX_VALUE, QUOTED, SPLIT, SPLITS, is_mark};

/// More than any script's tests change.
const MAX_NOTES: usize = 4096;
/// Something that a command has only if a test holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnlyIf {
    /// The line of the test, from 1.
    pub line: u32,
    /// What it has then.
    pub text: String,
    /// The test, as it is written.
    pub condition: String,
    /// Whether the command is read with it, since it would have no value at all without.
    pub taken: bool,
}

/// What a branch changed of a variable.
#[derive(Debug)]
pub struct Change {
    name: String,
    old: Option<String>,
    new: String,
    condition: String,
    line: u32,
}

#[derive(Debug)]
struct Note {
    name: String,
    /// What is added, or stands instead, with marks of its own.
    text: String,
    condition: String,
    line: u32,
    /// Whether it is added to the value.
    added: bool,
    /// Whether the variable has no other value that is read before this one.
    first: bool,
}

impl Note {
    /// Whether it is a value without which there is none. What would be options is none.
    fn is_taken(&self) -> bool {
        self.first && !self.added && !is_option(&self.text)
    }
}

/// The variables of a script.
#[derive(Debug)]
pub struct Variables<'v> {
    /// Their values, with marks.
    pub values: &'v mut BTreeMap<String, String>,
    /// What was there before each assignment.
    log: Vec<(String, Option<String>)>,
    notes: Vec<Note>,
}

impl<'v> Variables<'v> {
    /// Those that are known already.
    pub fn new(values: &'v mut BTreeMap<String, String>) -> Self {
        Self { values, log: Vec::new(), notes: Vec::new() }
    }

    /// A variable's value from here on.
    pub fn set(&mut self, name: &str, value: String) {
        let old = self.values.insert(name.to_owned(), value);
        self.log.push((name.to_owned(), old));
    }

    /// A variable of which only a run tells the value from here on.
    pub fn forget(&mut self, name: &str) {
        if let Some(old) = self.values.remove(name) {
            self.log.push((name.to_owned(), Some(old)));
        }
    }

    /// Assigns `NAME=` or, to add to the value, `NAME+=`.
    pub fn assign(&mut self, name: &str, value: &str) {
        let plain = name.trim_end_matches(['=', '+']);
        let mut kept = if name.ends_with("+=") { self.values.get(plain).cloned() } else { None }.unwrap_or_default();
        if !kept.is_empty() && (kept.contains(SPLIT) || value.contains(SPLIT)) {
            kept.push(SPLIT);
        }
        // `X="$X …"` if X was never set.
        let own = [format!("${plain} "), format!("${{{plain}}} "), format!("${{{plain}[@]}}{SPLIT}")];
        let value = own.iter().find_map(|own| value.strip_prefix(own.as_str())).unwrap_or(value);
        for c in value.chars() {
            if kept.len() + c.len_utf8() > MAX_VALUE {
                break;
            }
            kept.push(c);
        }
        self.set(plain, kept);
    }

    /// How many assignments there were.
    pub fn now(&self) -> usize {
        self.log.len()
    }

    /// Takes back what was assigned since: what a branch changed. `default_of`: a variable that the branch is only there to set.
    pub fn take_back(&mut self, since: usize, condition: &str, line: u32, default_of: Option<&str>) -> Vec<Change> {
        let mut before: BTreeMap<String, Option<String>> = BTreeMap::new();
        for (name, old) in self.log.drain(since.min(self.log.len())..) {
            before.entry(name).or_insert(old);
        }
        let mut changes = Vec::new();
        for (name, old) in before {
            if default_of == Some(&name) && old.as_deref().is_none_or(str::is_empty) {
                self.log.push((name, old));
                continue;
            }
            let new = match &old {
                Some(old) => self.values.insert(name.clone(), old.clone()),
                None => self.values.remove(&name),
            };
            if let Some(new) = new.filter(|new| old.as_ref() != Some(new)) {
                changes.push(Change { name, old, new, condition: condition.to_owned(), line });
            }
        }
        changes
    }

    /// Has variables say what branches changed.
    pub fn join(&mut self, changes: Vec<Change>) {
        for Change { name, old, new, condition, line } in changes {
            let now = self.values.get(&name).cloned();
            let begins =
                |text: &str| text.starts_with(|c: char| c.is_whitespace() || c == SPLIT || c == ',' || is_mark(c));
            let after = old.as_deref().and_then(|old| Some((old, new.strip_prefix(old)?)));
            // Nothing is a value of none but of options and of what follows others.
            let after = after.filter(|(old, added)| match old.is_empty() {
                true => is_option(added) || begins(added),
                false => old.ends_with([' ', ',']) || begins(added),
            });
            let before =
                old.as_deref().filter(|old| !old.is_empty() && begins(old)).and_then(|old| new.strip_suffix(old));
            let spaced = || new.strip_suffix(old.as_deref()?)?.strip_suffix(' ');
            let before = before.or_else(spaced).map(|text| format!("{text} "));
            let first = now.as_deref().is_none_or(str::is_empty);
            let mut now = now.unwrap_or_default();
            let mark = u32::try_from(self.notes.len().min(MAX_NOTES)).ok().and_then(|id| char::from_u32(QUOTED + id));
            let (text, added) = match (after, before) {
                (Some((_, added)), _) => (added.to_owned(), true),
                (None, Some(added)) => (added, true),
                (None, None) => (new.clone(), false),
            };
            let place = if after.is_none() && added { 0 } else { now.len() };
            if let Some(mark) = mark.filter(|_| now.len() < MAX_VALUE) {
                now.insert(place, mark);
            }
            if self.notes.len() < MAX_NOTES {
                self.notes.push(Note { name: name.clone(), text, condition, line, added, first });
            }
            self.set(&name, now);
        }
    }

    fn note(&self, c: char) -> Option<&Note> {
        let id = u32::from(c).checked_sub(QUOTED)?;
        self.notes.get(usize::try_from(id % (SPLITS - QUOTED)).ok()?)
    }

    /// A word with all that it may have: what is added in any branch, and of several values the first.
    pub fn whole(&self, word: &str) -> String {
        let mut whole = String::new();
        let mut steps = MAX_VALUE;
        self.push_whole(word, false, &mut whole, &mut steps);
        whole
    }

    fn push_whole(&self, word: &str, splits: bool, whole: &mut String, steps: &mut usize) {
        for c in word.chars() {
            let Some(left) = steps.checked_sub(1) else { return };
            *steps = left;
            if !is_mark(c) {
                whole.push(if splits && c.is_whitespace() { SPLIT } else { c });
            } else if let Some(note) = self.note(c).filter(|note| note.added || note.first) {
                self.push_whole(&note.text, splits || u32::from(c) >= SPLITS, whole, steps);
            }
        }
    }

    /// A word with only what it has whatever the tests say, and of values without which there is none, the first.
    pub fn certain(&self, word: &str) -> String {
        let mut parts = Vec::new();
        for part in word.split(SPLIT) {
            let mut certain = String::new();
            for c in part.chars() {
                match self.note(c) {
                    Some(note) if note.is_taken() => certain.push_str(&self.whole(&note.text)),
                    Some(_) => {}
                    None => certain.extend((!is_mark(c)).then_some(c)),
                }
            }
            parts.push(certain);
        }
        parts.join(&SPLIT.to_string())
    }

    /// What a word has only if tests hold.
    pub fn only_if(&self, word: &str, found: &mut Vec<OnlyIf>) {
        let mut steps = MAX_NOTES;
        self.push_only_if(word, "", found, &mut steps);
    }

    fn push_only_if(&self, word: &str, outer: &str, found: &mut Vec<OnlyIf>, steps: &mut usize) {
        for note in word.chars().filter_map(|c| self.note(c)) {
            let Some(left) = steps.checked_sub(1) else { return };
            *steps = left;
            let plain: String = note.text.chars().filter(|c| !is_mark(*c)).collect();
            let plain = plain.replace(SPLIT, " ");
            let plain = plain.split_whitespace().collect::<Vec<_>>().join(" ");
            let text = if note.added || is_option(&plain) { plain.clone() } else { format!("{}={plain}", note.name) };
            let (open, close) = if note.condition.starts_with('`') { ("", "") } else { ("`", "`") };
            let join = if outer.is_empty() { "" } else { ", and " };
            let condition = format!("{outer}{join}{open}{}{close}", note.condition);
            let one = OnlyIf { line: note.line, text, condition: condition.clone(), taken: note.is_taken() };
            let dropped = plain.is_empty() && note.added;
            if !dropped && !found.contains(&one) {
                found.push(one);
            }
            self.push_only_if(&note.text, &condition, found, steps);
        }
    }

    /// The end of the script: no mark stays.
    pub fn close(self) {
        let marked: Vec<String> =
            self.values.iter().filter(|(_, value)| value.contains(is_mark)).map(|(name, _)| name.clone()).collect();
        for name in marked {
            let whole = self.whole(&self.values[&name]);
            self.values.insert(name, whole);
        }
    }
}

fn is_option(text: &str) -> bool {
    text.trim_start_matches(|c: char| c.is_whitespace() || c == SPLIT || is_mark(c)).starts_with('-')
}
