//! `base`: a machine file that says only what differs from another.
//!
//! What ron reads is one text, put together from both files: the file's own, and behind what it says what only the base says.
//! So a value is read by one reader, wherever it was written, and an error names the file that has it.

use std::path::{Path, PathBuf};

use super::lines::{Lines, key_name};
use super::missing::meant;
use super::pieces::Pieces;
use super::refused::Refused;
use super::tokens::{Kind, Span, Token, Tokens};

/// The field that names the base.
const FIELD: &str = "base";
/// The word that stands for the base's entries in a list.
const ENTRIES: &str = "Base";
/// How many files may stand on one another.
const MOST: usize = 4;

/// What a file and its base say together.
pub(super) struct Layered {
    /// What is read.
    pub pieces: Pieces,
    /// The name of the machine, which is that of the base unless the file says another.
    pub name: String,
}

/// A base that was read.
pub(super) struct Base {
    /// What it says, with its own base.
    pub pieces: Pieces,
    /// The machine's name there.
    pub name: String,
    /// Whether it says the same in another folder.
    pub stays: bool,
}

/// What finds the text of a machine file by its path.
pub type ReadText<'a> = &'a dyn Fn(&Path) -> Result<String, Refused>;
/// What reads the text of a base.
pub(super) type ReadBase<'a> = &'a dyn Fn(&Path, &str) -> Result<Base, Refused>;

/// The file on its base; `None` if it has none. `above`: how many files stand on this one.
pub(super) fn layered(
    path: &Path,
    text: &str,
    lines: &Lines,
    (read, parse): (ReadText, ReadBase),
    above: usize,
) -> Result<Option<Layered>, Refused> {
    let Some(value) = lines.get(FIELD) else { return Ok(None) };
    let at = |message: String| Refused::at(path, text, value.head, message).field(FIELD);
    let own = Pieces::of(path, text);
    // ron says of what is no text, or of brackets that are not closed, what is wrong with it.
    let name = ron::from_str::<String>(&text[value.head.start..value.head.end]).ok();
    if name.is_none() && &text[value.head.start..value.head.end] == "Some" {
        return Err(at("`base` cannot be `Some`".to_owned()).allowed("text in double quotes"));
    }
    let (Some(name), Some(top)) = (name, Struct::of_file(text)) else { return Ok(None) };
    if above + 1 >= MOST {
        let refused = at(format!("more than {MOST} files stand on one another"));
        return Err(refused.help("does a file lead back to itself? `base` names a file that says more, not less"));
    }
    let below = folder(path).join(&name);
    let base_text = read(&below).map_err(|error| {
        // What is wrong at a place in the base is said of that place.
        if error.place.is_some() {
            return error;
        }
        const NAME_ONE: &str =
            "name the machine file that this one is a variation of; a relative path starts from its folder";
        let help = match error.help {
            _ if name.starts_with('~') => "`~` is not your home folder here: write the whole path".to_owned(),
            _ if matches!(below.try_exists(), Ok(false)) => meant(&below).unwrap_or_else(|| NAME_ONE.to_owned()),
            help => help.unwrap_or_else(|| NAME_ONE.to_owned()),
        };
        let refused = at(format!("{} {}", below.display(), error.message)).help(help);
        error.allowed.map_or(refused.clone(), |allowed| refused.allowed(allowed))
    })?;
    let Base { pieces: base, name, stays } = parse(&below, &base_text)?;
    if !stays && !same_folder(path, &below) {
        let message =
            format!("the base {} is in another folder, and has paths that start from its own", below.display());
        return Err(at(message).help("write absolute paths in the base, or put both files into one folder"));
    }
    let Some(base_top) = Struct::of_file(&base.text) else { return Ok(None) };
    let files = own.files.iter().chain(&base.files).cloned().collect();
    let mut merged = Merge { own: &own, base: &base, whole: Pieces::from(files) };
    merged.own(Span { start: 0, end: top.open.end });
    merged.fields(&top, &base_top)?;
    merged.own(Span { start: top.close.start, end: text.len() });
    Ok(Some(Layered { pieces: merged.whole, name }))
}

/// The folder that the file is in.
fn folder(file: &Path) -> PathBuf {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    file.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned)
}

/// Whether both files are in one folder, which may have several names.
fn same_folder(one: &Path, other: &Path) -> bool {
    let real = |file: &Path| {
        let folder = folder(file);
        folder.canonicalize().unwrap_or(folder)
    };
    real(one) == real(other)
}

/// Fields in parentheses.
struct Struct<'a> {
    open: Span,
    close: Span,
    fields: Vec<Field<'a>>,
}

/// A field, from its name to the end of its value.
struct Field<'a> {
    name: &'a str,
    all: Span,
    value: Span,
}

impl<'a> Struct<'a> {
    /// A whole file's, which may begin with the type's name.
    fn of_file(text: &'a str) -> Option<Self> {
        let mut tokens = Tokens::new(text);
        if tokens.peek().is_some_and(|token| token.kind == Kind::Name) {
            tokens.next();
        }
        Self::of(text, tokens)
    }

    /// Those that the text begins with.
    fn first(text: &'a str) -> Option<Self> {
        Self::of(text, Tokens::new(text))
    }

