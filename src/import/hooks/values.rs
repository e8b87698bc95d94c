//! What a shell would put in the place of a variable, as far as plain assignments tell: values, defaults, sums, and the folder
//! of the script. Nothing is run.

use std::collections::BTreeMap;

/// Known values by name.
type Values = BTreeMap<String, String>;

/// A default in a default in a default, which nobody writes.
const MAX_DEPTH: usize = 4;

/// The value of `$NAME`, `${NAME:-default}`, `$((1 + 2))`, or of the words for the script's folder; `None` if only a run could
/// tell.
pub fn of(written: &str, values: &Values) -> Option<String> {
    expanded(written, values, MAX_DEPTH)
}

fn expanded(written: &str, values: &Values, depth: usize) -> Option<String> {
    let depth = depth.checked_sub(1)?;
    if written.starts_with('`') {
        // A remark between the lines of a long command.
        return written.trim_matches('`').trim_start().starts_with('#').then(String::new);
    }
    let inner = written.strip_prefix('$')?;
    if let Some(sum) = inner.strip_prefix("((").and_then(|sum| sum.strip_suffix("))")) {
        return number(sum, values).map(|number| number.to_string());
    }
    if let Some(command) = inner.strip_prefix('(').and_then(|command| command.strip_suffix(')')) {
        return folder(command).then(|| ".".to_owned()).or_else(|| program(command));
    }
    let inner = inner.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')).unwrap_or(inner);
    let end = inner.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(inner.len());
    let (name, rest) = inner.split_at(end);
    let known = values.get(name);
    match rest {
        "@" | "*" | "#" if name.is_empty() => values.get(rest).cloned(),
        "" | "[@]" | "[*]" | "[0]" => known.cloned().or_else(|| (name == "PWD").then(|| ".".to_owned())),
        _ => {
            let default = [":-", ":=", "-", "="].into_iter().find_map(|mark| rest.strip_prefix(mark))?;
            match known.filter(|value| !value.is_empty()) {
                Some(value) => Some(value.clone()),
                None => text(default.trim_matches(['"', '\'']), values, depth),
            }
        }
    }
}

/// A text in which variables may stand.
fn text(written: &str, values: &Values, depth: usize) -> Option<String> {
    let Some(at) = written.find(['$', '`']) else { return Some(written.to_owned()) };
    let (before, rest) = written.split_at(at);
    let end = match rest.as_bytes().get(1) {
        Some(b'{') => rest.find('}')? + 1,
        Some(b'(') => rest.rfind(')')? + 1,
        _ => rest[1..].find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).map_or(rest.len(), |end| end + 1),
    };
    let (first, after) = rest.split_at(end);
    Some(format!("{before}{}{}", expanded(first, values, depth)?, text(after, values, depth)?))
}

/// Whether a command prints the folder of the script, or the one that it is started in.
fn folder(command: &str) -> bool {
    let of_script = command.contains("$0") || command.contains("BASH_SOURCE");
    command.trim() == "pwd" || of_script && command.contains("dirname")
}

/// The program of which a command prints the path.
fn program(command: &str) -> Option<String> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let (["which", name] | ["command", "-v", name] | ["type", "-P" | "-p", name]) = words[..] else { return None };
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
    name.chars().all(is_name).then(|| name.to_owned())
}

/// A sum of whole numbers.
fn number(text: &str, values: &Values) -> Option<i64> {
    let mut rest: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    if rest.len() > 200 {
        return None;
    }
    rest.reverse();
    let number = sum(&mut rest, values, 16)?;
    rest.is_empty().then_some(number)
}

fn sum(rest: &mut Vec<char>, values: &Values, depth: usize) -> Option<i64> {
    let mut number = product(rest, values, depth)?;
    while let Some(sign @ ('+' | '-')) = rest.last().copied() {
        rest.pop();
        let other = product(rest, values, depth)?;
        number = if sign == '+' { number.checked_add(other)? } else { number.checked_sub(other)? };
    }
    Some(number)
}

fn product(rest: &mut Vec<char>, values: &Values, depth: usize) -> Option<i64> {
    let mut number = operand(rest, values, depth)?;
    while let Some(sign @ ('*' | '/' | '%')) = rest.last().copied() {
        rest.pop();
        let other = operand(rest, values, depth)?;
        number = match sign {
            '*' => number.checked_mul(other)?,
            '/' => number.checked_div(other)?,
            _ => number.checked_rem(other)?,
        };
    }
    Some(number)
}

fn operand(rest: &mut Vec<char>, values: &Values, depth: usize) -> Option<i64> {
    if rest.last() == Some(&'(') {
        rest.pop();
        let number = sum(rest, values, depth.checked_sub(1)?)?;
        return (rest.pop() == Some(')')).then_some(number);
    }
    let mut word = String::new();
    while let Some(c) = rest.last().copied().filter(|c| c.is_ascii_alphanumeric() || "_${}".contains(*c)) {
        rest.pop();
        word.push(c);
    }
    let word = word.trim_start_matches(['$', '{']).trim_end_matches('}');
    word.parse().ok().or_else(|| values.get(word)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Values {
        [("CORES", "4"), ("T", "2"), ("EMPTY", "")].map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    #[test]
    fn defaults_and_sums_are_values() {
        let of = |written: &str| of(written, &values());
        assert_eq!(of("${CORES}").as_deref(), Some("4"));
        assert_eq!(of("${RAM:-8G}").as_deref(), Some("8G"));
        assert_eq!(of("${CORES:-8}").as_deref(), Some("4"));
        assert_eq!(of("${EMPTY:-\"x $CORES\"}").as_deref(), Some("x 4"));
        assert_eq!(of("${A:-${B:-c}}").as_deref(), Some("c"));
        assert_eq!(of("$((CORES * ${T} + (1 - 3) / 2))").as_deref(), Some("7"));
        assert_eq!(of("$((1 / 0))"), None);
        assert_eq!(of("$(nproc)"), None);
        assert_eq!(of("$(which qemu-kvm)").as_deref(), Some("qemu-kvm"));
        assert_eq!(of("${A:-$(nproc)}"), None);
        assert_eq!(of("$A"), None);
    }

    #[test]
    fn the_folder_of_the_script_is_where_it_is_started() {
        for written in ["$PWD", "$(pwd)", "$(dirname \"$0\")", "$(cd \"$(dirname \"${BASH_SOURCE[0]}\")\" && pwd)"] {
            assert_eq!(of(written, &values()).as_deref(), Some("."), "{written}");
        }
    }

    #[test]
    fn what_is_written_to_harm_ends() {
        for part in ["$((", "${A:-", "$(", "((", "${", "1+", "-"] {
            let text = part.repeat(300);
            for written in [text.clone(), format!("$(({text}))"), format!("${{{text}}}")] {
                assert!(of(&written, &values()).is_none_or(|value| value.len() <= written.len()), "{written}");
            }
        }
    }
}
