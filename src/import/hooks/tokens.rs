//! The tokens of a shell script, with variables in their places as far as they are known. Nothing that a shell would compute is
//! computed.

use std::collections::BTreeMap;

use super::values;

/// What stands between the words that a variable's value has.
pub const SPLIT: char = '\u{1}';

/// Longer than any word that is meant.
const MAX_WORD: usize = 4096;

/// What a script is made of.
pub enum Token {
    /// A word, with variables in their places.
    Word(String),
    /// The file that a command's output goes to.
    Output(String),
    /// `(`.
    Open,
    /// `)`.
    Close,
    /// `|`.
    Pipe,
    /// The end of a command.
    End,
    /// The end of the script.
    Over,
}

/// How a command is joined to the next one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Joined {
    /// The next one runs in any case.
    #[default]
    No,
    /// `&&`.
    And,
    /// `||`.
    Or,
}

/// Reads tokens.
pub struct Reader {
    chars: Vec<char>,
    at: usize,
    /// The line that it has reached, from 1.
    pub line: u32,
    /// How the command that has ended last is joined to the next one.
    pub joined: Joined,
    /// The word that ends a text in the script, from the next line on.
    heredoc: Option<String>,
}

impl Reader {
    /// Reads this script.
    pub fn new(text: &str) -> Self {
        Self { chars: text.chars().collect(), at: 0, line: 1, joined: Joined::No, heredoc: None }
    }

    /// Goes over a character, if it is the next.
    pub fn take(&mut self, c: char) -> bool {
        let is = self.peek() == Some(c);
        self.at += usize::from(is);
        is
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        if c == '\n' {
            self.line = self.line.saturating_add(1);
        }
        Some(c)
    }

