//! A page as the source of a man page.

use roff::{Inline, Roff, bold, italic, roman};

use super::page::{Block, Line, Look, Page};

/// What a man page begins and ends with.
pub(super) struct Head<'a> {
    pub name: String,
    pub section: u8,
    pub about: &'a str,
    pub see_also: String,
}

/// The source, for `man`.
pub(super) fn source(head: &Head<'_>, page: &Page) -> String {
    let mut roff = Roff::new();
    let version = concat!("vfio-run ", env!("CARGO_PKG_VERSION"));
    roff.control("TH", [head.name.as_str(), &head.section.to_string(), "", version, "vfio-run"]);
    roff.control("SH", ["NAME"]).text([roman(format!("{} - {}", head.name, head.about))]);
    let mut described = false;
    for block in &page.blocks {
        match block {
            Block::Heading(1, _) => {}
            Block::Heading(level, line) => {
                described = true;
                let text: String = line.iter().map(|span| span.text.as_str()).collect();
                roff.control(if *level == 2 { "SH" } else { "SS" }, [text.as_str()]);
            }
            block => {
                if !described {
                    roff.control("SH", ["DESCRIPTION"]);
                    described = true;
                }
                write(block, &mut roff);
            }
        }
    }
    roff.control("SH", ["SEE ALSO"]).text([roman(head.see_also.as_str())]);
    roff.render()
}

fn write(block: &Block, roff: &mut Roff) {
    match block {
        // Only at the top of a page.
        Block::Heading(_, line) | Block::Paragraph(line) => {
            roff.control("PP", []).text(inlines(line));
        }
        Block::Code(text) => {
            roff.control("PP", []).control("RS", ["4"]).control("nf", []);
            for line in text.lines() {
                roff.text([roman(line)]);
            }
            roff.control("fi", []).control("RE", []);
        }
        Block::List { numbered, items } => {
            for (index, item) in items.iter().enumerate() {
                let mark = if *numbered { format!("{}.", index + 1) } else { "\u{2022}".to_owned() };
                roff.control("IP", [mark.as_str(), "4"]);
                inside(item, "4", roff);
            }
        }
        Block::Terms(terms) => {
            for (term, meaning) in terms {
                roff.control("TP", []).text(inlines(term));
                inside(meaning, "7", roff);
            }
        }
    }
}

/// Blocks after a mark or a term: the first stands beside it, the others are indented as far.
fn inside(blocks: &[Block], indent: &str, roff: &mut Roff) {
    let rest = match blocks {
        [Block::Paragraph(line), rest @ ..] => {
            roff.text(inlines(line));
            rest
        }
        rest => rest,
    };
    if !rest.is_empty() {
        roff.control("RS", [indent]);
        rest.iter().for_each(|block| write(block, roff));
        roff.control("RE", []);
    }
}

fn inlines(line: &Line) -> Vec<Inline> {
    line.iter()
        .map(|span| match span.style {
            Look::Plain => roman(span.text.as_str()),
            Look::Code | Look::Strong => bold(span.text.as_str()),
            Look::Emphasis => italic(span.text.as_str()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_roff_would_take_for_its_own_is_text() {
        let head = Head { name: "x".to_owned(), section: 7, about: "about", see_also: "y(1)".to_owned() };
        let source =
            source(&head, &Page::parse("# x: about\n\n```\n.so /etc/passwd\n'a \\n\n```\n\n## Next\n\n- one\n"));
        assert!(!source.contains("\n.so") && !source.contains("\n'a"), "{source}");
        assert!(source.contains("\\&.so /etc/passwd") && source.contains(".SH Next\n.IP"), "{source}");
    }
}
