//! How a value is written that was meant well: text without quotes or in others', one value in place of a list or of fields,
//! a word in quotes.

use std::collections::BTreeSet;

use super::nearest::nearest;
use super::values_of_others;
use crate::machine::schema::Fields;
use crate::units::Size;

/// The value that begins at the beginning of `rest` and whose first token is `head`, as it must be written for this field,
/// and which takes `takes`; `None` if nobody can tell.
pub(super) fn rewritten(rest: &str, head: &str, field: &str, takes: &str, fields: &Fields) -> Option<String> {
    if let Some(help) = values_of_others::in_place_of(head, field) {
        return Some(help);
    }
    if let Some(text) = in_other_quotes(rest) {
        return Some(match variants(takes).find(|name| *name == text) {
            Some(name) => format!("write `{name}`, without quotes"),
            None => format!("text stands in straight double quotes: `{text:?}`"),
        });
    }
    let quoted = head.strip_prefix('"').and_then(|head| head.strip_suffix('"'));
    if let Some(vcpus) = head.parse::<u32>().ok().filter(|_| field == "cpu.cores") {
        return Some(format!("the number of vCPUs is `vcpus`: write `cpu: (vcpus: {vcpus})`"));
    }
    if takes.starts_with("text") && quoted.is_none() {
        return text(rest, head, takes);
    }
    if takes.starts_with("a list in brackets") {
        return list_of_one(head, quoted, field, fields).map(|list| format!("write `{}`", named(field, &list)));
    }
    if let Some(name) = takes.split_once("fields in parentheses: `(").and_then(|(_, rest)| rest.split(':').next()) {
        // The name of a variant of its first field: `networks: [User]`.
        let first = fields.takes(&format!("{field}.{name}")).unwrap_or_default();
        if variants(&first).any(|variant| variant == head) {
            let part = format!("({name}: {})", word_with_value(rest, head));
            return Some(format!("write `{}`", named(field, &part)));
        }
        return fields_of_one(head, quoted, field, name, fields).map(|part| format!("write `{}`", named(field, &part)));
    }
    if head.parse::<u32>().is_ok() {
        let mut with_fields = variants(takes).filter(|name| takes.contains(&format!("`{name}(…)`")));
        let only = with_fields.next().filter(|_| with_fields.next().is_none())?;
        return Some(format!("write `{}`", named(field, &format!("{only}({head})"))));
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

/// A value behind the name of its field, or alone if it is an entry of a list.
fn named(field: &str, value: &str) -> String {
    let name = field.rsplit('.').next().unwrap_or(field);
    if name.ends_with(']') { value.to_owned() } else { format!("{name}: {value}") }
}

/// A CPU list in quotes as it was meant: ranges forwards, each CPU once.
pub(super) fn cpus_mended(written: &str) -> Option<String> {
    let text = written.strip_prefix('"')?.strip_suffix('"')?;
    let (mut parts, mut seen, mut twice) = (Vec::new(), BTreeSet::new(), None);
    for part in text.trim_end().trim_end_matches(',').split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<u32>().ok()?, last.trim().parse::<u32>().ok()?);
        let (first, last) = (first.min(last), first.max(last));
        let few = last - first < 1024 && parts.len() < 64;
        twice = twice.or((first..=last).take(if few { 1024 } else { 0 }).find(|cpu| seen.contains(cpu)));
        seen.extend((first..=last).take(if few { 1024 } else { 0 }));
        parts.push(if first == last { first.to_string() } else { format!("{first}-{last}") });
    }
    let mended = parts.join(",");
    match twice {
        Some(cpu) => Some(format!("CPU {cpu} is named twice")),
        None => (mended != text).then(|| format!("write `{mended:?}`")),
    }
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
            Some(format!("write it with its unit: `\"{}\"`", with_unit(number)))
        }
        // Ends within another token, or is more than a value.
        _ if whole.is_empty() || whole.chars().count() > 80 => None,
        _ => Some(format!("write `{whole:?}`")),
    }
}

/// A number as the size that it probably means: of bytes, if it is none of MiB that any host has.
fn with_unit(number: u64) -> String {
    const MOST_MIB: u64 = 64 << 20;
    match number {
        ..256 => format!("{number} GiB"),
        256..MOST_MIB => format!("{number} MiB"),
        bytes @ MOST_MIB.. => Size::bytes(bytes - bytes % Size::MIB).to_string(),
    }
}

