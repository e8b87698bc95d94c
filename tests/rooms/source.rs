//! The modules of `src/`, read as tokens, and which files each file imports from.
//!
//! An import is a `use`, or a path in the code (also in a macro's arguments), that leads to another file of `src/`. A name
//! that a `mod.rs` re-exports counts for the file that has it. What only tests see (`#[cfg(test)]`) does not count.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A module's path below the crate: `["host", "pci"]`.
type Names = Vec<String>;

/// What one module says of itself and of others.
#[derive(Debug, Default)]
struct Module {
    /// Below `src/`.
    file: PathBuf,
    /// Its modules, those for tests left out.
    children: BTreeSet<String>,
    /// The names of its own items.
    items: BTreeSet<String>,
    /// Whether it has anything besides `mod` and `use`.
    has_code: bool,
    /// Its `use` declarations.
    uses: Vec<Use>,
    /// All paths in its code.
    paths: BTreeSet<Names>,
}

/// One name that a `use` declaration brings.
#[derive(Debug, Clone)]
struct Use {
    /// `pub use`, `pub(crate) use` and so on.
    is_public: bool,
    /// The name in this module; `*` for all names of a module.
    name: String,
    /// What it stands for.
    path: Names,
}

/// All modules of the program.
pub struct Source(BTreeMap<Names, Module>);

/// Who imports from whom: for each file below `src/`, the files and the paths that lead there.
pub type Imports = BTreeMap<PathBuf, BTreeMap<PathBuf, BTreeSet<String>>>;

impl Source {
    /// Reads `src/` from `lib.rs` and `main.rs` on.
    pub fn read(src: &Path) -> Self {
        let mut source = Self(BTreeMap::new());
        source.add(src, "lib.rs".into(), vec![]);
        source.add(src, "main.rs".into(), vec!["main".to_owned()]);
        source
    }

    fn add(&mut self, src: &Path, file: PathBuf, path: Names) {
        let text = std::fs::read_to_string(src.join(&file)).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let tokens: TokenStream = text.parse().unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let mut reader = Reader { file: &file, found: BTreeMap::new() };
        reader.module(tokens, path.clone());
        let found = reader.found;
        let folder = match file.file_name().and_then(|name| name.to_str()) {
            Some("mod.rs" | "lib.rs" | "main.rs") => file.parent().unwrap_or(Path::new("")).to_owned(),
            _ => file.with_extension(""),
        };
        // A module inside the file, `mod a { mod b; }`, has its modules in a folder of its name.
        for (parent, module) in &found {
            let folder = parent[path.len()..].iter().fold(folder.clone(), |folder, name| folder.join(name));
            for child in &module.children {
                let child_path = [&parent[..], std::slice::from_ref(child)].concat();
                if found.contains_key(&child_path) {
                    continue;
                }
                let flat = folder.join(child).with_extension("rs");
                let file = if src.join(&flat).exists() { flat } else { folder.join(child).join("mod.rs") };
                self.add(src, file, child_path);
            }
        }
        self.0.extend(found);
    }

    /// The files with code, by the module that they are.
    pub fn files(&self) -> BTreeMap<&Path, &Names> {
        // A module inside a file comes after the file's own.
        self.0.iter().rev().filter(|(_, module)| module.has_code).map(|(path, m)| (m.file.as_path(), path)).collect()
    }

    /// Who imports from whom.
    pub fn imports(&self) -> Imports {
        let mut imports = Imports::new();
        for (path, module) in self.0.iter().filter(|(_, module)| module.has_code) {
            let its = imports.entry(module.file.clone()).or_default();
            let is_used = |used: &&Use| !used.is_public || module.paths.iter().any(|path| path[0] == used.name);
            let uses = module.uses.iter().filter(is_used).map(|used| match used.name.as_str() {
                "*" => [used.path.clone(), vec!["*".to_owned()]].concat(),
                _ => used.path.clone(),
            });
            for target in uses.chain(module.paths.iter().cloned()) {
                for file in self.absolute(path, &target, 0).iter().flat_map(|to| self.files_of(to, 0)) {
                    if *file != module.file {
                        its.entry(file.clone()).or_default().insert(target.join("::"));
                    }
                }
            }
        }
        imports
    }

