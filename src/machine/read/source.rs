//! Reading a machine file.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use ron::error::SpannedError;
use ron::extensions::Extensions;

use super::base::{Base, Layered, ReadText, layered};
use super::codes::is_of_a_value;
use super::explain::Explain;
use super::lines::Lines;
use super::missing::meant;
use super::pieces::Pieces;
use super::refused::{MOST, Refused};
use super::tokens::Span;
use super::validate;
use super::words::Completed;
use crate::machine::file::Machine;

/// A machine file that was read and found valid.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// What it says. Paths in it are absolute, and the name is set.
    pub machine: Machine,
    /// Where each value was written.
    pub lines: Lines,
    /// The file, as it was named.
    pub path: PathBuf,
    /// Its text, and what it was put together with.
    pub(super) pieces: Pieces,
    /// Whether it says the same in another folder: it has no relative paths, except that of its base.
    pub(super) stays: bool,
}

impl Source {
    fn of(machine: Machine, mut lines: Lines, pieces: Pieces, stays: bool) -> Self {
        lines.place_in(&pieces);
        let path = pieces.files.first().map(|(path, _)| path.clone()).unwrap_or_default();
        Self { machine, lines, path, pieces, stays }
    }
}

/// A machine file is a page or two; this keeps a wrong file (a disk image) from being read.
const MAX_FILE: u64 = 1 << 20;

/// Reads and validates a machine file. Nothing is looked up that the file names: that is the plan's work.
pub fn read(path: &Path) -> Result<Source, Refused> {
    // The plan that a run keeps is JSON, and names the file.
    if std::path::absolute(path).is_ok_and(|path| path.to_str().is_none()) {
        return Err(Refused::file(path, "has a path that is not UTF-8").help("rename the file, or the folder"));
    }
    parse(path, &text(path)?)
}

/// The text of a machine file.
pub fn text(path: &Path) -> Result<String, Refused> {
    let cannot = |error: std::io::Error| {
        let refused = Refused::file(path, format!("cannot be read: {error}"));
        match error.kind() {
            std::io::ErrorKind::NotFound => {
                refused.help(meant(path).unwrap_or_else(|| "name the machine file, such as `win11.ron`".to_owned()))
            }
            std::io::ErrorKind::PermissionDenied => refused.help(match std::fs::metadata(path) {
                Ok(file) => format!(
                    "it belongs to {}, with mode {:o}: start with `sudo`, or make it yours (`chown`)",
                    if file.uid() == 0 { "root".to_owned() } else { format!("the account {}", file.uid()) },
                    file.mode() & 0o7777
                ),
                Err(_) => "its folder keeps you out: start as the folder's owner, or with `sudo`".to_owned(),
            }),
            _ => refused,
        }
    };
    // Asked before it is opened: opening a FIFO would wait for a writer.
    let kind = std::fs::metadata(path).map_err(cannot)?.file_type();
    if !kind.is_file() {
        let what = if kind.is_dir() { "is a directory" } else { "is not a regular file" };
        return Err(Refused::file(path, format!("{what}, not a machine file")));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes)).map_err(cannot)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Refused::file(path, "is too large for a machine file").allowed("at most 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes());
        let what = "this is not UTF-8, so the file is not text";
        Refused::at(path, &text, Span { start: valid, end: valid }, what).help("save the file as UTF-8")
    })
}

/// Reads and validates the text of a machine file. Relative paths in it start from the folder that `path` is in.
pub fn parse(path: &Path, text: &str) -> Result<Source, Refused> {
    parse_with(path, text, &self::text)
}

/// The same, with bases whose text `read` finds.
pub fn parse_with(path: &Path, text: &str, read: ReadText) -> Result<Source, Refused> {
    parse_above(path, text, read, 0)
}

/// The same, of a file on which so many others stand.
fn parse_above(path: &Path, text: &str, read: ReadText, above: usize) -> Result<Source, Refused> {
    // Some editors begin a file with a byte order mark, which RON does not know.
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    let lines = find_lines(path, text)?;
    let parse_base = |path: &Path, text: &str| {
        let Source { machine, pieces, stays, .. } = parse_above(path, text, read, above + 1)?;
        Ok(Base { pieces, name: machine.name, stays })
    };
    let Some(Layered { pieces, name }) = layered(path, text, &lines, (read, &parse_base), above)? else {
        let (machine, stays) = valid(path, text, &lines, None)?;
        return Ok(Source::of(machine, lines, Pieces::of(path, text), stays));
    };
    let whole = || {
        let lines = find_lines(path, &pieces.text)?;
        let (machine, stays) = valid(path, &pieces.text, &lines, Some(name))?;
        Ok((machine, lines, stays))
    };
    let (machine, lines, stays) = whole().map_err(|refused| pieces.moved(refused))?;
    Ok(Source::of(machine, lines, pieces, stays))
}