    fn starts_with(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(offset, c)| self.chars.get(self.at + offset) == Some(&c))
    }

    /// The next token. `variables`: what is known of variables.
    pub fn token(&mut self, variables: &BTreeMap<String, String>) -> Token {
        self.joined = Joined::No;
        loop {
            match self.peek() {
                None => return Token::Over,
                Some('\\') if self.starts_with("\\\n") => {
                    self.next();
                    self.next();
                }
                Some('\n') => {
                    self.next();
                    if let Some(end) = self.heredoc.take() {
                        self.skip_lines(&end);
                    }
                    return Token::End;
                }
                Some(c) if c.is_whitespace() => drop(self.next()),
                Some('#') => {
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.at += 1;
                    }
                }
                Some(';') => {
                    self.next();
                    return Token::End;
                }
                Some('&') if self.starts_with("&>") => {
                    self.at += 1;
                }
                Some('&') => {
                    if self.starts_with("&&") {
                        self.joined = Joined::And;
                    }
                    self.next();
                    return Token::End;
                }
                Some('|') => {
                    self.next();
                    if self.peek() == Some('|') {
                        self.next();
                        self.joined = Joined::Or;
                        return Token::End;
                    }
                    return Token::Pipe;
                }
                Some('(') if self.starts_with("((") => {
                    let start = self.at;
                    self.balanced('(', ')');
                    return Token::Word(self.chars[start..self.at].iter().take(MAX_WORD).collect());
                }
                Some('(') => {
                    self.next();
                    return Token::Open;
                }
                Some(')') => {
                    self.next();
                    return Token::Close;
                }
                Some('<') => self.input(variables),
                Some('>') => {
                    if let Some(token) = self.output(variables) {
                        return token;
                    }
                }
                Some('1' | '2') if self.chars.get(self.at + 1) == Some(&'>') => {
                    let errors = self.peek() == Some('2');
                    self.at += 1;
                    let token = self.output(variables);
                    if let Some(token) = token.filter(|_| !errors) {
                        return token;
                    }
                }
                Some(first) => {
                    let word = self.word(variables);
                    // What is nothing is no word, unless it is in quotes.
                    if !(word.is_empty() && matches!(first, '$' | '`')) {
                        return Token::Word(word);
                    }
                }
            }
        }
    }

    /// `<`, `<<WORD`, `<<<`: what a command reads.
    fn input(&mut self, variables: &BTreeMap<String, String>) {
        let mut count = 0;
        while self.peek() == Some('<') {
            self.at += 1;
            count += 1;
        }
        if self.peek() == Some('-') {
            self.at += 1;
        }
        self.blanks();
        if self.peek() == Some('(') {
            return;
        }
        let word = self.word(variables);
        if count == 2 {
            self.heredoc = Some(word);
        }
    }

    /// `>`, `>>`, `>&2`: where the output goes.
    fn output(&mut self, variables: &BTreeMap<String, String>) -> Option<Token> {
        while matches!(self.peek(), Some('>' | '|')) {
            self.at += 1;
        }
        let duplicate = self.peek() == Some('&');
        if duplicate {
            self.at += 1;
        }
        self.blanks();
        if self.peek() == Some('(') {
            return None;
        }
        let word = self.word(variables);
        (!duplicate && word != "/dev/null" && !word.is_empty()).then_some(Token::Output(word))
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t')) {
            self.at += 1;
        }
    }

    /// Skips a text in the script, up to a line with this word.
    fn skip_lines(&mut self, end: &str) {
        while self.at < self.chars.len() {
            let start = self.at;
            while self.peek().is_some_and(|c| c != '\n') {
                self.at += 1;
            }
            let line: String = self.chars[start..self.at].iter().collect();
            if line.trim() == end {
                return;
            }
            self.next();
        }
    }

    fn word(&mut self, variables: &BTreeMap<String, String>) -> String {
        let mut word = String::new();
        while let Some(c) = self.peek() {
            match c {
                '\'' => {
                    self.next();
                    while let Some(c) = self.next().filter(|c| *c != '\'') {
                        push(&mut word, c);
                    }
                }
                '"' => {
                    self.next();
                    while let Some(c) = self.peek().filter(|c| *c != '"') {
                        match c {
                            '$' | '`' => self.expand(&mut word, variables, true),
                            '\\' => {
                                self.next();
                                match self.next() {
                                    Some('\n') | None => {}
                                    Some(c @ ('$' | '`' | '"' | '\\')) => push(&mut word, c),
                                    Some(c) => ['\\', c].into_iter().for_each(|c| push(&mut word, c)),
                                }
                            }
                            _ => {
                                self.next();
                                push(&mut word, c);
                            }
                        }
                    }
                    self.next();
                }
                '\\' => {
                    self.next();
                    self.next().filter(|c| *c != '\n').into_iter().for_each(|c| push(&mut word, c));
                }
                '$' | '`' => self.expand(&mut word, variables, false),
                c if c.is_whitespace() || ";&|()<>".contains(c) => break,
                _ => {
                    self.next();
                    push(&mut word, c);
                }
            }
        }
        word
    }

    /// A variable's value; what else a shell would compute stays as it is written.
    fn expand(&mut self, word: &mut String, variables: &BTreeMap<String, String>, quoted: bool) {
        let start = self.at;
        let first = self.next();
        let second = self.peek();
        match (first, second) {
            (Some('`'), _) => while self.next().is_some_and(|c| c != '`') {},
            (_, Some('(')) => self.balanced('(', ')'),
            (_, Some('{')) => self.balanced('{', '}'),
            _ => {
                while self.peek().is_some_and(|c| c.is_ascii_alphanumeric() || c == '_') {
                    self.at += 1;
                }
            }
        }
        let written: String = self.chars[start..self.at.min(self.chars.len())].iter().collect();
        match values::of(&written, variables).as_deref() {
            // What a shell would compute may have blanks of its own.
            Some(value) if !quoted && !value.contains(['`', '(']) => {
                value.chars().for_each(|c| push(word, if c.is_whitespace() { SPLIT } else { c }));
            }
            Some(value) => value.chars().for_each(|c| push(word, c)),
            None => written.chars().for_each(|c| push(word, c)),
        }
    }

    fn balanced(&mut self, open: char, close: char) {
        let mut depth = 0_usize;
        while let Some(c) = self.next() {
            if c == open {
                depth += 1;
            } else if c == close {
                depth -= 1;
                if depth == 0 {
                    return;
                }
            }
        }
    }
}

/// Adds a character, unless the word is longer than any that is meant.
fn push(word: &mut String, c: char) {
    if word.len() < MAX_WORD {
        word.push(c);
    }
}
