//! What a script's test says, where it is on values that the script sets: then it says the same at each run.

use std::collections::{BTreeMap, BTreeSet};

use super::marks::is_mark;

/// What a test says. `words`: those of one command, with known values in their places. `None` if only a run could tell.
pub fn of(words: &[String]) -> Option<bool> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let inner = match &words[..] {
        ["true" | ":"] => return Some(true),
        ["false"] => return Some(false),
        ["[" | "[[" | "test", inner @ ..] => inner,
        [.., "]]"] => &words[..],
        _ => return None,
    };
    let inner = match inner {
        [inner @ .., "]" | "]]"] => inner,
        inner => inner,
    };
    let known = |word: &str| !word.contains(['$', '`', '*', '?', '[', '(', '~']) && !word.contains(is_mark);
    if !inner.iter().all(|word| known(word)) {
        return None;
    }
    match inner {
        ["!", rest @ ..] => {
            let rest: Vec<String> = std::iter::once("[").chain(rest.iter().copied()).map(str::to_owned).collect();
            of(&rest).map(|says| !says)
        }
        [word] => Some(!word.is_empty()),
        ["-z", word] => Some(word.is_empty()),
        ["-n", word] => Some(!word.is_empty()),
        [one, "=" | "==", other] => Some(one == other),
        [one, "!=", other] => Some(one != other),
        [one, relation, other] => {
            let (one, other) = (one.parse::<i64>().ok()?, other.parse::<i64>().ok()?);
            match *relation {
                "-eq" => Some(one == other),
                "-ne" => Some(one != other),
                "-lt" => Some(one < other),
                "-le" => Some(one <= other),
                "-gt" => Some(one > other),
                "-ge" => Some(one >= other),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Variables that a script sets once, to a text that is written there. None if others may set them: by `source` or `eval`.
pub fn constants(text: &str) -> BTreeSet<String> {
    const SETS: [&str; 10] =
        ["read", "getopts", "for", "select", "mapfile", "readarray", "let", "unset", "printf", "trap"];
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    let mut others: BTreeSet<&str> = BTreeSet::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        for command in line.split([';', '&', '|']) {
            let mut words = command.split_whitespace().skip_while(|word| super::command::LEADS.contains(word));
            match words.next() {
                Some("source" | "." | "eval") => return BTreeSet::new(),
                Some(first) if SETS.contains(&first) => others.extend(names(command).map(|(name, ..)| name)),
                _ => {}
            }
        }
        for (name, before, after) in names(line) {
            let assigned = after.strip_prefix('=').filter(|rest| !rest.starts_with(['=', '~']));
            let begins = before.is_none_or(|c| c.is_whitespace() || ";&|({\"'`".contains(c));
            if let Some(value) = assigned.filter(|_| begins) {
                *count.entry(name).or_default() += 1;
                if !is_plain(value) {
                    others.insert(name);
                }
            }
            let changes =
                ["+=", "-=", "++", "--", "*=", "/=", "[", ":=", "="].iter().any(|sign| after.starts_with(sign));
            let counts = before.is_some_and(|c| c == '+' || c == '-') && line.contains("((");
            if (changes && assigned.is_none() && !after.starts_with("==")) || counts {
                others.insert(name);
            }
        }
    }
    let once = count.into_iter().filter(|(name, count)| *count == 1 && !others.contains(name));
    once.map(|(name, _)| name.to_owned()).collect()
}

/// Whether the value of an assignment is a text, of which nothing is computed.
fn is_plain(value: &str) -> bool {
    let end = match value.chars().next() {
        Some('\'') => return value[1..].contains('\''),
        Some('"') => match value[1..].find('"') {
            Some(end) => end + 1,
            None => return false,
        },
        _ => value.find(|c: char| c.is_whitespace() || ";&|".contains(c)).unwrap_or(value.len()),
    };
    !value[..end].contains(['$', '`', '(', '\\'])
}

/// The names in a line, each with the character before it and the text after it.
fn names(line: &str) -> impl Iterator<Item = (&str, Option<char>, &str)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + line[at..].find(is_part)?;
        let end = line[start..].find(|c| !is_part(c)).map_or(line.len(), |length| start + length);
        at = end;
        Some((&line[start..end], line[..start].chars().next_back(), &line[end..]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_on_known_values_says_what_it_says_at_each_run() {
        let of = |text: &str| of(&text.split(' ').map(|word| word.replace('_', "")).collect::<Vec<_>>());
        for (text, says) in [
            ("[ 1 = 1 ]", Some(true)),
            ("[[ 1 == 0 ]]", Some(false)),
            ("[[ ! 1 == 0 ]]", Some(true)),
            ("test 2 -gt 10", Some(false)),
            ("[ -z _ ]", Some(true)),
            ("[ -n _ ]", Some(false)),
            ("[ _ ]", Some(false)),
            ("true", Some(true)),
            ("[ $1 = 1 ]", None),
            ("[ -f a ]", None),
            ("[[ ab == a* ]]", None),
            ("[ = 1 ]", None),
            ("grep a", None),
        ] {
            assert_eq!(of(text), says, "{text}");
        }
    }

    #[test]
    fn a_constant_is_set_once_to_a_text() {
        let text = "A=1\nB=\"x y\" # no more\nexport C=\n[ \"$A\" = 1 ] && D=2; D=3\nE=$1\nF=${F:-1}\nG=0\nG+=1\nH=0; ((H++))\n\
                    read I\nI=1\nJ=(a b)\nif [ $K == 1 ]; then K=1; fi\nfor L in 1; do L=2; done\n: ${M:=1}\nM=0\n";
        assert_eq!(constants(text).into_iter().collect::<Vec<_>>(), ["A", "B", "C", "K"]);
        assert!(constants("A=1\nsource b\n").is_empty());
    }
}
