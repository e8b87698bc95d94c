//! Where each value of the machine file was written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::pieces::Pieces;
use super::position::{Position, Walk};
use super::tokens::{Kind, Span, Token, Tokens};

/// Where each value of a machine file was written, by its path: `disks[0].file`.
///
/// What stands in the parentheses of a variant belongs to the field itself: the port of `display: Vnc(port: 5900)` is
/// `display.port`, the size in `pages: Huge("2 MiB")` is `memory.pages.0`. A path with the variant's name in it
/// (`display.Vnc.port`) finds the same. The default value knows no lines, for machines that were not read from a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lines {
    values: Vec<Value>,
    first: BTreeMap<String, usize>,
    unclosed: Option<Span>,
    open_comment: Option<Span>,
    files: Vec<PathBuf>,
}

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    /// Its path.
    pub path: String,
    /// The field's name, if it has one.
    pub key: Option<Span>,
    /// The value, or what it begins with: the name before its parentheses, or its bracket.
    pub head: Span,
    /// Whether it is a name without parentheses.
    pub bare: bool,
    /// Where the first of the two begins.
    at: Position,
    /// The file that it is in, by its place in the list: 0 for the one that was named.
    file: usize,
}

/// Why a text was given up: nothing that a person would write comes near these limits, and they bound what reading an
/// untrusted file can cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Excess {
    /// What there is too much of.
    pub what: &'static str,
    /// What is allowed.
    pub allowed: &'static str,
    /// Where the limit was passed.
    pub span: Span,
}

const MAX_DEPTH: usize = 16;
const MAX_VALUES: usize = 16 * 1024;
/// Linux's limit for a path (`PATH_MAX`), and twice that of a kernel command line.
const MAX_TEXT: usize = 4096;
/// Names are cut here; no field's is near it, so a cut one is an unknown one anyway.
const MAX_NAME: usize = 64;

struct Frame {
    path: String,
    bracket: char,
    open: Span,
    items: usize,
}

impl Frame {
    fn item(&mut self) -> String {
        let index = self.items;
        self.items += 1;
        match self.bracket {
            '[' => format!("{}[{index}]", self.path),
            _ => join(&self.path, &index.to_string()),
        }
    }
}

impl Lines {
    /// Finds every value of the text; on text that is not RON, those that can be told.
    pub(super) fn find(text: &str) -> Result<Self, Excess> {
        let mut lines = Self::default();
        let mut tokens = Tokens::new(text);
        let mut walk = Walk::new(text);
        let mut frames: Vec<Frame> = Vec::new();
        while let Some(token) = tokens.next() {
            match token.kind {
                Kind::Close => {
                    frames.pop();
                }
                Kind::Comma | Kind::Colon => {}
                _ => lines.value(&mut walk, token, &mut tokens, &mut frames)?,
            }
        }
        lines.unclosed = frames.last().map(|frame| frame.open);
        lines.open_comment = tokens.open_comment;
        Ok(lines)
    }

    /// Takes in one item: an optional name with its colon, then a value or the start of one.
    fn value(
        &mut self,
        walk: &mut Walk,
        token: Token,
        tokens: &mut Tokens,
        frames: &mut Vec<Frame>,
    ) -> Result<(), Excess> {
        let at = walk.to(token.span.start);
        let is_key = !matches!(token.kind, Kind::Open(_))
            && frames.last().is_some_and(|frame| frame.bracket != '[')
            && tokens.peek().is_some_and(|next| next.kind == Kind::Colon);
        let path = match frames.last_mut() {
            None => String::new(),
            Some(frame) if is_key => join(&frame.path, key_name(&walk.text[token.span.start..token.span.end])),
            Some(frame) => frame.item(),
        };
        let (key, token) = if is_key {
            tokens.next();
            match tokens.peek() {
                Some(next) if !matches!(next.kind, Kind::Close | Kind::Comma | Kind::Colon) => {
                    tokens.next();
                    (Some(token.span), next)
                }
                // The value is missing. The name stands for it, so that an error has a place.
                _ => (Some(token.span), token),
            }
        } else {
            (None, token)
        };
        if token.kind == Kind::Text && token.span.end - token.span.start > MAX_TEXT {
            return Err(Excess { what: "this text is too long", allowed: "at most 4096 bytes", span: token.span });
        }
        let mut open = token;
        if token.kind == Kind::Name
            && key != Some(token.span)
            && let Some(next) = tokens.peek().filter(|next| next.kind == Kind::Open('('))
        {
            open = next;
            tokens.next();
        }
        if let Kind::Open(bracket) = open.kind {
            if frames.len() == MAX_DEPTH {
                return Err(Excess {
                    what: "this is nested too deeply",
                    allowed: "at most 16 levels",
                    span: open.span,
                });
            }
            frames.push(Frame { path: path.clone(), bracket, open: open.span, items: 0 });
        }
        if self.values.len() == MAX_VALUES {
            return Err(Excess { what: "too many values", allowed: "at most 16384", span: token.span });
        }
        self.first.entry(path.clone()).or_insert(self.values.len());
        let bare = token.kind == Kind::Name && key != Some(token.span) && open.kind == Kind::Name;
        self.values.push(Value { path, key, head: token.span, bare, at, file: 0 });
        Ok(())
    }

