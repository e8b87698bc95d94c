//! Text that is wrapped for a terminal, with a hanging indent.

use std::io::IsTerminal as _;

use super::text_width;

/// The longest beginning below which nothing is written.
const LONGEST: usize = 16;

/// A paragraph that begins with `head`; what does not fit on the line goes on below its text, or, if the head is blank or long, a
/// little to the right of it. In a pipe it is one line.
pub fn hanging(head: &str, text: &str) -> String {
    within(wrap_width(), head, text)
}

/// How wide sentences are: in a pipe each is one line.
pub fn wrap_width() -> usize {
    if std::io::stdout().is_terminal() { text_width() } else { usize::MAX }
}

/// [`hanging`] for a reader of this width.
pub(super) fn within(width: usize, head: &str, text: &str) -> String {
    let blank = head.len() - head.trim_start().len();
    let wide = head.chars().count();
    let indent = " ".repeat(if blank == wide || wide > LONGEST { blank + 2 } else { wide });
    let options = textwrap::Options::new(width)
        .initial_indent(head)
        .subsequent_indent(&indent)
        // A path or a command line is copied from here.
        .break_words(false)
        .word_splitter(textwrap::WordSplitter::NoHyphenation);
    textwrap::fill(text, options)
}

/// Lines of which each but those of tables begins with what it is about: `memory: …`.
pub fn each_hanging(text: &str) -> String {
    each_within(wrap_width(), text)
}

/// [`each_hanging`] for a reader of this width.
pub(super) fn each_within(width: usize, text: &str) -> String {
    let lines = text.lines().map(|line| match line.split_once(": ") {
        Some((what, how)) => within(width, &format!("{what}: "), how),
        None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
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
        assert_eq!(
            each_within(14, "A  TABLE THAT IS WIDE\na: of some words"),
            "A  TABLE THAT IS WIDE\na: of some\n   words"
        );
        assert_eq!(within(usize::MAX, "a: ", &"word ".repeat(100)).lines().count(), 1);
    }
}
