//! A page of Markdown as blocks of text, which both writers share.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// A page, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// What it is made of, in order.
    pub(super) blocks: Vec<Block>,
}

/// What stands on lines of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Block {
    /// A heading; 1 is the page's.
    Heading(u8, Line),
    /// A paragraph.
    Paragraph(Line),
    /// Text to be shown as it is, with its line breaks.
    Code(String),
    /// A list, with numbers or without.
    List { numbered: bool, items: Vec<Vec<Block>> },
    /// Terms, each with what it means. A row of a table is one too: the first cell is the term.
    Terms(Vec<(Line, Vec<Block>)>),
}

/// Text in a line, which a writer may break at blanks.
pub(super) type Line = Vec<Span>;

/// Text in one style.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    pub text: String,
    pub style: Look,
}

/// How a span looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Plain,
    /// What is typed or read in this form: a command, a value, a file.
    Code,
    Strong,
    Emphasis,
}

impl Page {
    /// Reads Markdown: headings, paragraphs, lists, tables, definitions, code, and links, whose addresses are kept if
    /// they lead to the web.
    pub fn parse(markdown: &str) -> Self {
        let options = Options::ENABLE_TABLES | Options::ENABLE_DEFINITION_LIST;
        let mut reader = Reader { events: Parser::new_ext(markdown, options) };
        Self { blocks: reader.blocks(None) }
    }
}

struct Reader<'a> {
    events: Parser<'a>,
}

