//! A line of a file with carets below what is meant, on a terminal that is narrower than the line.

use textwrap::core::display_width;

/// Stands for what is left out.
const LEFT_OUT: char = '…';
/// With less room than this nothing can be told of a line.
const LEAST: usize = 8;

/// Whether a line shows a place in a file: a number or none, a bar, and what stands there.
pub(super) fn is_of_file(line: &str) -> bool {
    let number = |text: &str| text.chars().all(|c| c.is_ascii_digit() || c == ' ');
    line.split_once('|').is_some_and(|(before, _)| before.ends_with(' ') && number(before))
}

/// The line and the carets below it, as far as they fit, so that the terminal breaks neither. `None`: these are no such lines, they
/// fit, or only the terminal knows where their characters stand. Other programs' words come here too.
pub(super) fn fitted(line: &str, below: &str, width: usize) -> Option<[String; 2]> {
    let (number, source) = line.split_once("| ").filter(|_| is_of_file(line))?;
    let (gutter, carets) = below.split_once("| ")?;
    let carets_alone = carets.trim_start_matches(' ');
    // In columns from here on.
    let (before, marked) = (carets.len() - carets_alone.len(), carets_alone.len());
    let is_marked = marked > 0 && carets_alone.bytes().all(|c| c == b'^');
    let is_below = gutter.trim_matches(' ').is_empty() && gutter.len() == number.len();
    let whole = display_width(source);
    if !is_marked || !is_below || before > whole || line.contains(char::is_control) {
        return None;
    }
    let room = width.checked_sub(gutter.len() + 2)?;
    if whole.max(before + marked) <= room || room < LEAST {
        return None;
    }
    // What is meant is seen from its beginning on, with as much before it as there is room for.
    let skip = (before + marked.min(room - 4) + 2).saturating_sub(room);
    let at = before - skip;
    let carets = format!("{}{}", " ".repeat(at), "^".repeat(marked.min(room - at)));
    Some([format!("{number}| {}", part(source, skip, room)), format!("{gutter}| {carets}")])
}

/// So many columns of the text, behind those that are skipped; each character stands where it stood.
fn part(source: &str, skip: usize, room: usize) -> String {
    let (from, to) = (skip + usize::from(skip > 0), skip + room);
    let to = if display_width(source) > to { to - 1 } else { to };
    let mut shown = String::new();
    let mut end = 0;
    for c in source.chars() {
        let start = end;
        end += display_width(c.encode_utf8(&mut [0; 4]));
        if start >= from && end <= to {
            if shown.is_empty() && skip > 0 {
                shown.push(LEFT_OUT);
                // In place of the half of a wide character.
                shown.push_str(&" ".repeat(start - from));
            }
            shown.push(c);
        }
    }
    if end > to {
        shown.push(LEFT_OUT);
    }
    shown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::hanging::each_within;
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

    #[test]
    fn carets_that_stand_behind_the_line_mark_nothing_in_it() {
        let source = format!("12 | {}", "x".repeat(100));
        let below = |blanks| format!("   | {}^", " ".repeat(blanks));
        assert_eq!(fitted(&source, &below(500), 80), None);
        assert_eq!(fitted(&source, &below(101), 80), None);
        // The end of a line is a place too.
        let end = format!("12 | …{}\n   | {}^", "x".repeat(71), " ".repeat(72));
        assert_eq!(fitted(&source, &below(100), 80).unwrap().join("\n"), end);
    }

    #[test]
    fn carets_stand_below_a_wide_character_too_and_a_tab_is_left_to_the_terminal() {
        let source = format!("1 | {}x{}", "名".repeat(30), "前".repeat(30));
        let carets = format!("  | {}^", " ".repeat(60));
        let [line, below] = fitted(&source, &carets, 40).unwrap();
        let (before, _) = line.split_once('x').unwrap();
        assert_eq!(Some(display_width(before)), below.find('^'), "{line}\n{below}");
        assert!(display_width(&line) <= 40 && line.contains("…"), "{line}");
        assert_eq!(fitted(&source.replace("x", "\t"), &carets, 40), None);
    }

    proptest! {
        #[test]
        fn whatever_stands_in_two_lines_they_are_as_they_were_or_fit(
            source in "[a-z |^名é\u{301}\t0-9]{0,200}",
            blanks in 0_usize..400,
            marked in 0_usize..200,
            width in 0_usize..160,
        ) {
            let below = format!("   | {}{}", " ".repeat(blanks), "^".repeat(marked));
            if let Some(lines) = fitted(&format!("12 | {source}"), &below, width) {
                prop_assert!(lines.iter().all(|line| display_width(line) <= width), "{lines:?}");
                let at = lines[1].find('^').unwrap() - 5;
                let seen = |text: &str, at| text.chars().scan(0, |next, c| {
                    *next += display_width(c.encode_utf8(&mut [0; 4]));
                    Some((*next, c))
                }).find(|(end, _)| *end > at).map(|(_, c)| c);
                prop_assert_eq!(seen(&lines[0][5..], at), seen(&source, blanks), "{:?}", lines);
            }
        }

        #[test]
        fn no_text_is_too_odd_to_be_shown(text in "[a ^|12`\n\t名→#\u{301}-]{0,120}", width in 0_usize..30) {
            each_within(width, &text);
        }
    }
}
