//! Reading XML that others wrote: bounded, without entities, with errors that name the place.

use std::borrow::Cow;

use roxmltree::{Document, ParsingOptions};
use serde::Serialize;

use crate::units::{printable, printable_start};

/// An element.
pub type Node<'d> = roxmltree::Node<'d, 'd>;

/// A domain is some hundred lines.
pub const MAX_TEXT: usize = 1 << 20;
/// Deeper than any element of a domain's.
const MAX_DEPTH: usize = 32;
const MAX_NODES: u32 = 65536;
/// How much of a value is shown.
const SHOWN: usize = 70;

/// The name of an element's text, or of the element itself if it has nothing in it.
pub const TEXT: &str = "";

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The file, if it is not the one that is imported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Its line, from 1.
    pub line: u32,
    /// The value as it is written there.
    pub text: String,
    /// Its path: `devices/disk[2]/driver@cache`; of scripts none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
}

/// Why a domain could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// The text is no XML.
    #[error("line {line}, column {column}: {what}")]
    Xml {
        /// Line, from 1.
        line: u32,
        /// Column, from 1.
        column: u32,
        /// What is wrong there.
        what: String,
    },
    /// It is XML, and no domain that can be imported.
    #[error("{0}")]
    NoDomain(String),
}

/// The text without a declaration that is not at its very beginning, as pasted files have it; lines and columns stay.
pub fn plain(text: &str) -> Cow<'_, str> {
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    let declared = text.len() - text.trim_start().len();
    let end = text.find("?>").map(|end| end + 2);
    match end.filter(|_| declared > 0 && text[declared..].starts_with("<?xml")) {
        Some(end) => {
            let blank = text[declared..end].chars().map(|c| if c == '\n' { c } else { ' ' });
            Cow::Owned(text[..declared].chars().chain(blank).chain(text[end..].chars()).collect())
        }
        None => Cow::Borrowed(text),
    }
}

/// Parses a text.
pub fn parse(text: &str) -> Result<Document<'_>, Unreadable> {
    if text.len() > MAX_TEXT {
        return Err(Unreadable::NoDomain("it is larger than 1 MiB, and no domain is".to_owned()));
    }
    if let Some(at) = too_deep(text) {
        let before = &text[..at];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let what = format!("elements are nested more than {MAX_DEPTH} deep");
        return Err(Unreadable::Xml { line: number(line), column: number(column), what });
    }
    let options = ParsingOptions { allow_dtd: false, nodes_limit: MAX_NODES, ..ParsingOptions::default() };
    Document::parse_with_options(text, options).map_err(|error| {
        let place = error.pos();
        let what = match &error {
            roxmltree::Error::DtdDetected => "a document type definition is not read; remove it".to_owned(),
            _ if !text.trim_start().starts_with('<') && text.contains("<domain") => {
                "there is text before `<domain>`; remove it".to_owned()
            }
            // The parser's words end with the place, and quote what was found there.
            other => printable(other.to_string().split(" at ").next().unwrap_or_default()),
        };
        Unreadable::Xml { line: place.row, column: place.col, what }
    })
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Where tags nest too deep. The parser calls itself for each level, so this is asked before it.
fn too_deep(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(found) = text[at..].find('<') {
        let start = at + found;
        let rest = &text[start..];
        let skip = |end: &str| rest.find(end).map_or(rest.len(), |found| found + end.len());
        at = start
            + if rest.starts_with("<!--") {
                skip("-->")
            } else if rest.starts_with("<![CDATA[") {
                skip("]]>")
            } else if rest.starts_with("<?") {
                skip("?>")
            } else {
                let length = tag_length(rest);
                let tag = &rest[..length];
                if tag.starts_with("</") {
                    depth = depth.saturating_sub(1);
                } else if !tag.ends_with("/>") {
                    depth += 1;
                }
                length
            };
        if depth > MAX_DEPTH {
            return Some(start);
        }
    }
    None
}

/// The length of a tag, whose attributes may have a `>` in quotes.
fn tag_length(tag: &str) -> usize {
    let mut quote = None;
    for (at, c) in tag.char_indices() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None, '>') => return at + 1,
            _ => {}
        }
    }
    tag.len()
}

