//! How a value is written that was meant well: text without quotes or in others', one value in place of a list or of fields,
//! a word in quotes.

use super::nearest::nearest;
use crate::machine::schema::Fields;

/// The value that begins at the beginning of `rest` and whose first token is `head`, as it must be written for this field,
/// and which takes `takes`; `None` if nobody can tell.
pub(super) fn rewritten(rest: &str, head: &str, field: &str, takes: &str, fields: &Fields) -> Option<String> {
    if let Some(text) = in_other_quotes(rest) {
        return Some(match variants(takes).find(|name| *name == text) {
            Some(name) => format!("write `{name}`, without quotes"),
            None => format!("text stands in straight double quotes: `{text:?}`"),
        });
    }
    let quoted = head.strip_prefix('"').and_then(|head| head.strip_suffix('"'));
    if takes.starts_with("text") && quoted.is_none() {
        return text(rest, head, takes);
    }
    if let Some(name) = takes.split_once("fields in parentheses: `(").and_then(|(_, rest)| rest.split(':').next()) {
        return fields_of_one(head, quoted, field, name, fields);
    }
    if takes.contains("a list in brackets") {
        return list_of_one(head, quoted, field, fields);
    }
    let word = quoted?;
    let begins = |name: &&str| word.len() >= 3 && name.to_lowercase().starts_with(&word.to_lowercase());
    let names: Vec<&str> = variants(takes).collect();
    if names.contains(&word) {
        return None;
    }
    if let Some(name) = nearest(word, &names).or_else(|| names.iter().copied().find(|name| begins(name))) {
        return Some(format!("did you mean `{name}`, without quotes?"));
    }
    let mut with_text = names.iter().filter(|name| takes.contains(&format!("`{name}(\"…\")`")));
    let only = with_text.next().filter(|_| with_text.next().is_none())?;
    Some(format!("write `{only}({head})`"))
}

/// The names in `` `None`, `Vnc(…)` ``.
fn variants(takes: &str) -> impl Iterator<Item = &str> {
    let words = takes.split('`').skip(1).step_by(2);
    words.filter_map(|word| word.split('(').next()).filter(|word| word.starts_with(|c: char| c.is_ascii_uppercase()))
}

/// The text in quotes that are not RON's.
fn in_other_quotes(rest: &str) -> Option<&str> {
    const QUOTES: [char; 9] = ['“', '”', '„', '‟', '«', '»', '‘', '’', '\''];
    let inner = rest.strip_prefix(QUOTES)?.lines().next()?;
    Some(inner.split(QUOTES).next().unwrap_or(inner)).filter(|text| !text.is_empty() && !text.contains('"'))
}

/// Text without quotes, as far as it goes on this line.
fn text(rest: &str, head: &str, takes: &str) -> Option<String> {
    let line = rest.lines().next()?;
    if let Some(list) = line.strip_prefix('[') {
        // CPUs and nodes, which other formats have in lists.
        let list = list.split(']').next().filter(|_| takes.contains("numbers and ranges"))?;
        let list: String = list.chars().filter(|c| !c.is_whitespace()).collect();
        return Some(format!("write `{list:?}`"));
    }
    if line.starts_with(['(', '{']) {
        return None;
    }
    let end = line.find([',', ')', ']', '}']).unwrap_or(line.len());
    let whole = line[..end].split("//").next().unwrap_or_default().trim_end();
    let whole = if whole.contains(['"', '(', '[']) { head } else { whole };
    match whole.parse::<u64>() {
        Ok(number) if takes.contains("amount of memory") => {
            let unit = if number < 256 { "GiB" } else { "MiB" };
            Some(format!("write it with its unit: `\"{number} {unit}\"`"))
        }
        // Ends within another token, or is more than a value.
        _ if whole.is_empty() || whole.chars().count() > 80 => None,
        _ => Some(format!("write `{whole:?}`")),
    }
}

/// The most usual of a part's fields in place of the part.
fn fields_of_one(head: &str, quoted: Option<&str>, field: &str, name: &str, fields: &Fields) -> Option<String> {
    let below = |name: &str| if field.is_empty() { name.to_owned() } else { format!("{field}.{name}") };
    if fields.get(&below(head)).is_some() && !field.is_empty() {
        return Some(format!("the fields of a part stand in parentheses: `({head}: …)`"));
    }
    let takes = fields.takes(&below(name))?;
    let number = head.parse::<u64>().is_ok();
    let fits = (quoted.is_some() && takes.starts_with("text")) || (number && takes.starts_with("a whole number"));
    fits.then(|| format!("write `({name}: {head})`"))
}

/// One entry in place of the list.
fn list_of_one(head: &str, quoted: Option<&str>, field: &str, fields: &Fields) -> Option<String> {
    let takes = fields.takes(&format!("{field}[0]"))?;
    match quoted {
        Some(text) if takes.starts_with("text") => {
            let words: Vec<String> = match field {
                "extra_args" => text.split_whitespace().map(|word| format!("{word:?}")).collect(),
                _ => vec![head.to_owned()],
            };
            Some(format!("write `[{}]`", words.join(", ")))
        }
        None if head == "(" && takes.contains("fields in parentheses") => {
            Some("a list has brackets, also if it is short: `[(…)]`".to_owned())
        }
        _ => None,
    }
}
