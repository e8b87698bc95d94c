//! A line of a file with carets below what is meant, on a terminal that is narrower than the line.

use textwrap::core::display_width;

/// Stands for what is left out.
const LEFT_OUT: char = '…';

/// Whether a line shows a place in a file: a number or none, a bar, and what stands there.
pub(super) fn is_of_file(line: &str) -> bool {
    let number = |text: &str| text.chars().all(|c| c.is_ascii_digit() || c == ' ');
    line.split_once('|').is_some_and(|(before, _)| before.ends_with(' ') && number(before))
}

/// The line and the carets below it, as far as they fit, so that the terminal breaks neither. `None`: these are no such lines, or
/// they fit.
pub(super) fn fitted(line: &str, below: &str, width: usize) -> Option<[String; 2]> {
    let (gutter, carets) = below.split_once("| ")?;
    let before = carets.chars().take_while(|c| *c != '^').count();
    let marked = carets.chars().count() - before;
    if !is_of_file(line) || marked == 0 || !carets[carets.find('^')?..].chars().all(|c| c == '^') {
        return None;
    }
    let room = width.checked_sub(gutter.len() + 2)?;
    let (number, source) = line.split_once("| ")?;
    if display_width(line) <= width || room < 8 {
        return None;
    }
    // What is meant is seen from its beginning on, with as much before it as there is room for.
    let skip = (before + marked.min(room - 2) + 2).saturating_sub(room).min(before);
    let mut shown: Vec<char> = source.chars().skip(skip).take(room).collect();
    if skip > 0 {
        shown[0] = LEFT_OUT;
    }
    if skip + room < source.chars().count() {
        shown[room - 1] = LEFT_OUT;
    }
    let at = before - skip;
    let carets = format!("{}{}", " ".repeat(at), "^".repeat(marked.min(room - at)));
    Some([format!("{number}| {}", shown.into_iter().collect::<String>()), format!("{gutter}| {carets}")])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant_stands_above_its_carets_in_a_line_that_fits() {
        let source = "12 | (guest: Linux, memory: (size: \"1 GiB\"), prt: 5900, disks: [])";
        let carets = format!("   | {}^^^", " ".repeat(40));
        let fits = |width| fitted(source, &carets, width).map(|lines| lines.join("\n"));
        assert_eq!(fits(80), None);
        assert_eq!(fits(60).unwrap(), format!("{}…\n{carets}", &source[..59]));
        let narrow = fits(40).unwrap();
        let at = narrow.lines().nth(1).unwrap().find('^').unwrap();
        let line: Vec<char> = narrow.lines().next().unwrap().chars().collect();
        assert_eq!(line[at..at + 3].iter().collect::<String>(), "prt", "{narrow}");
        assert!(line.len() <= 40 && line[5] == '…', "{narrow}");
        assert_eq!(fitted("a | table", "b | row", 4), None);
    }
}
