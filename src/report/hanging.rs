//! Text that is wrapped for a terminal, with a hanging indent: nothing is cut, and what is copied from a terminal stays whole.

use std::io::IsTerminal;
use std::os::fd::AsFd;

use terminal_size::terminal_size_of;
use textwrap::core::display_width;

use super::excerpt;

/// The longest beginning below which nothing is written.
const LONGEST: usize = 16;
/// How wide a terminal is of which nothing is known.
pub(super) const USUAL_WIDTH: usize = 80;
/// No line is narrower: on such a terminal lines are broken by the terminal.
const NARROWEST: usize = 40;
/// Stay with the word that follows: a remedy's arrow, and what begins a reason in a plan.
const WITH_NEXT: [&str; 2] = ["→", "#"];

/// A paragraph that begins with `head`; what does not fit on the line goes on below its text, or, if the head is blank or long, a
/// little to the right of it. In a pipe it is one line.
pub fn hanging(head: &str, text: &str) -> String {
    within(wrap_width(), head, text)
}

/// How wide lines of what was asked for are: as the terminal. In a pipe, a file or a log each sentence is one line.
pub fn wrap_width() -> usize {
    width_of(&std::io::stdout())
}

/// The same for messages.
pub fn messages_width() -> usize {
    width_of(&std::io::stderr())
}

fn width_of(stream: &(impl AsFd + IsTerminal)) -> usize {
    let width = || terminal_size_of(stream).map_or(USUAL_WIDTH, |(width, _)| width.0.into());
    if stream.is_terminal() { width().max(NARROWEST) } else { usize::MAX }
}

/// [`hanging`] for a reader of this width.
pub(super) fn within(width: usize, head: &str, text: &str) -> String {
    let blank = head.len() - head.trim_start().len();
    let wide = display_width(head);
    let indent = if head.trim().is_empty() || wide > LONGEST { blank + 2 } else { wide };
    let mut lines = text.split('\n');
    let mut filled = fill(width, head, lines.next().unwrap_or_default(), indent);
    for line in lines {
        filled.push('\n');
        filled.push_str(&fill(width, &" ".repeat(indent), line, indent));
    }
    filled
}

/// The same for each line of a text that is too wide; the line itself tells how far it is indented.
pub fn each_within(width: usize, text: &str) -> String {
    let mut filled = Vec::new();
    let mut lines = text.split('\n').peekable();
    while let Some(line) = lines.next() {
        if let Some(shown) = lines.peek().and_then(|below| excerpt::fitted(line, below, width)) {
            lines.next();
            filled.extend(shown);
        } else if display_width(line) <= width || excerpt::is_of_file(line) {
            filled.push(line.to_owned());
        } else {
            let (head, text) = line.split_at(head(line));
            filled.push(within(width, head, text));
        }
    }
    filled.join("\n")
}

/// How many bytes of a line stand before its text: blanks, an arrow, or a word in a column of its own.
fn head(line: &str) -> usize {
    let text = line.trim_start();
    let blank = line.len() - text.len();
    if text.starts_with("→ ") {
        return blank + "→ ".len();
    }
    match text.split_once("  ") {
        Some((word, after)) if !word.contains(' ') && !after.trim_start().starts_with('#') => {
            line.len() - after.trim_start().len()
        }
        _ => blank,
    }
}

fn fill(width: usize, head: &str, text: &str, indent: usize) -> String {
    let room = width.saturating_sub(indent);
    let mut filled = head.to_owned();
    let (mut at, mut words, mut is_option) = (display_width(head), 0, false);
    let mut is_blank = head.trim().is_empty();
    for (gap, word) in units(text, room) {
        let wide = display_width(word);
        // An option of QEMU's has its value beside it, and what has no room on any line its beginning.
        let beside = is_option && words == 1 || wide > room && words == 0;
        let stays = is_blank || beside || (at + gap).saturating_add(wide) <= width;
        if stays {
            filled.push_str(&" ".repeat(gap));
            at += gap;
        } else {
            filled.truncate(filled.trim_end().len());
            filled.push('\n');
            filled.push_str(&" ".repeat(indent));
            at = indent;
        }
        filled.push_str(word);
        is_option |= words == 0 && is_blank && word.starts_with('-');
        (at, words, is_blank) = (at + wide, words + 1, false);
    }
    filled
}

/// What is not broken, with the number of blanks before it: a word, or what stands between backticks (a command, to be copied), if
/// that has room on a line.
fn units(text: &str, room: usize) -> Vec<(usize, &str)> {
    let mut units = Vec::new();
    let mut end = 0;
    while let Some(gap) = text[end..].find(|c| c != ' ') {
        let start = end + gap;
        let word_end = |from: usize| text[from..].find(' ').map_or(text.len(), |length| from + length);
        end = word_end(start);
        let mut whole = end;
        if WITH_NEXT.contains(&&text[start..end]) && end < text.len() {
            whole = word_end(end + 1);
        }
        while text[start..whole].matches('`').count() % 2 == 1 && whole < text.len() {
            whole = word_end(whole + 1);
        }
        let closed = text[start..whole].matches('`').count().is_multiple_of(2);
        if closed && display_width(&text[start..whole]) <= room {
            end = whole;
        }
        units.push((gap, &text[start..end]));
    }
    units
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_goes_on_below_and_nothing_is_cut() {
        assert_eq!(within(20, "  ports  ", "tcp 2222 and udp 53"), "  ports  tcp 2222\n         and udp 53");
        assert_eq!(within(14, "  ", "the last start failed"), "  the last\n    start\n    failed");
        assert_eq!(within(30, "what a long beginning: ", "of a line"), "what a long beginning: of a\n  line");
        assert_eq!(within(12, "a: ", "/a/path/that/is/longer"), "a: /a/path/that/is/longer");
        assert_eq!(within(12, "", "a longer /a/path/that/is"), "a longer\n  /a/path/that/is");
        assert_eq!(within(12, "  ", "-device {\"driver\":\"VGA\"}"), "  -device {\"driver\":\"VGA\"}");
        assert_eq!(within(usize::MAX, "a: ", &"word ".repeat(100)).lines().count(), 1);
        assert_eq!(within(9, "a: ", "one two\nthree"), "a: one\n   two\n   three");
        assert_eq!(within(12, "", "名前 が長い x"), "名前 が長い\n  x");
    }

    #[test]
    fn a_command_is_broken_only_if_no_line_has_room_for_it() {
        let text = "it is left; `vfio-run recover a` mends it";
        assert_eq!(within(24, "", text), "it is left;\n  `vfio-run recover a`\n  mends it");
        assert_eq!(within(16, "", text), "it is left;\n  `vfio-run\n  recover a`\n  mends it");
        assert_eq!(within(9, "", "odd ` one in it"), "odd ` one\n  in it");
    }

    #[test]
    fn each_line_of_a_text_is_indented_as_its_beginning_says() {
        assert_eq!(each_within(14, "FAIL  of some words"), "FAIL  of some\n      words");
        assert_eq!(each_within(14, "     → mend it soon"), "     → mend it\n       soon");
        assert_eq!(each_within(14, "  of some words"), "  of some\n    words");
        assert_eq!(each_within(13, "-S -T  # file: it says"), "-S -T\n  # file: it\n  says");
        assert_eq!(
            each_within(12, "memory of QEMU: 3\n\n12 | (guest: Linux)"),
            "memory of\n  QEMU: 3\n\n12 | (guest: Linux)"
        );
        let table = "NAME   STATE\nwin11  running";
        assert_eq!(each_within(14, table), table);
    }
}
