//! Turns what `ron` and serde report into errors that a person can act on.
//!
//! `ron` knows what it expected and how far it came; serde knows which field it was in; [`Lines`] knows where that
//! field was written; the schema knows what it takes. None of them alone makes a good message.

use std::path::Path;

use ron::error::{Error, SpannedError};
use serde_path_to_error::Segment;

use super::codes::is_syntax;
use super::lines::{self, Lines, Value};
use super::nearest::nearest;
use super::of_others;
use super::position::{self, Position};
use super::refused::Refused;
use super::rewritten::{cpus_mended, rewritten, size_mended};
use super::tokens::Span;
use super::values_of_others;
use super::words::Completed;
use crate::machine::schema::Fields;

/// How it begins what a field takes that has fields of its own.
const FIELDS: &str = "fields in parentheses";

/// The file that an error is about.
#[derive(Clone, Copy)]
pub(super) struct Explain<'a> {
    pub path: &'a Path,
    pub text: &'a str,
    /// What `ron` read.
    pub completed: &'a Completed<'a>,
    pub lines: &'a Lines,
}

impl Explain<'_> {
    /// Explains an error of `ron`, or of serde's on the way through it.
    pub fn error(&self, error: &SpannedError, path: Option<&serde_path_to_error::Path>) -> Refused {
        let (field, full) = path.map(paths).unwrap_or_default();
        let value = self.lines.get(&full);
        let fields = Fields::of_machine();
        if self.lines.get("").is_none() && error.code != Error::UnclosedBlockComment {
            return Refused::at(self.path, self.text, Span::default(), "the file is empty")
                .help("a machine needs `guest` and `memory`: `(guest: Linux, memory: (size: \"4 GiB\"))`");
        }
        match &error.code {
            Error::NoSuchStructField { expected, found, .. } => {
                let span = self.lines.get(&field).map(|value| value.key.unwrap_or(value.head));
                self.unknown_field(span.unwrap_or(self.cursor(error)), &field, found, expected, fields)
            }
            Error::NoSuchEnumVariant { expected, found, .. } => {
                let span = value.map_or(self.cursor(error), |value| value.head);
                self.unknown_variant(span, &field, found, expected, fields)
            }
            Error::MissingStructField { field: name, .. } => self.missing_field(&field, name, fields),
            Error::DuplicateStructField { field: name, .. } => self.duplicate_field(&field, name),
            _ if value.is_some_and(|value| Some(value.head) == value.key) => {
                let span = value.map(|value| value.head).unwrap_or_default();
                let refused = self.refuse(span, &field, format!("`{field}` has no value"));
                fields.takes(&field).map_or(refused.clone(), |takes| refused.allowed(takes))
            }
            Error::SuggestRawIdentifier(name) => {
                let underscored = name.replace('-', "_");
                let known =
                    !fields.homes(&underscored).is_empty() || (underscored != *name && is_top_level(&underscored));
                let at = self.cursor(error);
                let refused = self.refuse(at, &field, format!("`{name}` is no field's name"));
                match name.split_once('.') {
                    _ if known => refused.help(format!("field names are written with `_`: `{underscored}`")),
                    // `vsock: 3`: the value itself.
                    _ if value.is_some_and(|value| value.path == field && self.written(value.head) == name) => {
                        value.map_or(refused, |value| self.wrong_type(value, &field, fields))
                    }
                    _ if name.starts_with(|first: char| first.is_ascii_digit()) => {
                        let variant = self.lines.get(&field).map_or("", |value| self.written(value.head));
                        match fields.first_in_variant(&field, variant, "a whole number") {
                            Some(known) => refused.help(format!("write `{variant}({known}: {name})`")),
                            None => refused.help(format!("a field's name comes before its value: `name: {name}`")),
                        }
                    }
                    Some((part, rest)) => {
                        refused.help(format!("a field of a part is written in parentheses: `{part}: ({rest}: …)`"))
                    }
                    None => refused,
                }
            }
            Error::Message(text) => match (value, text.rsplit_once("; ")) {
                // What our own units say: `"16" is not a size; write …`.
                (Some(value), Some((message, allowed))) if message.contains(" is not a") => {
                    let refused =
                        self.refuse(value.head, &field, format!("{}{message}", name_before(&field))).allowed(allowed);
                    let help = values_of_others::in_place_of(self.written(value.head).trim_matches('"'), &field)
                        .or_else(|| cpus_mended(self.written(value.head)))
                        .or_else(|| size_mended(self.written(value.head)))
                        .or_else(|| values_of_others::ids(self.written(value.head), &field))
                        .or_else(|| values_of_others::address(self.written(value.head), &field));
                    help.map_or(refused.clone(), |help| refused.help(help))
                }
                (Some(value), _) => self.wrong_type(value, &field, fields),
                (None, _) => self.refuse(self.cursor(error), &field, text.clone()),
            },
            Error::ExpectedStringEnd if value.is_some_and(|value| value.head.start < value.head.end) => {
                let start = value.map_or(0, |value| value.head.start);
                self.refuse(Span { start, end: start + 1 }, &field, "this text has no closing quote".to_owned())
            }
            code if is_syntax(code) && self.text[self.cursor(error).start..].starts_with(';') => {
                let refused = self.refuse(self.cursor(error), &field, "`;` has no place here".to_owned());
                refused.help("fields and entries are parted by commas")
            }
            code if is_syntax(code) => match self.lines.around(self.cursor(error).start) {
                // It stopped within a value: `4.5` for a whole number.
                Some(value) if *code == Error::ExpectedComma => self.wrong_type(value, &value.path, fields),
                _ => self.syntax(error, &field, fields),
            },
            code => match value {
                // Behind the value's beginning, `ron` was at the fields in it: `(guest: Linux,, )`.
                Some(value) if *code == Error::ExpectedIdentifier && self.cursor(error).start >= value.head.end => {
                    self.syntax(error, &field, fields)
                }
                Some(value) => self.wrong_type(value, &field, fields),
                None => self.syntax(error, &field, fields),
            },
        }
    }

    pub(super) fn refuse(&self, span: Span, field: &str, message: String) -> Refused {
        Refused::at(self.path, self.text, span, message).field(field)
    }

    /// Where `ron` stopped, as a span of one character.
    fn cursor(&self, error: &SpannedError) -> Span {
        let at = |p: ron::error::Position| Position {
            line: u32::try_from(p.line).unwrap_or(u32::MAX),
            column: u32::try_from(p.col).unwrap_or(u32::MAX),
        };
        let start = self.completed.original(position::byte_at(&self.completed.text, at(error.span.end)));
        let end = start + self.text[start..].chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8);
        Span { start, end }
    }

    pub(super) fn written(&self, span: Span) -> &str {
        &self.text[span.start..span.end]
    }

    fn unknown_field(&self, span: Span, field: &str, found: &str, expected: &[&str], fields: &Fields) -> Refused {
        let (found, (parent, _)) = (lines::cut(found), split(field));
        let place = inside(parent);
        if let Some(whole) = self.halves_of_id(found, parent).or_else(|| self.parts_of_address(found, parent)) {
            return whole;
        }
        // `emulator` of libvirt, with a path, is another field than ours.
        let program = self.lines.get(field).map(|value| self.written(value.head)).filter(|text| text.contains('/'));
        let of_others = match program.filter(|_| field == "emulator") {
            Some(program) => Some(format!("write `qemu: {program}`; `vfio-run help qemu` explains it")),
            None => of_others::in_place_of(found, parent, fields),
        };
        // The beginning of a name is too far from a long one to count as mistyped: `password` for `password_file`.
        let begun = || expected.iter().copied().find(|known| found.len() >= 4 && known.starts_with(found));
        let near = nearest(found, expected).or_else(begun).filter(|_| of_others.is_none());
        let guess = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        let refused = self.refuse(span, field, format!("unknown field `{found}`{place}{guess}"));
        let help = match fields.homes(found).first() {
            _ if near.is_some() => None,
            _ if of_others.is_some() => of_others,
            Some(home) if *home != parent => Some(format!("`{found}` is a field of `{home}`")),
            _ if is_top_level(found) && !parent.is_empty() => {
                Some(format!("`{found}` is a field of the machine: move it out of `{parent}`"))
            }
            _ => None,
        };
        // The machine's own fields fill the screen, and would hide what is to be written.
        let refused = match (help.is_some() || near.is_some()) && parent.is_empty() {
            true => refused.allowed("the fields that `vfio-run man machine` lists"),
            false => refused.allowed(format!("the fields{place} are {}", list(expected))),
        };
        help.map_or(refused.clone(), |help| refused.help(help))
    }

    fn unknown_variant(&self, span: Span, field: &str, found: &str, expected: &[&str], fields: &Fields) -> Refused {
        let found = lines::cut(found);
        let of_others = values_of_others::in_place_of(found, field);
        let near = nearest(found, expected).filter(|_| of_others.is_none());
        let guess = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        let refused = self
            .refuse(span, field, format!("unknown value `{found}` for `{field}`{guess}"))
            .allowed(fields.takes(field).unwrap_or_else(|| list(expected)));
        // `huge`: of a name that takes a value, with one.
        let with_value = |near: &str| {
            let example = fields.example(field).filter(|example| example.starts_with(&format!("{near}(")))?;
            Some(format!("write `{}: {example}`", split(field).1))
        };
        of_others.or_else(|| near.and_then(with_value)).map_or(refused.clone(), |help| refused.help(help))
    }

    fn missing_field(&self, field: &str, name: &str, fields: &Fields) -> Refused {
        let span = self.lines.get(field).map(|value| value.head).unwrap_or_default();
        let path = if field.is_empty() { name.to_owned() } else { format!("{field}.{name}") };
        let refused = self.refuse(span, field, format!("missing field `{name}`{}", inside(field)));
        let refused = match fields.about(&path) {
            Some(about) => refused.allowed(format!("`{name}` must be given: {}", decapitalized(&about))),
            None => refused,
        };
        match fields.example(&path) {
            Some(example) => refused.help(format!("add `{name}: {example}`")),
            None => refused,
        }
    }

    fn duplicate_field(&self, field: &str, name: &str) -> Refused {
        let path = if field.is_empty() { name.to_owned() } else { format!("{field}.{name}") };
        let mut all = self.lines.all(&path).map(|value| value.key.unwrap_or(value.head));
        let first = all.next().unwrap_or_default();
        let again = all.next().unwrap_or(first);
        let line = position::position(self.text, first.start).line;
        self.refuse(again, &path, format!("field `{name}`{} is given twice", inside(field)))
            .help(format!("keep one of the two; the first is on line {line}"))
    }

    fn wrong_type(&self, value: &Value, field: &str, fields: &Fields) -> Refused {
        if let Some(whole) = self.list_of_cpus(field, fields) {
            return whole;
        }
        let written = self.written(value.head);
        let shown = lines::cut(written.lines().next().unwrap_or_default());
        let subject = if field.is_empty() { "the machine".to_owned() } else { format!("`{field}`") };
        // The value in a variant's parentheses, `Bridge(br0)`, has a type of its own.
        let inner = value.path.strip_prefix(field).filter(|rest| *rest == ".0").and_then(|_| fields.takes(&value.path));
        let Some(takes) = inner.or_else(|| fields.takes(field)) else {
            return self.refuse(value.head, field, format!("{subject} cannot be `{shown}`"));
        };
        let bare = written.trim_matches('"');
        // A variant's fields without a name: `Macvtap("eth0")`.
        if let Some(variant) = self.variant_with_fields(value, field, &takes)
            && let Some(name) =
                fields.first_in_variant(field, variant, if takes.starts_with(FIELDS) { "text" } else { &takes })
        {
            let message = format!("{subject}: `{variant}` takes fields");
            let help = values_of_others::port(written, variant, field);
            let help = help.unwrap_or_else(|| format!("write `{variant}({name}: {written})`"));
            return self.refuse(value.head, field, message).help(help);
        }
        // A variant without the parentheses of what it holds: `vsock: Cid`.
        let forms = ["…", "\"…\""].map(|held| format!("{bare}({held})"));
        if let Some(form) = forms.iter().find(|form| takes.contains(&format!("`{form}`"))).filter(|_| bare == written) {
            let example = fields.example(field).filter(|example| example.starts_with(&format!("{bare}(")));
            return self
                .refuse(value.head, field, format!("{subject}: `{bare}` takes a value in parentheses"))
                .help(format!("write `{}`", example.as_ref().unwrap_or(form)));
        }
        let refused = self.refuse(value.head, field, format!("{subject} cannot be `{shown}`")).allowed(takes.clone());
        if bare != written && takes.contains(&format!("`{bare}")) {
            return refused.help(format!("write `{bare}` without quotes"));
        }
        if field.is_empty() {
            return of_others::form(self.text).map_or(refused.clone(), |help| refused.help(help));
        }
        let plain = bare.parse::<i64>().is_ok() || matches!(bare, "true" | "false");
        if bare != written && plain && (takes.starts_with("a whole number") || takes.starts_with("`true`")) {
            return refused.help("numbers, `true` and `false` are written without quotes");
        }
        if let Some(seconds) = values_of_others::seconds(bare).filter(|_| takes.starts_with("a whole number")) {
            return refused.help(format!("write `{seconds}`: a number of seconds, without unit and quotes"));
        }
        let rest = &self.text[value.head.start..];
        rewritten(rest, written, field, &takes, fields).map_or(refused.clone(), |help| refused.help(help))
    }

    /// The name before the parentheses that this value is alone in, if text is taken there and this is text already: then
    /// another variant's type was looked up.
    fn variant_with_fields(&self, value: &Value, field: &str, takes: &str) -> Option<&str> {
        let takes_fields = takes.starts_with("text") || takes.starts_with(FIELDS);
        let alone = value.path.strip_prefix(field) == Some(".0") && takes_fields;
        let variant = self.lines.get(field).filter(|_| alone && self.written(value.head).starts_with('"'))?;
        Some(self.written(variant.head))
    }

    fn syntax(&self, error: &SpannedError, field: &str, fields: &Fields) -> Refused {
        let at = self.cursor(error);
        let next = self.text[at.start..].chars().next();
        let rest = &self.text[at.start..];
        let word = &rest[..rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len()).min(32)];
        let found = match next {
            None => "the end of the file".to_owned(),
            Some('\n' | '\r') => "the end of the line".to_owned(),
            Some(_) if !word.is_empty() => format!("`{word}`"),
            Some(c) => format!("`{c}`"),
        };
        // What is open at the end of the text is the cause, wherever `ron` noticed it.
        if let (None, Some(open), true) = (next, self.lines.unclosed(), error.code != Error::UnclosedBlockComment) {
            let bracket = self.written(open);
            return self
                .refuse(open, field, format!("this `{bracket}` is never closed"))
                .help("or one that was opened in it took the closing bracket that was meant for this one");
        }
        // `ron` reads it as the beginning of an attribute, and stops behind it.
        let line = self.text[..at.start].rfind('\n').map_or(0, |end| end + 1);
        let hash =
            if next == Some('#') { Some(at.start) } else { self.text[line..at.start].rfind('#').map(|n| line + n) };
        if let Some(start) = hash.filter(|_| next == Some('#') || error.code == Error::ExpectedAttribute) {
            let at = Span { start, end: start + 1 };
            return self.refuse(at, field, "`#` begins no comment".to_owned()).help("comments begin with `//`");
        }
        let message = match &error.code {
            Error::ExpectedComma if next == Some('(') => {
                let message = format!("a comma is missing before {found}");
                return self.refuse(at, field, message).help("a name without fields is written without parentheses");
            }
            Error::ExpectedComma => format!("a comma is missing before {found}"),
            Error::ExpectedStructLikeEnd | Error::ExpectedOptionEnd => format!("`)` is missing before {found}"),
            Error::ExpectedArrayEnd => format!("`]` is missing before {found}"),
            Error::ExpectedMapEnd => format!("`}}` is missing before {found}"),
            Error::ExpectedMapColon => {
                let message = format!("a field is written `name: value`; `:` is missing before {found}");
                return match next {
                    Some('=') => self.refuse(at, field, message).help("write `:` in place of `=`"),
                    _ => self.refuse(at, field, message),
                };
            }
            Error::ExpectedStringEnd => "this text has no closing quote".to_owned(),
            Error::UnclosedBlockComment => {
                let span = self.lines.open_comment().unwrap_or(at);
                return self.refuse(span, field, "this comment is never closed by `*/`".to_owned());
            }
            Error::TrailingCharacters => format!("the machine ends before {found}; nothing may follow"),
            Error::ExpectedIdentifier if next == Some('"') => "names are written without quotes".to_owned(),
            Error::ExpectedIdentifier if next == Some(',') => {
                let message = format!("a name is missing before {found}");
                return self.refuse(at, field, message).help("one comma is enough");
            }
            Error::ExpectedIdentifier => format!("a name is missing before {found}"),
            Error::InvalidEscape(what) => {
                let message = format!("bad escape in text: {}", decapitalized(what));
                // `ron` stopped behind what it could not read.
                let start = self.text[..at.start].rfind('\\').unwrap_or(at.start);
                let at = Span { start, end: at.start };
                return self.refuse(at, field, message).help(r"write `\\` for one backslash");
            }
            Error::ExceededRecursionLimit => "this is nested too deeply".to_owned(),
            Error::ExpectedNamedStructLike(_) | Error::ExpectedStructLike => format!("`(` is missing before {found}"),
            code => decapitalized(&code.to_string()),
        };
        let refused = self.refuse(at, field, message);
        match fields.takes(field).filter(|_| field.is_empty()) {
            Some(_) if matches!(error.code, Error::ExpectedNamedStructLike(_)) => {
                refused.help("a machine file begins with `(` and ends with `)`")
            }
            _ => refused,
        }
    }
}

/// The path of a field, with and without the names of variants in it.
fn paths(path: &serde_path_to_error::Path) -> (String, String) {
    let (mut plain, mut full) = (String::new(), String::new());
    let push = |to: &mut String, name: &str| {
        if !to.is_empty() {
            to.push('.');
        }
        to.push_str(name);
    };
    for segment in path {
        match segment {
            Segment::Seq { index } => {
                plain.push_str(&format!("[{index}]"));
                full.push_str(&format!("[{index}]"));
            }
            Segment::Map { key } => {
                push(&mut plain, lines::cut(key));
                push(&mut full, lines::cut(key));
            }
            Segment::Enum { variant } => push(&mut full, variant),
            Segment::Unknown => {}
        }
    }
    (plain, full)
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('.').unwrap_or(("", path))
}

fn inside(field: &str) -> String {
    if field.is_empty() { String::new() } else { format!(" in `{field}`") }
}

fn name_before(field: &str) -> String {
    if field.is_empty() { String::new() } else { format!("`{field}`: ") }
}

fn is_top_level(name: &str) -> bool {
    Fields::of_machine().get(name).is_some()
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn decapitalized(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(char::to_lowercase);
    first.into_iter().flatten().chain(chars).collect()
}
