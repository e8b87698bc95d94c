//! Columns that line up.

use textwrap::core::display_width;

use super::hanging::within;

/// What stands between a number and its unit in a cell, where no line is broken; a blank in the end.
pub(super) const TOGETHER: &str = "\u{a0}";
/// Blanks between two columns, and if they are too wide.
const GAP: usize = 2;
const NARROW_GAP: usize = 1;
/// Blanks before a paragraph's lines but the first: what [`within`] has without a head.
const INDENT: usize = 2;

/// A table without lines: columns padded to their widest cell, two blanks between.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
    has_headings: bool,
}

impl Table {
    /// An empty table with these headings.
    pub fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|h| (*h).to_owned()).collect()], has_headings: true }
    }

    /// Adds a row.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// The table for a reader of this width. If it is wider, cells of several words go on below, and columns move together; if
    /// it still is, each row is a paragraph that names what the cells are.
    pub fn within(&self, width: usize) -> String {
        self.with_headings(width).0
    }

    /// The same, and how many of its first lines are headings; paragraphs have none.
    pub(super) fn with_headings(&self, width: usize) -> (String, usize) {
        let natural = self.widths(display_width);
        let least = self.widths(|cell| cell.split(' ').map(display_width).max().unwrap_or(0));
        let fits = [(&natural, GAP), (&least, GAP), (&least, NARROW_GAP)].into_iter().find_map(|(widths, gap)| {
            let whole = widths.iter().sum::<usize>() + gap * widths.len().saturating_sub(1);
            Some((widths, gap, width.checked_sub(whole)?))
        });
        let (text, headings) = match fits {
            Some((widths, gap, rest)) => self.in_columns(&shared_out(rest, widths, &natural), gap),
            None => (self.in_paragraphs(width), 0),
        };
        (text.replace(TOGETHER, " "), headings)
    }

    /// The widest of each column's cells.
    fn widths(&self, of: impl Fn(&str) -> usize) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widest = |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| of(cell)).max();
        (0..columns).map(|column| widest(column).unwrap_or(0)).collect()
    }

    /// And how many of the lines are headings.
    fn in_columns(&self, widths: &[usize], gap: usize) -> (String, usize) {
        let mut lines = Vec::new();
        let mut headings = 0;
        for (number, row) in self.rows.iter().enumerate() {
            let cells: Vec<Vec<String>> = row.iter().zip(widths).map(|(cell, width)| broken(cell, *width)).collect();
            for index in 0..cells.iter().map(Vec::len).max().unwrap_or(0) {
                let part = |(cell, width): (&Vec<String>, &usize)| {
                    let text = cell.get(index).map_or("", String::as_str);
                    format!("{text}{}", " ".repeat(width.saturating_sub(display_width(text))))
                };
                let line = cells.iter().zip(widths).map(part).collect::<Vec<_>>().join(&" ".repeat(gap));
                lines.push(line.trim_end().to_owned());
            }
            if number == 0 && self.has_headings {
                headings = lines.len();
            }
        }
        (lines.join("\n"), headings)
    }

    fn in_paragraphs(&self, width: usize) -> String {
        let (headings, rows) = self.rows.split_at(usize::from(self.has_headings));
        let no_headings = Vec::new();
        let headings = headings.first().unwrap_or(&no_headings);
        let paragraph = |row: &Vec<String>| {
            let named = row.iter().enumerate().filter(|(_, cell)| !cell.is_empty()).map(|(column, cell)| {
                let heading = headings.get(column).map_or("", String::as_str);
                let named = format!("{heading} {cell}").trim_start().to_owned();
                // What has no room on a line of its own is broken as any text.
                if display_width(&named) + INDENT <= width { named.replace(' ', TOGETHER) } else { named }
            });
            within(width, "", &named.collect::<Vec<_>>().join(&" ".repeat(GAP)))
        };
        rows.iter().map(paragraph).collect::<Vec<_>>().join("\n")
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.within(usize::MAX))
    }
}

/// The columns' widths: each has what it needs at least, and the rest goes to the first that can use it.
fn shared_out(mut rest: usize, least: &[usize], natural: &[usize]) -> Vec<usize> {
    let wider = least.iter().zip(natural).map(|(least, natural)| {
        let more = rest.min(natural - least);
        rest -= more;
        least + more
    });
    wider.collect()
}

/// The cell in lines of this width.
fn broken(cell: &str, width: usize) -> Vec<String> {
    let options = textwrap::Options::new(width)
        .break_words(false)
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .word_splitter(textwrap::WordSplitter::NoHyphenation);
    match display_width(cell) <= width {
        true => vec![cell.to_owned()],
        false => textwrap::wrap(cell, options).into_iter().map(std::borrow::Cow::into_owned).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machines() -> Table {
        let mut table = Table::new(&["NAME", "STATE", "HOST CHANGES"]);
        table.row(["win11", "running", "0"]);
        table.row(["a-long-name", "off", ""]);
        table
    }

    #[test]
    fn columns_line_up() {
        let text = "NAME         STATE    HOST CHANGES\nwin11        running  0\na-long-name  off";
        assert_eq!(machines().to_string(), text);
        let mut wide = Table::new(&["NAME", "OF"]);
        wide.row(["マウス", "port 1"]);
        wide.row(["mouse", "port 2"]);
        assert_eq!(wide.to_string(), "NAME    OF\nマウス  port 1\nmouse   port 2");
    }

    #[test]
    fn a_narrow_terminal_has_cells_of_several_lines_and_then_paragraphs() {
        let narrow = machines().within(30);
        assert_eq!(
            narrow,
            "NAME         STATE    HOST\n                      CHANGES\nwin11        running  0\na-long-name  off"
        );
        let together = machines().within(27);
        assert!(together.starts_with("NAME        STATE   HOST\n"), "{together}");
        let narrower = machines().within(26);
        assert_eq!(narrower, "NAME win11  STATE running\n  HOST CHANGES 0\nNAME a-long-name\n  STATE off");
        for width in 0..40 {
            let words =
                |text: &str| text.split_whitespace().filter(|word| !word.chars().all(char::is_uppercase)).count();
            assert_eq!(words(&machines().within(width)), words(&machines().to_string()), "{width}");
        }
    }

    #[test]
    fn a_cell_of_many_words_is_broken_in_a_paragraph() {
        let mut table = Table::new(&["NAME", "MAY RUN ON"]);
        table.row(["a-name-that-is-long", "the host's CPUs 0 to 3, and 8"]);
        assert_eq!(table.within(22), "NAME\n  a-name-that-is-long\n  MAY RUN ON the\n  host's CPUs 0 to 3,\n  and 8");
    }

    #[test]
    fn a_table_tells_how_many_lines_its_headings_have() {
        let headings = |width| machines().with_headings(width).1;
        assert_eq!([40, 30, 27, 26].map(headings), [1, 2, 2, 0]);
        let mut bare = Table::default();
        bare.row(["a", "b"]);
        assert_eq!(bare.with_headings(40), ("a  b".to_owned(), 0));
    }
}
