//! Cuts RON text into tokens, and keeps where each one is.
//!
//! `ron` says where an *error* is, but never where a *value* is, and both the plan (`--explain`) and validation need
//! that. This is not a second parser: it accepts any text, never fails, and only has to cut valid text as `ron` does.

/// A range of bytes in the text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `(`, `[` or `{`.
    Open(char),
    /// `)`, `]` or `}`.
    Close,
    /// `:`.
    Colon,
    /// `,`.
    Comma,
    /// A field's, struct's or variant's name, also raw (`r#name`).
    Name,
    /// A string in quotes, also raw.
    Text,
    /// Numbers, characters, and all that is no RON.
    Other,
}

/// One token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    /// What it is.
    pub kind: Kind,
    /// Where it is.
    pub span: Span,
}

/// The tokens of a text, without white space and comments.
#[derive(Debug, Clone)]
pub(super) struct Tokens<'a> {
    text: &'a str,
    at: usize,
    /// A block comment that is never closed.
    pub open_comment: Option<Span>,
}

impl<'a> Tokens<'a> {
    /// Starts at the beginning, behind the attributes (`#![enable(…)]`) that a RON file may begin with.
    pub fn new(text: &'a str) -> Self {
        let mut tokens = Self { text, at: 0, open_comment: None };
        loop {
            let before = tokens.at;
            match tokens.next() {
                Some(token) if text[token.span.start..].starts_with("#!") => {
                    while tokens.next().is_some_and(|token| &text[token.span.start..token.span.end] != "]") {}
                }
                _ => {
                    tokens.at = before;
                    return tokens;
                }
            }
        }
    }

    /// The next token, left in place.
    pub fn peek(&self) -> Option<Token> {
        self.clone().next()
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// How many bytes of the rest are of this class.
    fn run(&self, from: usize, of: fn(char) -> bool) -> usize {
        let rest = &self.rest()[from..];
        from + rest.find(|c| !of(c)).unwrap_or(rest.len())
    }

    fn skip_blank(&mut self) {
        loop {
            self.at += self.run(0, is_blank);
            let rest = self.rest();
            if rest.starts_with("//") {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if rest.starts_with("/*") {
                match block_comment(rest) {
                    Some(len) => self.at += len,
                    None => {
                        self.open_comment = Some(Span { start: self.at, end: self.at + 2 });
                        self.at = self.text.len();
                    }
                }
            } else {
                return;
            }
        }
    }
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        self.skip_blank();
        let rest = self.rest();
        let first = rest.chars().next()?;
        let (kind, len) = match first {
            '(' | '[' | '{' => (Kind::Open(first), 1),
            ')' | ']' | '}' => (Kind::Close, 1),
            ':' => (Kind::Colon, 1),
            ',' => (Kind::Comma, 1),
            '"' => (Kind::Text, quoted(rest, 1)),
            '\'' => (Kind::Other, character(rest)),
            'b' if rest.starts_with("b'") => (Kind::Other, 1 + character(&rest[1..])),
            'b' if rest.starts_with("b\"") => (Kind::Text, quoted(rest, 2)),
            'b' if rest.starts_with("br\"") || rest.starts_with("br#") => (Kind::Text, raw(rest, 2)),
            'r' if rest.starts_with("r\"") || rest.starts_with("r#\"") || rest.starts_with("r##") => {
                (Kind::Text, raw(rest, 1))
            }
            'r' if rest.starts_with("r#") => (Kind::Name, self.run(2, |c| is_name(c) || matches!(c, '.' | '+' | '-'))),
            _ if first == '_' || first.is_alphabetic() => (Kind::Name, self.run(0, is_name)),
            _ if first.is_ascii_digit() || matches!(first, '+' | '-' | '.') => {
                (Kind::Other, self.run(0, |c| is_name(c) || matches!(c, '.' | '+' | '-')))
            }
            _ => (Kind::Other, first.len_utf8()),
        };
        let start = self.at;
        self.at += len;
        Some(Token { kind, span: Span { start, end: self.at } })
    }
}

fn is_name(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// RON's white space: Unicode's `Pattern_White_Space`.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r' | '\u{85}' | '\u{200E}' | '\u{200F}' | '\u{2028}' | '\u{2029}')
}

/// Length of the (nested) block comment that the text starts with; nothing when it is not closed.
fn block_comment(text: &str) -> Option<usize> {
    let (mut at, mut level) = (0, 0usize);
    while let Some(found) = text[at..].find(['/', '*']) {
        at += found;
        let rest = &text[at..];
        if rest.starts_with("/*") {
            level += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            level -= 1;
            at += 2;
            if level == 0 {
                return Some(at);
            }
        } else {
            at += 1;
        }
    }
    None
}

/// Length of the quoted string whose contents start at byte `from`; to the end of the text when it is not closed.
fn quoted(text: &str, from: usize) -> usize {
    let mut at = from;
    while let Some(found) = text[at..].find(['"', '\\']) {
        at += found;
        if text[at..].starts_with('"') {
            return at + 1;
        }
        at += 1;
        at += text[at..].chars().next().map_or(0, char::len_utf8);
    }
    text.len()
}

/// Length of the raw string whose `#`s start at byte `from`.
fn raw(text: &str, from: usize) -> usize {
    let hashes = text[from..].find(|c| c != '#').unwrap_or(text.len() - from);
    let open = from + hashes;
    if !text[open..].starts_with('"') {
        return open.max(1);
    }
    let close = format!("\"{}", "#".repeat(hashes));
    text[open + 1..].find(&close).map_or(text.len(), |found| open + 1 + found + close.len())
}

/// Length of the character literal that the text starts with; 1 if there is none.
fn character(text: &str) -> usize {
    let mut rest = text.char_indices().skip(1);
    let end = match rest.next() {
        // An escape is closed by the next quote that is not the escaped one: `'\''`, `'\u{41}'`.
        Some((_, '\\')) => rest.nth(1).and_then(|(at, _)| text[at..].find('\'').map(|found| at + found)),
        Some(_) => rest.next().filter(|(_, c)| *c == '\'').map(|(at, _)| at),
        None => None,
    };
    end.map_or(1, |end| end + 1)
}
