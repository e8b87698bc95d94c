//! RON as a tree, of which fields can be taken away.

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    /// A number, a text in quotes, or a word.
    Plain(String),
    /// Fields in parentheses, with a variant's name or without.
    Fields(String, Vec<(String, Tree)>),
    /// Values in parentheses, with a variant's name or without.
    Values(String, Vec<Tree>),
    /// Values in brackets.
    List(Vec<Tree>),
    /// Keys and values in braces.
    Map(Vec<(String, Tree)>),
}

/// What is left of a text.
struct Reader<'a>(&'a str);

impl Tree {
    /// Reads what `ron` wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let mut reader = Reader(text);
        let tree = reader.value()?;
        reader.skip();
        reader.0.is_empty().then_some(tree)
    }

    /// The word or text of a plain value.
    pub fn head(&self) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::List(values) if values.is_empty() => "None",
            _ => "",
        }
    }

    /// The paths of all fields, those within others before them.
    pub fn fields(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect("", &mut paths);
        paths
    }

    fn collect(&self, at: &str, paths: &mut Vec<String>) {
        match self {
            Self::Fields(_, fields) => {
                for (name, value) in fields {
                    let path = join(at, name);
                    value.collect(&path, paths);
                    paths.push(path);
                }
            }
            Self::Values(_, values) | Self::List(values) => {
                values.iter().enumerate().for_each(|(index, value)| value.collect(&format!("{at}[{index}]"), paths));
            }
            Self::Plain(_) | Self::Map(_) => {}
        }
    }

    /// Takes the field of this path away.
    pub fn remove(&mut self, path: &str) -> bool {
        let mut removed = false;
        self.remove_where(&mut |at, _| {
            let is = at == path;
            removed |= is;
            is
        });
        removed
    }

    /// Takes all fields away of which this holds.
    pub fn remove_where(&mut self, gone: &mut dyn FnMut(&str, &Self) -> bool) {
        self.without("", gone);
    }

    fn without(&mut self, at: &str, gone: &mut dyn FnMut(&str, &Self) -> bool) {
        match self {
            Self::Fields(_, fields) => {
                fields.iter_mut().for_each(|(name, value)| value.without(&join(at, name), gone));
                fields.retain(|(name, value)| !gone(&join(at, name), value));
            }
            Self::Values(_, values) | Self::List(values) => {
                values.iter_mut().enumerate().for_each(|(index, value)| value.without(&format!("{at}[{index}]"), gone));
            }
            Self::Plain(_) | Self::Map(_) => {}
        }
    }

    /// Writes entries in their short forms, and addresses without domain 0.
    pub fn shorten(&mut self) {
        let Self::Fields(_, fields) = self else { return };
        for (name, value) in fields {
            // A list or a word, which serde writes as a text.
            if name == "input"
                && let Self::Plain(word) = value
            {
                *word = word.trim_matches('"').to_owned();
            }
            let Self::List(entries) = value else {
                if name == "hooks"
                    && let Self::Fields(_, stages) = value
                {
                    for (_, stage) in stages {
                        if let Self::List(hooks) = stage {
                            hooks.iter_mut().for_each(|hook| hook.alone(&["argv"]));
                        }
                    }
                }
                continue;
            };
            for entry in entries {
                match name.as_str() {
                    "pci" => {
                        if let Self::Fields(_, parts) = entry
                            && let Some((_, Self::Plain(address))) =
                                parts.iter_mut().find(|(part, _)| part == "address")
                        {
                            *address = address.replacen("\"0000:", "\"", 1);
                        }
                        entry.alone(&["address"]);
                    }
                    "usb" => entry.alone(&["id", "port"]),
                    _ => {}
                }
            }
        }
    }

    /// The value of its only field in its place, if it has one of these names.
    fn alone(&mut self, names: &[&str]) {
        if let Self::Fields(_, parts) = self
            && let [(name, value)] = &parts[..]
            && names.contains(&name.as_str())
        {
            *self = value.clone();
        }
    }
}

fn join(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}

impl Reader<'_> {
    fn skip(&mut self) {
        self.0 = self.0.trim_start();
    }

    fn take(&mut self, c: char) -> bool {
        self.skip();
        match self.0.strip_prefix(c) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self) -> String {
        self.skip();
        // `ron` writes words of its own so.
        self.0 = self.0.strip_prefix("r#").unwrap_or(self.0);
        let end = self.0.find(|c: char| !(c.is_alphanumeric() || "_+-.".contains(c))).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        word.to_owned()
    }

    fn text(&mut self) -> Option<String> {
        let mut escaped = false;
        for (at, c) in self.0.char_indices().skip(1) {
            match c {
                '"' if !escaped => {
                    let (text, rest) = self.0.split_at(at + 1);
                    self.0 = rest;
                    return Some(text.to_owned());
                }
                _ => escaped = c == '\\' && !escaped,
            }
        }
        None
    }

    fn value(&mut self) -> Option<Tree> {
        self.skip();
        match self.0.chars().next()? {
            '"' => self.text().map(Tree::Plain),
            '[' => {
                self.take('[');
                Some(Tree::List(self.values(']')?))
            }
            '{' => {
                self.take('{');
                let mut members = Vec::new();
                while !self.take('}') {
                    let Tree::Plain(key) = self.value()? else { return None };
                    self.take(':').then_some(())?;
                    members.push((key, self.value()?));
                    self.take(',');
                }
                Some(Tree::Map(members))
            }
            _ => {
                let name = self.word();
                if !self.take('(') {
                    return (!name.is_empty()).then_some(Tree::Plain(name));
                }
                self.inside(name)
            }
        }
    }

    /// What is in parentheses: fields if a name and a colon come first.
    fn inside(&mut self, name: String) -> Option<Tree> {
        let rest = self.0;
        let first = self.word();
        let named = !first.is_empty() && self.take(':');
        self.0 = rest;
        if !named {
            return Some(Tree::Values(name, self.values(')')?));
        }
        let mut fields = Vec::new();
        while !self.take(')') {
            let field = self.word();
            self.take(':').then_some(())?;
            fields.push((field, self.value()?));
            self.take(',');
        }
        Some(Tree::Fields(name, fields))
    }

    fn values(&mut self, end: char) -> Option<Vec<Tree>> {
        let mut values = Vec::new();
        while !self.take(end) {
            values.push(self.value()?);
            self.take(',');
        }
        Some(values)
    }
}
