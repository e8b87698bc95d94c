//! The account of an import: what became of each value of what was read. Each value is in exactly one entry, so nothing is
//! lost without a word.

use std::collections::BTreeSet;

use serde::Serialize;

use super::xml::{self, Node};
pub use super::xml::{Place, TEXT};
use crate::units::{printable, printable_lines};

/// What became of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The machine file says it.
    TakenOver,
    /// vfio-run does it by itself, so nobody need say it.
    DoneByItself,
    /// A mistake was mended, with the reason.
    Improved,
    /// It has no meaning here.
    LeftOut,
    /// A person must decide; the words say what to write.
    NeedsYou,
}

impl Verdict {
    /// All of them, in the order of a report.
    pub const ALL: [Self; 5] = [Self::TakenOver, Self::DoneByItself, Self::Improved, Self::LeftOut, Self::NeedsYou];

    /// The heading of its entries.
    pub fn title(self) -> &'static str {
        match self {
            Self::TakenOver => "taken over",
            Self::DoneByItself => "done by itself now",
            Self::Improved => "improved",
            Self::LeftOut => "left out",
            Self::NeedsYou => "needs you",
        }
    }
}

/// Values of which the same became.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// What became of them.
    pub verdict: Verdict,
    /// Why, or what to write; empty if there is nothing to say.
    pub words: String,
    /// Where they were written; nowhere if something is missing that should be there.
    pub places: Vec<Place>,
}

/// All entries, in the order of the verdicts and then of the input.
#[derive(Debug, Default)]
pub struct Account {
    entries: Vec<Entry>,
    /// Elements' text and attributes that are in an entry, by node and name.
    seen: BTreeSet<(u32, String)>,
}

/// The name by which all that is in an element is meant: its attributes, its text and its children's.
pub const ALL: &str = "*";
impl Account {
    /// Enters attributes of an element, its text ([`TEXT`]) or all that is in it ([`ALL`]); what has an entry already keeps it.
    pub fn enter(&mut self, verdict: Verdict, node: Node, names: &[&str], words: &str) {
        let mut places = Vec::new();
        for name in names {
            if *name == ALL {
                node.descendants().filter(Node::is_element).for_each(|below| self.enter_all(below, &mut places));
            } else if if *name == TEXT { xml::has_own_value(node) } else { node.has_attribute(*name) } {
                self.place(node, name, &mut places);
            }
        }
        self.add(verdict, words, places);
    }

    fn enter_all(&mut self, node: Node, places: &mut Vec<Place>) {
        for attribute in node.attributes() {
            self.place(node, attribute.name(), places);
        }
        if xml::has_own_value(node) {
            self.place(node, TEXT, places);
        }
    }

    fn place(&mut self, node: Node, name: &str, places: &mut Vec<Place>) {
        if self.seen.insert((node.id().get(), name.to_owned())) {
            places.push(xml::place(node, name));
        }
    }

    /// Adds places to the entry with the same words, or makes one.
    fn add(&mut self, verdict: Verdict, words: &str, places: Vec<Place>) {
        if places.is_empty() {
            return;
        }
        let same = |entry: &&mut Entry| entry.verdict == verdict && entry.words == words && !entry.places.is_empty();
        match self.entries.iter_mut().find(same) {
            Some(entry) => entry.places.extend(places),
            None => self.entries.push(Entry { verdict, words: words.to_owned(), places }),
        }
    }

    /// Enters a line of a script.
    pub fn line(&mut self, verdict: Verdict, file: &str, line: u32, text: &str, words: &str) {
        // Reports are shown to others.
        let secret = ["osk=", "password="].into_iter().filter_map(|word| Some(text.find(word)? + word.len())).min();
        let text = secret.map_or_else(|| text.to_owned(), |at| format!("{}…", &text[..at]));
        let place = Place { file: Some(file.to_owned()), line, text, path: String::new() };
        self.add(verdict, words, vec![place]);
    }

    /// Says something about what is not written.
    pub fn remark(&mut self, verdict: Verdict, words: &str) {
        if !self.entries.iter().any(|entry| entry.words == words) {
            self.entries.push(Entry { verdict, words: words.to_owned(), places: Vec::new() });
        }
    }

    /// Enters what nobody has asked for.
    pub fn enter_rest(&mut self, root: Node) {
        for node in root.descendants().filter(Node::is_element) {
            let mut places = Vec::new();
            self.enter_all(node, &mut places);
            let name = node.tag_name().name();
            let words = format!(
                "vfio-run has no rule for this in <{name}>; see `vfio-run man machine` for a field that says it"
            );
            self.add(Verdict::NeedsYou, &words, places);
        }
    }

    /// The entries, without anything that a terminal obeys: they quote what others wrote.
    pub fn close(mut self) -> Vec<Entry> {
        for entry in &mut self.entries {
            entry.words = printable_lines(&entry.words);
            for place in &mut entry.places {
                place.file = place.file.as_deref().map(printable);
                place.text = printable(&place.text);
            }
        }
        // Stable, so the input's order stays.
        self.entries.sort_by_key(|entry| entry.verdict);
        self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_entry_quotes_does_nothing_to_a_terminal() {
        let mut account = Account::default();
        account.line(Verdict::TakenOver, "a\u{1b}[2J.sh", 1, "-\u{9b}2J", "no field says `-\u{9b}2J`");
        account.remark(Verdict::NeedsYou, "refused: \u{1b}]0;x\u{7}\nline 2");
        let [line, remark] = &account.close()[..] else { panic!("two entries") };
        assert_eq!(line.words, "no field says `-\u{fffd}2J`");
        let place = &line.places[0];
        assert_eq!((place.file.as_deref(), place.text.as_str()), (Some("a\u{fffd}[2J.sh"), "-\u{fffd}2J"));
        assert_eq!(remark.words, "refused: \u{fffd}]0;x\u{fffd}\nline 2");
    }
}
