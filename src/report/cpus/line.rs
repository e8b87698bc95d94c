//! Lines of styled text whose width is known.

use anstyle::Style;
use textwrap::core::display_width;

/// A line for a terminal.
#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    text: String,
    width: usize,
}

impl Line {
    /// A line of this text.
    pub fn of(text: &str) -> Self {
        let mut line = Self::default();
        line.push(Style::new(), text);
        line
    }

    /// How many columns it takes.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The text with its styles.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Adds a text in this style.
    pub fn push(&mut self, style: Style, text: &str) {
        self.width += display_width(text);
        match style == Style::new() || text.is_empty() {
            true => self.text.push_str(text),
            false => self.text.push_str(&format!("{style}{text}{style:#}")),
        }
    }

    /// Adds another line.
    pub fn append(&mut self, line: &Self) {
        self.width += line.width;
        self.text.push_str(&line.text);
    }

    /// Adds blanks up to this width.
    pub fn pad(&mut self, width: usize) {
        self.text.push_str(&" ".repeat(width.saturating_sub(self.width)));
        self.width = self.width.max(width);
    }
}

/// The text in lines of at most this width; words that are longer are broken.
pub(super) fn wrapped(text: &str, width: usize, indent: &str) -> Vec<Line> {
    // A list of CPUs is no word with hyphens.
    let options = textwrap::Options::new(width.max(indent.len() + 1))
        .subsequent_indent(indent)
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .word_splitter(textwrap::WordSplitter::NoHyphenation);
    textwrap::wrap(text, options).iter().map(|line| Line::of(line)).collect()
}

/// Boxes with titles, all as wide as the widest needs, below each other.
pub(super) fn boxes(contents: Vec<(String, Vec<Line>)>, frame: Style) -> Vec<Line> {
    let widest = |lines: &[Line]| lines.iter().map(Line::width).max().unwrap_or(0);
    let widths = contents.iter().map(|(title, lines)| widest(lines).max(display_width(title) + 1));
    let width = widths.max().unwrap_or(0);
    let mut all = Vec::new();
    for (title, lines) in contents {
        let mut top = Line::default();
        top.push(frame, "┌ ");
        top.push(Style::new().bold(), &title);
        let rest = width.saturating_sub(display_width(&title) + 1);
        top.push(frame, &format!(" {}─┐", "─".repeat(rest)));
        all.push(top);
        for content in lines {
            let mut line = Line::default();
            line.push(frame, "│ ");
            line.append(&content);
            line.pad(width + 2);
            line.push(frame, " │");
            all.push(line);
        }
        let mut bottom = Line::default();
        bottom.push(frame, &format!("└{}┘", "─".repeat(width + 2)));
        all.push(bottom);
    }
    all
}