    /// Where the field was written: its name, or its value if it has none. `None` if it was left out.
    pub fn at(&self, field: &str) -> Option<Position> {
        self.get(field).map(|value| value.at)
    }

    /// The line that the field was written on, in the file that was named; `None` also for what that one's base says.
    pub fn line(&self, field: &str) -> Option<u32> {
        self.get(field).filter(|value| value.file == 0).map(|value| value.at.line)
    }

    /// The file in which the field was written.
    pub fn file(&self, field: &str) -> Option<&Path> {
        self.get(field).and_then(|value| self.files.get(value.file)).map(PathBuf::as_path)
    }

    /// The files: the one that was named, and those that it is based on.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The places are those in the files from now on.
    pub(super) fn place_in(&mut self, pieces: &Pieces) {
        self.files = pieces.files.iter().map(|(path, _)| path.clone()).collect();
        let origin = |value: &Value| pieces.origin(value.key.unwrap_or(value.head).start);
        let mut order: Vec<_> = self.values.iter().enumerate().map(|(index, value)| (origin(value), index)).collect();
        order.sort_unstable();
        for in_file in order.chunk_by(|((one, _), _), ((other, _), _)| one == other) {
            let mut walk =
                in_file.first().and_then(|((file, _), _)| pieces.files.get(*file)).map(|(_, text)| Walk::new(text));
            for ((file, byte), index) in in_file {
                let value = &mut self.values[*index];
                value.file = *file;
                value.at = walk.as_mut().map_or(value.at, |walk| walk.to(*byte));
            }
        }
    }

    /// The value at this path, with or without the names of variants in it.
    pub(super) fn get(&self, field: &str) -> Option<&Value> {
        if let Some(index) = self.first.get(field) {
            return self.values.get(*index);
        }
        let (mut plain, mut ends_in_variant) = (String::new(), false);
        for part in field.split('.') {
            // Fields are in lower case; variants begin with a capital.
            ends_in_variant = part.starts_with(|c: char| c.is_ascii_uppercase());
            if !ends_in_variant {
                plain = join(&plain, part);
            }
        }
        let inner = ends_in_variant.then(|| join(&plain, "0"));
        let index = inner.and_then(|inner| self.first.get(&inner)).or_else(|| self.first.get(&plain))?;
        self.values.get(*index)
    }

    /// The names without parentheses, in the order of the file.
    pub(super) fn bare(&self) -> impl Iterator<Item = &Value> {
        self.values.iter().filter(|value| value.bare)
    }

    /// Every value with this path; more than one if a field was written twice.
    pub(super) fn all(&self, field: &str) -> impl Iterator<Item = &Value> {
        self.values.iter().filter(move |value| value.path == field)
    }

    /// The value that this byte is within, neither its first nor behind its last.
    pub(super) fn around(&self, byte: usize) -> Option<&Value> {
        self.values.iter().find(|value| value.head.start < byte && byte < value.head.end)
    }

    /// The comment that is never closed.
    pub(super) fn open_comment(&self) -> Option<Span> {
        self.open_comment
    }

    /// All of the entry with this path: its name, its value, and what is in the value's brackets. `text` is what these lines
    /// were found in.
    pub(super) fn entry(&self, text: &str, field: &str) -> Option<Span> {
        let value = self.get(field).filter(|value| value.path == field && !field.is_empty())?;
        let start = value.key.unwrap_or(value.head).start;
        let mut depth = 0_usize;
        let mut tokens = Tokens::new(text).skip_while(|token| token.span.start < value.head.start).peekable();
        while let Some(token) = tokens.next() {
            match token.kind {
                Kind::Open(_) => depth += 1,
                Kind::Close => depth = depth.saturating_sub(1),
                _ => {}
            }
            let goes_on =
                tokens.peek().is_some_and(|next| depth > 0 || !matches!(next.kind, Kind::Comma | Kind::Close));
            if !goes_on {
                return (depth == 0).then_some(Span { start, end: token.span.end });
            }
        }
        None
    }

    /// The innermost bracket that is never closed.
    pub(super) fn unclosed(&self) -> Option<Span> {
        self.unclosed
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

pub(super) fn key_name(written: &str) -> &str {
    cut(written.strip_prefix("r#").unwrap_or(written).trim_matches('"'))
}

/// A name as it stands in paths.
pub(super) fn cut(name: &str) -> &str {
    name.char_indices().nth(MAX_NAME).map_or(name, |(end, _)| &name[..end])
}

#[cfg(test)]
mod tests;