impl Reader<'_> {
    /// Blocks up to the end of what they are in.
    fn blocks(&mut self, until: Option<TagEnd>) -> Vec<Block> {
        let mut blocks = Vec::new();
        // Text outside a paragraph: that of an item of a list without blank lines.
        let mut loose = Line::new();
        while let Some(event) = self.events.next() {
            let block = match event {
                Event::End(end) if Some(end) == until => break,
                Event::Start(Tag::Paragraph) => Block::Paragraph(self.line(TagEnd::Paragraph)),
                Event::Start(Tag::Heading { level, .. }) => {
                    Block::Heading(level as u8, self.line(TagEnd::Heading(level)))
                }
                Event::Start(Tag::CodeBlock(_)) => {
                    let text = self.line(TagEnd::CodeBlock).into_iter().map(|span| span.text).collect::<String>();
                    Block::Code(text.trim_end().to_owned())
                }
                Event::Start(Tag::List(first)) => {
                    let items = self.all_of(TagEnd::List(first.is_some()), |reader| reader.blocks(Some(TagEnd::Item)));
                    Block::List { numbered: first.is_some(), items }
                }
                Event::Start(Tag::DefinitionList) => self.definitions(),
                Event::Start(Tag::Table(_)) => self.table(),
                inline => {
                    self.span(inline, Look::Plain, &mut loose);
                    continue;
                }
            };
            if !loose.is_empty() {
                blocks.push(Block::Paragraph(std::mem::take(&mut loose)));
            }
            blocks.push(block);
        }
        if !loose.is_empty() {
            blocks.push(Block::Paragraph(loose));
        }
        blocks
    }

    /// Reads each part that begins, up to the end of what they are in.
    fn all_of<T>(&mut self, until: TagEnd, read: impl Fn(&mut Self) -> T) -> Vec<T> {
        let mut parts = Vec::new();
        while let Some(event) = self.events.next() {
            match event {
                Event::Start(_) => parts.push(read(self)),
                Event::End(end) if end == until => break,
                _ => {}
            }
        }
        parts
    }

    fn definitions(&mut self) -> Block {
        let mut terms: Vec<(Line, Vec<Block>)> = Vec::new();
        while let Some(event) = self.events.next() {
            match event {
                Event::Start(Tag::DefinitionListTitle) => {
                    terms.push((self.line(TagEnd::DefinitionListTitle), Vec::new()));
                }
                Event::Start(Tag::DefinitionListDefinition) => {
                    let meaning = self.blocks(Some(TagEnd::DefinitionListDefinition));
                    if let Some((_, all)) = terms.last_mut() {
                        all.extend(meaning);
                    }
                }
                Event::End(TagEnd::DefinitionList) => break,
                _ => {}
            }
        }
        Block::Terms(terms)
    }

    /// A table as terms: tables with long cells fit no terminal.
    fn table(&mut self) -> Block {
        let cells = |reader: &mut Self, end| reader.all_of(end, |reader| reader.line(TagEnd::TableCell));
        let mut heads = Vec::new();
        let mut terms = Vec::new();
        while let Some(event) = self.events.next() {
            match event {
                Event::Start(Tag::TableHead) => heads = cells(self, TagEnd::TableHead),
                Event::Start(Tag::TableRow) => {
                    let mut row = cells(self, TagEnd::TableRow).into_iter();
                    let term = row.next().unwrap_or_default();
                    let several = heads.len() > 2;
                    let meaning = row.zip(heads.iter().skip(1)).filter(|(cell, _)| !cell.is_empty());
                    let meaning = meaning.map(|(cell, head)| {
                        let mut line = Line::new();
                        if several {
                            let head = head.iter().map(|span| span.text.as_str()).collect::<String>();
                            line.push(Span { text: format!("{head}:"), style: Look::Emphasis });
                            line.push(Span { text: " ".to_owned(), style: Look::Plain });
                        }
                        line.extend(cell);
                        Block::Paragraph(line)
                    });
                    terms.push((term, meaning.collect()));
                }
                Event::End(TagEnd::Table) => break,
                _ => {}
            }
        }
        Block::Terms(terms)
    }

    /// The text up to the end of what it is in.
    fn line(&mut self, until: TagEnd) -> Line {
        let mut line = Line::new();
        while let Some(event) = self.events.next() {
            if event == Event::End(until) {
                break;
            }
            self.span(event, Look::Plain, &mut line);
        }
        line
    }

    fn span(&mut self, event: Event<'_>, style: Look, line: &mut Line) {
        match event {
            Event::Text(text) => line.push(Span { text: text.into_string(), style }),
            Event::Code(text) => line.push(Span { text: text.into_string(), style: Look::Code }),
            Event::SoftBreak | Event::HardBreak => line.push(Span { text: " ".to_owned(), style }),
            Event::Start(Tag::Strong) => self.styled(TagEnd::Strong, Look::Strong, line),
            Event::Start(Tag::Emphasis) => self.styled(TagEnd::Emphasis, Look::Emphasis, line),
            Event::Start(Tag::Link { dest_url, .. }) => {
                self.styled(TagEnd::Link, style, line);
                if dest_url.starts_with("http") {
                    line.push(Span { text: format!(" ({dest_url})"), style });
                }
            }
            _ => {}
        }
    }

    fn styled(&mut self, until: TagEnd, style: Look, line: &mut Line) {
        while let Some(event) = self.events.next() {
            if event == Event::End(until) {
                break;
            }
            self.span(event, style, line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Line {
        vec![Span { text: text.to_owned(), style: Look::Plain }]
    }

    #[test]
    fn a_row_of_a_table_is_a_term_and_empty_cells_are_left_out() {
        let page = Page::parse("| a | b | c |\n|---|---|---|\n| `x` | y | |\n| z | | w |\n");
        let head = |name: &str| {
            let head = Span { text: format!("{name}:"), style: Look::Emphasis };
            vec![head, Span { text: " ".to_owned(), style: Look::Plain }]
        };
        let meaning = |name, text: &str| vec![Block::Paragraph([head(name), plain(text)].concat())];
        let x = vec![Span { text: "x".to_owned(), style: Look::Code }];
        assert_eq!(page.blocks, [Block::Terms(vec![(x, meaning("b", "y")), (plain("z"), meaning("c", "w"))])]);
    }

    #[test]
    fn definitions_hold_paragraphs_and_lists_hold_code() {
        let page = Page::parse("t\n: one\n\n  two\n\n- a\n\n  ```\n  code\n\n  more\n  ```\n");
        let paragraph = |text| Block::Paragraph(plain(text));
        let terms = Block::Terms(vec![(plain("t"), vec![paragraph("one"), paragraph("two")])]);
        let list =
            Block::List { numbered: false, items: vec![vec![paragraph("a"), Block::Code("code\n\nmore".to_owned())]] };
        assert_eq!(page.blocks, [terms, list]);
    }
}