    /// The paths into other crates that each module has, with the file of the module.
    pub fn outside(&self) -> impl Iterator<Item = (&Names, &Path, String)> {
        self.0.iter().flat_map(|(path, module)| {
            let used = module.uses.iter().map(|used| used.path.clone());
            let whole = |path: &Names| match module.uses.iter().find(|used| used.name == path[0]) {
                Some(used) => [&used.path[..], &path[1..]].concat(),
                None => path.clone(),
            };
            let all =
                used.chain(module.paths.iter().map(whole)).filter(|target| self.absolute(path, target, 0).is_none());
            all.map(move |target| (path, module.file.as_path(), target.join("::")))
        })
    }

    /// The path from the crate on that this one means in a module; `None`: it leads to another crate, or to an item of
    /// the module itself.
    fn absolute(&self, module: &Names, path: &[String], depth: usize) -> Option<Names> {
        let (first, rest) = path.split_first()?;
        let from = |base: &[String]| Some([base, rest].concat());
        match first.as_str() {
            _ if depth > 16 => None,
            "crate" | "vfio_run" => Some(rest.to_vec()),
            "self" => from(module),
            "super" => {
                let parent = &module[..module.len().checked_sub(1)?];
                match rest.first().map(String::as_str) {
                    Some("super") => self.absolute(&parent.to_vec(), rest, depth + 1),
                    _ => from(parent),
                }
            }
            name => {
                let own = &self.0[module];
                if let Some(used) = own.uses.iter().find(|used| used.name == name && used.path[0] != name) {
                    return self.absolute(module, &[&used.path[..], rest].concat(), depth + 1);
                }
                let child = own.children.contains(name) && !rest.is_empty();
                child.then(|| [&module[..], path].concat())
            }
        }
    }

    /// The files that have what an absolute path names. A module that only lists has nothing.
    fn files_of(&self, path: &[String], depth: usize) -> Vec<&PathBuf> {
        let known = (0..=path.len()).rev().find(|length| self.0.contains_key(&path[..*length]));
        let (module_path, rest) = path.split_at(known.unwrap_or_default());
        let module = &self.0[module_path];
        let itself = || module.has_code.then_some(&module.file).into_iter().collect::<Vec<_>>();
        let of_use = |path: &[String]| {
            let absolute = self.absolute(&module_path.to_vec(), path, depth + 1);
            absolute.map(|path| self.files_of(&path, depth + 1)).unwrap_or_default()
        };
        let Some(name) = rest.first().filter(|_| depth < 16) else { return itself() };
        if name == "*" {
            let public = module.uses.iter().filter(|used| used.is_public);
            return itself().into_iter().chain(public.flat_map(|used| of_use(&used.path))).collect();
        }
        if module.items.contains(name) {
            return itself();
        }
        match module.uses.iter().find(|used| used.name == *name) {
            Some(used) => of_use(&[&used.path[..], &rest[1..]].concat()),
            None => {
                let globs = module.uses.iter().filter(|used| used.name == "*");
                let found: Vec<_> =
                    globs.flat_map(|used| of_use(&[&used.path[..], std::slice::from_ref(name)].concat())).collect();
                if found.is_empty() { itself() } else { found }
            }
        }
    }
}

/// Reads the tokens of one file.
struct Reader<'a> {
    file: &'a Path,
    found: BTreeMap<Names, Module>,
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

fn ident(token: Option<&TokenTree>) -> Option<String> {
    match token {
        Some(TokenTree::Ident(ident)) => Some(ident.to_string()),
        _ => None,
    }
}