/// A size that is no whole number, in MiB: `1.5 GiB`; or one without a unit.
pub(super) fn size_mended(written: &str) -> Option<String> {
    let text = written.strip_prefix('"')?.strip_suffix('"')?.trim();
    if let Some(number) = text.parse::<u64>().ok().filter(|number| *number > 0) {
        return Some(format!("write it with its unit: `\"{}\"`", with_unit(number)));
    }
    let (whole, rest) = text.split_once('.')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|digits| (1..=3).contains(digits))?;
    let (fraction, unit) = rest.split_at(digits);
    let unit = format!("1 {}", unit.trim()).parse::<Size>().ok()?.as_bytes();
    let bytes = |number: &str| number.parse::<u64>().ok()?.checked_mul(unit);
    let bytes = bytes(whole)?.checked_add(bytes(fraction)? / 10_u64.pow(u32::try_from(digits).ok()?))?;
    (bytes >= Size::MIB).then(|| format!("write a whole number: `\"{} MiB\"`", bytes / Size::MIB))
}

/// A value that is a name, with the parentheses behind it on this line.
fn word_with_value<'a>(rest: &'a str, head: &str) -> &'a str {
    let line = rest.lines().next().unwrap_or_default();
    let behind = line.get(head.len()..).unwrap_or_default();
    let value = behind.starts_with('(').then(|| behind.find(')')).flatten();
    &line[..value.map_or(head.len().min(line.len()), |end| head.len() + end + 1)]
}

/// The part that is meant by one of its values, or by a switch.
fn fields_of_one(head: &str, quoted: Option<&str>, field: &str, name: &str, fields: &Fields) -> Option<String> {
    let below = |name: &str| if field.is_empty() { name.to_owned() } else { format!("{field}.{name}") };
    if fields.get(&below(head)).is_some() && !field.is_empty() {
        return Some(format!("({head}: …)"));
    }
    if head == "{" {
        return fields.example(field).or_else(|| Some(format!("({name}: …)")));
    }
    if head == "true" {
        return fields.example(field);
    }
    // A shared folder has two fields that must be there.
    if name == "tag" && quoted.is_some_and(|text| text.starts_with(['/', '~', '.'])) {
        // `"/srv:/data"`, as containers have it: the second is where the guest would mount it.
        let folder = quoted.and_then(|text| text.split(':').next()).unwrap_or_default();
        return Some(format!("(tag: \"data\", folder: {folder:?})"));
    }
    let takes = fields.takes(&below(name))?;
    let number = head.parse::<u64>().is_ok();
    if (quoted.is_some() && takes.starts_with("text")) || (number && takes.starts_with("a whole number")) {
        return Some(format!("({name}: {head})"));
    }
    if let Ok(number) = head.parse::<u64>()
        && takes.contains("amount of memory")
    {
        return Some(format!("({name}: \"{}\")", with_unit(number)));
    }
    // A variant that has a text: of several the one that is the example.
    let example = fields.example(&below(name)).filter(|_| quoted.is_some())?;
    let variant = example.split_once("(\"").map(|(variant, _)| variant)?;
    Some(format!("({name}: {variant}({head}))"))
}

/// The list that is meant by one entry, or by a switch.
fn list_of_one(head: &str, quoted: Option<&str>, field: &str, fields: &Fields) -> Option<String> {
    let entry = format!("{field}[0]");
    let takes = fields.takes(&entry);
    match (quoted, takes.as_deref()) {
        (Some(text), _) if field == "extra_args" => {
            let words: Vec<String> = text.split_whitespace().map(|word| format!("{word:?}")).collect();
            Some(format!("[{}]", words.join(", ")))
        }
        (Some(_), Some(takes)) if takes.starts_with("a list in brackets") => Some(format!("[[{head}]]")),
        (Some(_), Some(takes)) if takes.starts_with("text") => Some(format!("[{head}]")),
        (Some(_), Some(takes)) => {
            let (_, rest) = takes.split_once("fields in parentheses: `(")?;
            let part = fields_of_one(head, quoted, &entry, rest.split(':').next()?, fields)?;
            Some(format!("[{part}]"))
        }
        // An entry that is a list itself: a hook.
        (Some(_), None) => Some(format!("[{head}]")),
        (None, Some(takes)) if head == "(" && takes.contains("fields in parentheses") => {
            let (_, rest) = takes.split_once("fields in parentheses: `(")?;
            Some(format!("[({}: …)]", rest.split(':').next()?))
        }
        (None, _) if head == "true" => fields.example(field),
        (None, _) if head == "false" => Some("[]".to_owned()),
        _ => None,
    }
}
