//! What a text in Markdown holds, as its reader sees it.

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// A cell of a table.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cell {
    text: String,
    spans: Vec<String>,
}

impl Cell {
    /// Its text.
    pub fn plain(&self) -> &str {
        &self.text
    }

    /// What it names: the code in it, or its text.
    pub fn names(&self) -> Vec<String> {
        if self.spans.is_empty() { vec![self.text.clone()] } else { self.spans.clone() }
    }
}

fn events(text: &str) -> Parser<'_> {
    Parser::new_ext(text, Options::ENABLE_TABLES)
}

/// Tables, as rows of cells; the first row has the headings.
pub fn tables(text: &str) -> Vec<Vec<Vec<Cell>>> {
    let (mut tables, mut inside) = (Vec::<Vec<Vec<Cell>>>::new(), false);
    for event in events(text) {
        let row = tables.last_mut().and_then(|table| table.last_mut());
        match event {
            Event::Start(Tag::Table(_)) => tables.push(Vec::new()),
            Event::Start(Tag::TableHead | Tag::TableRow) => tables.last_mut().unwrap().push(Vec::new()),
            Event::Start(Tag::TableCell) => {
                row.unwrap().push(Cell::default());
                inside = true;
            }
            Event::End(TagEnd::TableCell) => inside = false,
            Event::Text(part) if inside => row.unwrap().last_mut().unwrap().text.push_str(&part),
            Event::Code(part) if inside => {
                let cell = row.unwrap().last_mut().unwrap();
                cell.text.push_str(&part);
                cell.spans.push(part.to_string());
            }
            _ => {}
        }
    }
    tables
}

/// Code in lines.
pub fn spans(text: &str) -> Vec<String> {
    events(text).filter_map(|event| if let Event::Code(code) = event { Some(code.to_string()) } else { None }).collect()
}

/// Blocks of code in this language.
pub fn code(text: &str, language: &str) -> Vec<String> {
    let (mut blocks, mut wanted) = (Vec::new(), false);
    for event in events(text) {
        match event {
            Event::Start(Tag::CodeBlock(kind)) => {
                wanted = matches!(&kind, CodeBlockKind::Fenced(name) if **name == *language);
                if wanted {
                    blocks.push(String::new());
                }
            }
            Event::End(TagEnd::CodeBlock) => wanted = false,
            Event::Text(part) if wanted => blocks.last_mut().unwrap().push_str(&part),
            _ => {}
        }
    }
    blocks
}

/// Addresses that it leads to, pictures among them.
pub fn links(text: &str) -> Vec<String> {
    let address = |event| match event {
        Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => Some(dest_url.to_string()),
        _ => None,
    };
    events(text).filter_map(address).collect()
}

/// Command lines of the program, as spans of code and as lines of blocks, without `sudo`, comments and what they are
/// piped into.
pub fn commands(text: &str) -> Vec<String> {
    let blocks = code(text, "");
    let lines = blocks.iter().flat_map(|block| block.lines()).map(str::to_owned);
    let command = |line: String| {
        let line = line.trim().trim_start_matches("sudo ");
        let end = [" #", " | ", " >"].iter().filter_map(|mark| line.find(mark)).min().unwrap_or(line.len());
        line.starts_with("vfio-run ").then(|| line[..end].trim().to_owned())
    };
    spans(text).into_iter().chain(lines).filter_map(command).collect()
}