impl Reader<'_> {
    fn module(&mut self, tokens: TokenStream, path: Names) {
        self.found.insert(path.clone(), Module { file: self.file.to_owned(), ..Module::default() });
        self.tokens(tokens, &path, true);
    }

    fn of(&mut self, path: &Names) -> &mut Module {
        self.found.entry(path.clone()).or_default()
    }

    /// `at_module_level`: not inside an item.
    fn tokens(&mut self, tokens: TokenStream, path: &Names, at_module_level: bool) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        let mut is_public = false;
        while at < tokens.len() {
            let word = ident(tokens.get(at));
            let before = at.checked_sub(1).and_then(|at| tokens.get(at));
            match word.as_deref() {
                None if is_punct(tokens.get(at), '#') => {
                    let group = if is_punct(tokens.get(at + 1), '!') { at + 2 } else { at + 1 };
                    at = group + 1;
                    if let Some(TokenTree::Group(group)) = tokens.get(group) {
                        self.tokens(group.stream(), path, false);
                    }
                    if tokens.get(group).is_some_and(|group| group.to_string().replace(' ', "") == "[cfg(test)]") {
                        at = end_of_item(&tokens, at);
                    }
                    continue;
                }
                Some("pub") => {
                    is_public = true;
                    at += 1;
                    // `pub(crate)`
                    if let Some(TokenTree::Group(group)) = tokens.get(at)
                        && group.delimiter() == Delimiter::Parenthesis
                    {
                        at += 1;
                    }
                    continue;
                }
                Some("use") if !is_punct(tokens.get(at + 1), '<') => {
                    let end = end_of_use(&tokens, at);
                    self.use_tree(&tokens[at + 1..end], Vec::new(), is_public, path);
                    at = end;
                }
                Some("mod") if at_module_level => {
                    let name = ident(tokens.get(at + 1)).unwrap_or_default();
                    self.of(path).children.insert(name.clone());
                    if let Some(TokenTree::Group(group)) = tokens.get(at + 2) {
                        self.module(group.stream(), [path.clone(), vec![name]].concat());
                    }
                    at += 2;
                }
                Some(_) if is_punct(before, '.') || is_punct(before, '\'') => {}
                Some(word) => {
                    if at_module_level {
                        self.of(path).has_code = true;
                        if ["fn", "struct", "enum", "trait", "const", "static", "type", "union"].contains(&word) {
                            let name = ident(tokens.get(at + 1)).unwrap_or_default();
                            self.of(path).items.insert(name);
                        }
                    }
                    let mut names = vec![word.to_owned()];
                    while is_punct(tokens.get(at + 1), ':') && is_punct(tokens.get(at + 2), ':') {
                        let Some(name) = ident(tokens.get(at + 3)) else { break };
                        names.push(name);
                        at += 3;
                    }
                    self.of(path).paths.insert(names);
                }
                None => {
                    if let Some(TokenTree::Group(group)) = tokens.get(at) {
                        self.tokens(group.stream(), path, false);
                    }
                }
            }
            is_public = false;
            at += 1;
        }
    }

    /// Reads `a::{b, c as d}` into the names that it brings.
    fn use_tree(&mut self, tokens: &[TokenTree], mut before: Names, is_public: bool, path: &Names) {
        let mut at = 0;
        loop {
            match tokens.get(at) {
                Some(TokenTree::Ident(name)) => {
                    before.push(name.to_string());
                    at += 1;
                    if is_punct(tokens.get(at), ':') {
                        at += 2;
                        continue;
                    }
                    // `use a::{self}` brings `a`.
                    let itself = before.len() > 1 && before.last().is_some_and(|name| name == "self");
                    if itself {
                        before.pop();
                    }
                    let alias = (ident(tokens.get(at)).as_deref() == Some("as")).then(|| ident(tokens.get(at + 1)));
                    let name = alias.flatten().or_else(|| before.last().cloned()).unwrap_or_default();
                    self.of(path).uses.push(Use { is_public, name, path: before });
                }
                Some(TokenTree::Group(group)) => {
                    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                    for part in inner.split(|token| is_punct(Some(token), ',')).filter(|part| !part.is_empty()) {
                        self.use_tree(part, before.clone(), is_public, path);
                    }
                }
                Some(TokenTree::Punct(punct)) if punct.as_char() == '*' => {
                    self.of(path).uses.push(Use { is_public, name: "*".to_owned(), path: before });
                }
                // `use ::other_crate::…`
                Some(TokenTree::Punct(_)) => {
                    at += 1;
                    continue;
                }
                _ => {}
            }
            return;
        }
    }
}

fn end_of_use(tokens: &[TokenTree], start: usize) -> usize {
    (start..tokens.len()).find(|at| is_punct(tokens.get(*at), ';')).unwrap_or(tokens.len())
}

/// Behind the item that begins here: behind its `;` or its body.
fn end_of_item(tokens: &[TokenTree], start: usize) -> usize {
    let is_use = (start..tokens.len()).find_map(|at| ident(tokens.get(at)).filter(|word| word != "pub"));
    if is_use.as_deref() == Some("use") {
        return end_of_use(tokens, start) + 1;
    }
    let is_end = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        token => is_punct(Some(token), ';') || is_punct(Some(token), ','),
    };
    (start..tokens.len()).find(|at| is_end(&tokens[*at])).map_or(tokens.len(), |at| at + 1)
}
