//! How the file looks: what fits stands on one line, and comments stand above what they are about.

use std::collections::BTreeMap;

use super::tree::Tree;
use crate::units::printable;

/// The width of a line.
const WIDTH: usize = 110;
const STEP: &str = "    ";

/// Comments by field.
type Comments = BTreeMap<String, Vec<String>>;

/// The text of a machine file.
pub fn text(tree: &Tree, comments: &Comments) -> String {
    let mut text = String::new();
    put(&mut text, tree, "", 0, comments, true);
    text.push('\n');
    text
}

/// Writes a value that begins in this column's depth. `broken`: it is not put on one line, even if it fits.
fn put(text: &mut String, tree: &Tree, path: &str, depth: usize, comments: &Comments, broken: bool) {
    let used = text.rsplit('\n').next().unwrap_or_default().chars().count();
    let line = one_line(tree);
    let has_comment = comments.keys().any(|field| field != path && is_below(field, path));
    if !broken && !has_comment && used + line.chars().count() < WIDTH {
        text.push_str(&line);
        return;
    }
    let inner = STEP.repeat(depth + 1);
    let entry = |text: &mut String, key: Option<&str>, value: &Tree, path: &str| {
        for words in comments.get(path).into_iter().flatten() {
            let options = textwrap::Options::new(WIDTH.saturating_sub(inner.len() + 3))
                .word_splitter(textwrap::WordSplitter::NoHyphenation);
            for line in textwrap::wrap(words, options) {
                text.push_str(&format!("\n{inner}// {}", printable(&line)));
            }
        }
        text.push_str(&format!("\n{inner}"));
        if let Some(key) = key {
            text.push_str(&format!("{key}: "));
        }
        put(text, value, path, depth + 1, comments, false);
        text.push(',');
    };
    let (open, close) = match tree {
        Tree::Plain(word) => return text.push_str(word),
        Tree::Fields(name, _) | Tree::Values(name, _) => (format!("{name}("), ')'),
        Tree::List(_) => ("[".to_owned(), ']'),
        Tree::Map(_) => ("{".to_owned(), '}'),
    };
    text.push_str(&open);
    match tree {
        Tree::Fields(_, fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                entry(text, Some(name), value, &path);
            }
        }
        Tree::Map(members) => members.iter().for_each(|(key, value)| entry(text, Some(key), value, "\u{0}")),
        Tree::Values(_, values) | Tree::List(values) => {
            values.iter().enumerate().for_each(|(index, value)| entry(text, None, value, &format!("{path}[{index}]")));
        }
        Tree::Plain(_) => {}
    }
    text.push_str(&format!("\n{}{close}", STEP.repeat(depth)));
}

/// Whether a field is another, or a part of it.
fn is_below(field: &str, path: &str) -> bool {
    path.is_empty() || field.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn one_line(tree: &Tree) -> String {
    let list = |values: &[Tree]| values.iter().map(one_line).collect::<Vec<_>>().join(", ");
    let pairs = |fields: &[(String, Tree)]| {
        fields.iter().map(|(name, value)| format!("{name}: {}", one_line(value))).collect::<Vec<_>>().join(", ")
    };
    match tree {
        Tree::Plain(word) => word.clone(),
        Tree::Fields(name, fields) if fields.is_empty() && !name.is_empty() => name.clone(),
        Tree::Fields(name, fields) => format!("{name}({})", pairs(fields)),
        Tree::Values(name, values) if values.is_empty() && !name.is_empty() => name.clone(),
        Tree::Values(name, values) => format!("{name}({})", list(values)),
        Tree::List(values) => format!("[{}]", list(values)),
        Tree::Map(members) => format!("{{{}}}", pairs(members)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_comment_quotes_does_nothing_to_a_terminal_or_the_file() {
        let tree = Tree::Fields(String::new(), vec![("name".to_owned(), Tree::Plain("\"a\"".to_owned()))]);
        let comments = BTreeMap::from([("name".to_owned(), vec!["first \u{1b}[2J\rname: x\nsecond".to_owned()])]);
        let text = text(&tree, &comments);
        assert_eq!(text, "(\n    // first \u{fffd}[2J\u{fffd}name: x\n    // second\n    name: \"a\",\n)\n");
    }
}