    /// `None` if the brackets do not close, or there are no fields with names.
    fn of(text: &'a str, tokens: Tokens<'a>) -> Option<Self> {
        let open = tokens.peek().filter(|token| token.kind == Kind::Open('('))?;
        let (entries, close) = entries(tokens)?;
        let field = |tokens: &Vec<Token>| {
            let [name, colon, value, ..] = tokens.as_slice() else { return None };
            let last = tokens.last()?;
            (name.kind == Kind::Name && colon.kind == Kind::Colon).then(|| Field {
                name: key_name(&text[name.span.start..name.span.end]),
                all: Span { start: name.span.start, end: last.span.end },
                value: Span { start: value.span.start, end: last.span.end },
            })
        };
        let fields = entries.iter().map(field).collect::<Option<Vec<_>>>()?;
        Some(Self { open: open.span, close, fields })
    }

    fn get(&self, name: &str) -> Option<&Field<'a>> {
        self.fields.iter().find(|field| field.name == name)
    }
}

/// The entries of the bracket that the tokens begin with, and its end. `None` if it is not closed.
fn entries(mut tokens: Tokens) -> Option<(Vec<Vec<Token>>, Span)> {
    tokens.next()?;
    let (mut entries, mut entry, mut depth) = (Vec::new(), Vec::new(), 0_usize);
    for token in tokens {
        match token.kind {
            Kind::Close if depth == 0 => {
                entries.extend(Some(entry).filter(|entry| !entry.is_empty()));
                return Some((entries, token.span));
            }
            Kind::Comma if depth == 0 => {
                entries.extend(Some(std::mem::take(&mut entry)).filter(|entry| !entry.is_empty()));
                continue;
            }
            Kind::Open(_) => depth += 1,
            Kind::Close => depth -= 1,
            _ => {}
        }
        entry.push(token);
    }
    None
}

/// The entries of a list, each as its place in the text; `None` if it is no list.
fn list(text: &str, value: Span) -> Option<Vec<Span>> {
    let tokens = Tokens::new(&text[value.start..value.end]);
    tokens.peek().filter(|token| token.kind == Kind::Open('['))?;
    let (entries, _) = entries(tokens)?;
    let place = |entry: &Vec<Token>| {
        let (first, last) = (entry.first()?, entry.last()?);
        Some(Span { start: first.span.start + value.start, end: last.span.end + value.start })
    };
    entries.iter().map(place).collect()
}

struct Merge<'a> {
    own: &'a Pieces,
    base: &'a Pieces,
    whole: Pieces,
}

impl Merge<'_> {
    fn own(&mut self, part: Span) {
        self.whole.take(self.own, part, 0);
    }

    fn base(&mut self, part: Span) {
        self.whole.take(self.base, part, self.own.files.len());
    }

    /// What is between the brackets: the file's own fields, then those that only the base has.
    fn fields(&mut self, own: &Struct, base: &Struct) -> Result<(), Refused> {
        for field in &own.fields {
            self.own(Span { start: field.all.start, end: field.value.start });
            self.value(field.value, base.get(field.name).map(|field| field.value))?;
            self.whole.glue(",\n");
        }
        for field in base.fields.iter().filter(|field| own.get(field.name).is_none()) {
            self.base(field.all);
            self.whole.glue(",\n");
        }
        Ok(())
    }

    /// A value of the file's own, on that of the base.
    fn value(&mut self, own: Span, base: Option<Span>) -> Result<(), Refused> {
        let (own_text, base_text) = (self.own.text.as_str(), self.base.text.as_str());
        let parts = base.and_then(|base| {
            let own_fields = Struct::first(&own_text[own.start..own.end])?;
            Some((own_fields.at(own.start), Struct::first(&base_text[base.start..base.end])?.at(base.start)))
        });
        if let Some((own_fields, base_fields)) = parts {
            self.whole.glue("(");
            self.fields(&own_fields, &base_fields)?;
            self.whole.glue(")");
            return Ok(());
        }
        let stands_for_entries = |entry: &Span| &own_text[entry.start..entry.end] == ENTRIES;
        let Some(entries) = list(own_text, own).filter(|entries| entries.iter().any(stands_for_entries)) else {
            self.own(own);
            return Ok(());
        };
        let (path, text) = &self.own.files[0];
        if let Some(again) = entries.iter().filter(|entry| stands_for_entries(entry)).nth(1) {
            let refused = Refused::at(path, text, *again, "`Base` is given twice in this list");
            return Err(refused.help("keep one of the two"));
        }
        self.own(Span { start: own.start, end: own.start + 1 });
        for entry in entries {
            if !stands_for_entries(&entry) {
                self.own(entry);
                self.whole.glue(",\n");
                continue;
            }
            let of_base = base.map_or(Some(Vec::new()), |base| list(base_text, base)).ok_or_else(|| {
                Refused::at(
                    path,
                    text,
                    entry,
                    "`Base` stands for the entries of the base's list, and the base has none here",
                )
                .help("write the entries themselves")
            })?;
            for entry in of_base {
                self.base(entry);
                self.whole.glue(",\n");
            }
        }
        self.whole.glue("]");
        Ok(())
    }
}

impl Struct<'_> {
    /// The same, of a text that this one's begins so many bytes behind the beginning of.
    fn at(mut self, start: usize) -> Self {
        let moved = |span: &mut Span| {
            span.start += start;
            span.end += start;
        };
        moved(&mut self.open);
        moved(&mut self.close);
        for field in &mut self.fields {
            moved(&mut field.all);
            moved(&mut field.value);
        }
        self
    }
}

#[cfg(test)]
mod tests;
