//! A page as text for a terminal: wrapped, with styles that a stream may leave out.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use super::page::{Block, Line, Look, Page};

const HEADING: Style = Style::new().bold();
const CODE: Style = AnsiColor::Green.on_default();
const STRONG: Style = Style::new().bold();
const EMPHASIS: Style = Style::new().italic();

impl Page {
    /// The page, no line wider than this (but for code).
    pub fn for_terminal(&self, width: usize) -> String {
        let mut text = String::new();
        for block in &self.blocks {
            let indent = if matches!(block, Block::Heading(..)) { 0 } else { 2 };
            write(block, indent, width, &mut text);
        }
        // The last block's blank line.
        text.truncate(text.trim_end().len());
        text
    }
}

fn write(block: &Block, indent: usize, width: usize, text: &mut String) {
    match block {
        Block::Heading(level, line) => {
            let mut heading = plain(line);
            if *level == 2 {
                heading = heading.to_uppercase();
            }
            push(&format!("{HEADING}{heading}{HEADING:#}"), indent, indent, width, text);
            if *level == 1 {
                text.push('\n');
            }
        }
        Block::Paragraph(line) => {
            push(&styled(line), indent, indent, width, text);
            text.push('\n');
        }
        Block::Code(code) => {
            for line in code.lines() {
                if !line.is_empty() {
                    // Writing to a String cannot fail.
                    let _ = write!(text, "{:indent$}{CODE}{line}{CODE:#}", "", indent = indent + 2);
                }
                text.push('\n');
            }
            text.push('\n');
        }
        Block::List { numbered, items } => {
            for (index, item) in items.iter().enumerate() {
                let mark = if *numbered { format!("{}. ", index + 1) } else { "- ".to_owned() };
                beside(&mark, item, indent, width, text);
            }
        }
        Block::Terms(terms) => {
            for (term, meaning) in terms {
                push(&styled(term), indent, indent + 4, width, text);
                meaning.iter().for_each(|block| write(block, indent + 4, width, text));
                if meaning.is_empty() {
                    text.push('\n');
                }
            }
        }
    }
}

/// Blocks after a mark: the first begins beside it.
fn beside(mark: &str, blocks: &[Block], indent: usize, width: usize, text: &mut String) {
    let inner = indent + mark.len();
    let rest = match blocks {
        [Block::Paragraph(line), rest @ ..] => {
            push(&format!("{mark}{}", styled(line)), indent, inner, width, text);
            text.push('\n');
            rest
        }
        rest => {
            push(mark.trim_end(), indent, inner, width, text);
            rest
        }
    };
    rest.iter().for_each(|block| write(block, inner, width, text));
}

/// Adds a line, wrapped; textwrap does not count the bytes of styles.
fn push(line: &str, first: usize, others: usize, width: usize, text: &mut String) {
    let (first, others) = (" ".repeat(first), " ".repeat(others));
    let options = textwrap::Options::new(width)
        .initial_indent(&first)
        .subsequent_indent(&others)
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .break_words(false);
    for line in textwrap::wrap(line, options) {
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

fn styled(line: &Line) -> String {
    line.iter()
        .map(|span| {
            let style = match span.style {
                Look::Plain => Style::new(),
                Look::Code => CODE,
                Look::Strong => STRONG,
                Look::Emphasis => EMPHASIS,
            };
            format!("{style}{}{style:#}", span.text)
        })
        .collect()
}

fn plain(line: &Line) -> String {
    line.iter().map(|span| span.text.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_wrapped_and_indented_and_code_is_left_as_it_is() {
        let page = Page::parse(
            "# Top\n\nOne two three four `five six` seven.\n\n1. a b c d e f g h i j k l m\n\n   ```\n   x   y    z                    end\n   ```\n",
        );
        let text = anstream::adapter::strip_str(&page.for_terminal(24)).to_string();
        let expected = "Top\n\n  One two three four\n  five six seven.\n\n  1. a b c d e f g h i j\n     k l m\n\n       x   y    z                    end";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_term_stands_above_what_it_means() {
        let page = Page::parse("| a | b |\n|---|---|\n| term | its meaning |\n| other | |\n");
        let text = anstream::adapter::strip_str(&page.for_terminal(80)).to_string();
        assert_eq!(text, "  term\n      its meaning\n\n  other");
    }
}