fn find_lines(path: &Path, text: &str) -> Result<Lines, Refused> {
    Lines::find(text).map_err(|excess| Refused::at(path, text, excess.span, excess.what).allowed(excess.allowed))
}

/// The machine, and whether it would be the same in another folder. `name`: its name, if it says none.
fn valid(path: &Path, text: &str, lines: &Lines, name: Option<String>) -> Result<(Machine, bool), Refused> {
    let mut machine = parse_machine(path, text, lines)?;
    if let Some(name) = name.filter(|_| machine.name.is_empty()) {
        machine.name = name;
    }
    let written = machine.clone();
    validate::complete(&mut machine, path);
    validate::check(&machine, path, text, lines)?;
    let (name, base) = (machine.name.clone(), machine.base.clone());
    let stays = Machine { name, base, ..written } == machine;
    Ok((machine, stays))
}

/// The machine that the text says, or all that keeps it from being read: what is wrong with one value need not hide what is
/// wrong with the next.
fn parse_machine(path: &Path, text: &str, lines: &Lines) -> Result<Machine, Refused> {
    let first = match deserialized(path, text, text, lines) {
        Ok(machine) => return Ok(machine),
        Err(Unread { refused, .. }) if refused.place.is_none() => return Err(*refused),
        Err(unread) => unread,
    };
    let (mut also, mut without): (Vec<Refused>, _) = (Vec::new(), text.to_owned());
    let mut at = first.value;
    while let Some(entry) = at.filter(|_| also.len() + 1 < MOST) {
        blank(&mut without, entry);
        let Ok(lines) = Lines::find(&without) else { break };
        match deserialized(path, text, &without, &lines) {
            // Another kind of error may be the fault of what was taken out.
            Err(Unread { mut refused, value: Some(value) }) => {
                // A list of fields is told once.
                if also.iter().chain([&*first.refused]).any(|told| told.allowed == refused.allowed) {
                    refused.allowed = None;
                }
                also.push(*refused);
                at = Some(value);
            }
            _ => break,
        }
    }
    also.sort_by_key(|refused| (refused.line(), refused.column()));
    Err(Refused { also, ..*first.refused })
}

/// Puts blanks in place of an entry and the comma behind it, so that all else stays where it is.
fn blank(text: &mut String, entry: Span) {
    let rest = &text[entry.end..];
    let behind = rest.len() - rest.trim_start().len();
    let end = if rest[behind..].starts_with(',') { entry.end + behind + 1 } else { entry.end };
    let blanks: String = text[entry.start..end].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect();
    text.replace_range(entry.start..end, &blanks);
}

/// Why a machine could not be read.
struct Unread {
    refused: Box<Refused>,
    /// The entry that is wrong in itself, if the rest can be read without it.
    value: Option<Span>,
}

/// The machine that `read` says: `text`, or what is left of it when entries were blanked out.
fn deserialized(path: &Path, text: &str, read: &str, lines: &Lines) -> Result<Machine, Unread> {
    // Not UNWRAP_NEWTYPES: no type of the file needs it.
    let options =
        ron::Options::default().with_default_extension(Extensions::IMPLICIT_SOME | Extensions::UNWRAP_VARIANT_NEWTYPES);
    let completed = Completed::new(read, lines);
    let explain = Explain { path, text, completed: &completed, lines };
    let of_text = |error: &SpannedError| Unread { refused: Box::new(explain.error(error, None)), value: None };
    let mut reader =
        ron::Deserializer::from_str_with_options(&completed.text, &options).map_err(|error| of_text(&error))?;
    let machine = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let spanned = reader.span_error(error.inner().clone());
        let refused = explain.error(&spanned, Some(error.path()));
        let field = refused.place.as_ref().and_then(|place| place.field.as_deref());
        let value = field.filter(|_| is_of_a_value(&spanned.code)).and_then(|field| lines.entry(read, field));
        Unread { refused: Box::new(refused), value }
    })?;
    reader.end().map_err(|error| of_text(&reader.span_error(error)))?;
    Ok(machine)
}
