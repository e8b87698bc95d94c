//! Machine files from which one thing was taken out.

/// A machine file that lacks something.
pub struct Mutant {
    /// What it lacks.
    pub without: String,
    /// The text. It may be no machine.
    pub text: String,
}

/// Each field and each element of a list taken out, and others in place of what cannot be left out, or is what the program
/// would choose by itself: the family, the size of the memory, the CPUs.
pub fn of(text: &str) -> Vec<Mutant> {
    let text: String =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).map(|l| format!("{l}\n")).collect();
    let mut mutants: Vec<Mutant> = spans(&text)
        .into_iter()
        .map(|(start, end)| Mutant {
            without: text[start..end].split_whitespace().collect::<Vec<_>>().join(" "),
            text: format!("{}{}", &text[..start], text[end..].strip_prefix(',').unwrap_or(&text[end..])),
        })
        .collect();
    for (from, to) in [("Windows11", "Other"), ("Windows10", "Other"), ("size: \"1", "size: \"3")] {
        if text.contains(from) {
            mutants.push(Mutant { without: from.to_owned(), text: text.replacen(from, to, 1) });
        }
    }
    if let Some((before, rest)) = text.split_once("pin: \"") {
        let (pin, after) = rest.split_once('"').unwrap();
        mutants.push(Mutant { without: pin.to_owned(), text: format!("{before}pin: \"0-1\"{after}") });
    }
    mutants
}

/// Where each part of a list in parentheses or brackets begins and ends, the comma not with it.
fn spans(text: &str) -> Vec<(usize, usize)> {
    let (mut open, mut found, mut quoted) = (Vec::new(), Vec::new(), false);
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | '[' => open.push(at + 1),
            ',' | ')' | ']' => {
                let start =
                    if c == ',' { open.last_mut().map(|start| std::mem::replace(start, at + 1)) } else { open.pop() };
                let start = start.unwrap();
                if !text[start..at].trim().is_empty() {
                    found.push((start, at));
                }
            }
            _ => {}
        }
    }
    found
}