/// The first child of this name.
pub fn child<'d>(node: Node<'d>, name: &str) -> Option<Node<'d>> {
    children(node, name).next()
}

/// The children of this name.
pub fn children<'d, 'n>(node: Node<'d>, name: &'n str) -> impl Iterator<Item = Node<'d>> + use<'d, 'n> {
    node.children().filter(move |child| child.is_element() && child.tag_name().name() == name)
}

/// An element's text without blanks around it.
pub fn text<'d>(node: Node<'d>) -> &'d str {
    node.text().unwrap_or_default().trim()
}

/// Whether the element itself is a value: it has text, or there is nothing else in it.
pub fn has_own_value(node: Node) -> bool {
    let children = node.children().any(|child| child.is_element());
    !text(node).is_empty() || (!children && node.attributes().len() == 0)
}

/// Where a value of an element stands.
pub fn place(node: Node, name: &str) -> Place {
    let range = match node.attribute_node(name) {
        Some(attribute) if name != TEXT => attribute.range(),
        _ => node.range(),
    };
    let line = node.document().text_pos_at(range.start).row;
    let tag = node.tag_name().name();
    let value = |value: &str| printable_start(value, SHOWN);
    let written = match (name, text(node)) {
        (TEXT, "") => format!("<{tag}>"),
        (TEXT, inside) => format!("<{tag}>{}", value(inside)),
        // Reports are shown to others.
        ("passwd", _) => format!("<{tag} {name}='…'>"),
        _ => {
            let written = node.attribute(name).unwrap_or_default();
            let shown = written.split_once("osk=").map_or(written, |(before, _)| before);
            format!("<{tag} {name}='{}'>", value(shown))
        }
    };
    let path = if name == TEXT { path(node) } else { format!("{}@{name}", path(node)) };
    Place { file: None, line, text: written, path }
}

/// The path of an element below the domain, with its number if it has brothers.
fn path(node: Node) -> String {
    let mut parts = Vec::new();
    let mut at = Some(node);
    while let Some(element) = at.filter(|element| element.parent_element().is_some()) {
        let name = element.tag_name().name();
        let same = |other: &Node| other.is_element() && other.tag_name().name() == name;
        let before = element.prev_siblings().skip(1).filter(same).count();
        let after = element.next_siblings().skip(1).filter(same).count();
        parts.push(if before + after == 0 { name.to_owned() } else { format!("{name}[{}]", before + 1) });
        at = element.parent_element();
    }
    parts.reverse();
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        parse(text).map(drop).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_xml_is_refused_with_its_place() {
        assert!(refused("<domain>\n  <name>x</nam></domain>").starts_with("line 2, column "), "{}", refused("<a></b>"));
        assert!(refused("").contains("line 1"));
        let quoted = refused("<domain><a b\u{1b}='x'/></domain>");
        assert!(quoted.contains('\u{fffd}') && !quoted.contains(char::is_control), "{quoted}");
    }

    #[test]
    fn a_declaration_may_stand_below_blank_lines() {
        let text = "\n  <?xml version='1.0'\n?><domain/>";
        let plain = plain(text);
        let document = parse(&plain).unwrap();
        assert_eq!(document.text_pos_at(document.root_element().range().start).row, 3);
        assert_eq!(super::plain("\u{FEFF}<?xml version='1.0'?><a/>"), "<?xml version='1.0'?><a/>");
    }

    #[test]
    fn entities_and_depth_are_bounded() {
        let bomb = "<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><domain>&b;</domain>";
        assert!(refused(bomb).contains("document type definition"), "{}", refused(bomb));
        let deep = "<a>".repeat(100_000);
        assert!(refused(&deep).contains("nested more than 32 deep"));
        // A `/>` in quotes ends no tag.
        let hidden = "<a b='/>'>".repeat(1000);
        assert!(refused(&hidden).contains("nested more than 32 deep"));
        assert!(refused(&"<a/>".repeat(400_000)).contains("1 MiB"));
    }
}
