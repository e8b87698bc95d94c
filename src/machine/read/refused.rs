//! Why a machine file was refused, and how that looks.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use textwrap::core::display_width;

use super::position::{Position, position};
use super::tokens::Span;

/// A machine file was refused: what was read and where, what is allowed, and how to mend it.
///
/// Its text is several lines, the first of which can be understood alone: `win11.ron:14:9: unknown field …`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
pub struct Refused {
    /// The machine file, as it was named.
    #[serde(serialize_with = "shown")]
    pub path: PathBuf,
    /// What is wrong, in one line.
    pub message: String,
    /// Where it is, if it is at a place in the text.
    #[serde(flatten)]
    pub place: Option<Box<Place>>,
    /// What is allowed there.
    pub allowed: Option<Box<str>>,
    /// How to mend it.
    pub help: Option<String>,
    /// What else is wrong in the file, in its order, as far as that can be told beside the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Refused>,
}

/// A place in the text of a machine file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// How many characters are meant, on this line.
    pub width: u32,
    /// The field that is meant: `disks[0].file`.
    pub field: Option<String>,
    /// The text of the line.
    pub source: String,
}

impl Place {
    pub(super) fn position(&self) -> Position {
        Position { line: self.line, column: self.column }
    }
}

/// How many things that are wrong are told at once.
pub(super) const MOST: usize = 8;

/// How much of a long line is shown before and behind the place.
const SHOWN: usize = 80;

impl Refused {
    /// A refusal of the whole file.
    pub(super) fn file(path: &Path, message: impl Into<String>) -> Self {
        let message = brief(&message.into());
        Self { path: path.to_owned(), message, place: None, allowed: None, help: None, also: Vec::new() }
    }

    /// A refusal of a part of the text.
    pub(super) fn at(path: &Path, text: &str, span: Span, message: impl Into<String>) -> Self {
        let Position { line, column } = position(text, span.start);
        let meant = text.get(span.start..span.end).unwrap_or_default();
        let width = meant.lines().next().unwrap_or_default().chars().count().max(1);
        let source = text.split('\n').nth(line as usize - 1).unwrap_or_default().trim_end().to_owned();
        let place = Place { line, column, width: u32::try_from(width).unwrap_or(u32::MAX), field: None, source };
        Self { place: Some(Box::new(place)), ..Self::file(path, message) }
    }

    /// Names the field that is meant.
    pub(super) fn field(mut self, field: &str) -> Self {
        if let Some(place) = &mut self.place {
            place.field = Some(field.to_owned()).filter(|field| !field.is_empty());
        }
        self
    }

    /// Says what is allowed.
    pub(super) fn allowed(mut self, allowed: impl Into<String>) -> Self {
        self.allowed = Some(brief(&allowed.into()).into());
        self
    }

    /// Says how to mend it.
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(brief(&help.into()));
        self
    }

    /// The line, if there is a place.
    pub fn line(&self) -> Option<u32> {
        self.place.as_ref().map(|place| place.line)
    }

    /// The column, if there is a place.
    pub fn column(&self) -> Option<u32> {
        self.place.as_ref().map(|place| place.column)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", tame(&self.path.display().to_string()))?;
        if let Some(place) = &self.place {
            write!(f, ":{}:{}", place.line, place.column)?;
        }
        write!(f, ": {}", self.message)?;
        let mut indent = 2;
        if let Some(place) = &self.place {
            indent = place.line.to_string().len() + 1;
            write!(f, "\n{place}")?;
        }
        for (name, text) in [("allowed", self.allowed.as_deref()), ("help", self.help.as_deref())] {
            if let Some(text) = text {
                write!(f, "\n{:indent$}= {name}: {text}", "")?;
            }
        }
        self.also.iter().try_for_each(|refused| write!(f, "\n{refused}"))
    }
}

/// The source line with a caret below what is meant.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let at = self.column.saturating_sub(1) as usize;
        let skip = at.saturating_sub(SHOWN);
        let shown = tame(&self.source.chars().skip(skip).take(2 * SHOWN).collect::<String>());
        let meant = shown.char_indices().nth(at - skip).map_or(shown.len(), |(start, _)| start);
        let (before, from) = shown.split_at(meant);
        // Tabs stay tabs above and below, so the caret stands right whatever their width is.
        let blanks = |c: char| if c == '\t' { c.to_string() } else { " ".repeat(columns(c)) };
        let before: String = before.chars().map(blanks).collect();
        let marked: usize = from.chars().take(self.width as usize).map(columns).sum();
        let carets = "^".repeat(marked.max(1));
        let blank = " ".repeat(number.len());
        write!(f, "{blank} |\n{number} | {shown}\n{blank} | {before}{carets}")
    }
}

/// How wide a terminal shows a character; a tab, whose width is the terminal's, counts as one.
fn columns(c: char) -> usize {
    if c == '\t' { 1 } else { display_width(c.encode_utf8(&mut [0; 4])) }
}

/// A path need not be UTF-8, and JSON must be: an error about a file must not fail for its name.
fn shown<S: serde::Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&path.display())
}

/// What goes into a message, at a length that can be read whatever the file says.
fn brief(text: &str) -> String {
    const MOST: usize = 2000;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", tame(&text[..end])),
        None => tame(text),
    }
}

/// The file may come from anyone: its text must not move the cursor or turn the reading direction of the terminal that
/// an error is shown on. One character stays one character.
fn tame(text: &str) -> String {
    let wild = |c: char| {
        c.is_control() && c != '\t'
            || matches!(c, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if wild(c) { '\u{FFFD}' } else { c }).collect()
}
