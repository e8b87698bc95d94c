//! Shapes as the text of an SVG document.

use std::fmt::Write as _;

use super::block::{Anchor, Block, Shape};
use super::colours;
use crate::units::is_obeyed;

/// The block as a document, with a margin around it.
pub fn document(block: &Block, margin: u32, title: &str) -> String {
    let (width, height) = (block.width + 2 * margin, block.height + 2 * margin);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"'DejaVu Sans', Verdana, system-ui, sans-serif\">\n<title>{}</title>\n\
         <rect x=\"0\" y=\"0\" width=\"{width}\" height=\"{height}\" rx=\"10\" fill=\"{}\"/>\n",
        escaped(title),
        colours::PAPER
    );
    for shape in &block.shapes {
        write(&mut text, shape, margin);
    }
    text.push_str("</svg>\n");
    text
}

fn write(text: &mut String, shape: &Shape, margin: u32) {
    // Writing to a String cannot fail.
    let _ = match shape {
        Shape::Rect { x, y, width, height, look, tip } => {
            let (x, y) = (x + margin, y + margin);
            let dashes = if look.dashed { " stroke-dasharray=\"4 3\"" } else { "" };
            let end = match tip {
                Some(tip) => format!("><title>{}</title></rect>", escaped(tip)),
                None => "/>".to_owned(),
            };
            writeln!(
                text,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"{}\" fill=\"{}\" stroke=\"{}\" \
                 stroke-width=\"{}\"{dashes}{end}",
                look.radius, look.fill, look.line, look.line_width
            )
        }
        Shape::Text { x, y, size, anchor, bold, underlined, fill, text: words } => {
            let (x, y) = (x + margin, y + margin);
            let mut more = String::new();
            if *anchor == Anchor::Middle {
                more.push_str(" text-anchor=\"middle\"");
            }
            if *bold {
                more.push_str(" font-weight=\"bold\"");
            }
            if *underlined {
                more.push_str(" text-decoration=\"underline\"");
            }
            writeln!(
                text,
                "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\" fill=\"{fill}\"{more}>{}</text>",
                escaped(words)
            )
        }
    };
}

/// The text with the characters that XML reads otherwise as entities, and without those that it has no place for, or that a reader of
/// a picture is misled by.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push(char::REPLACEMENT_CHARACTER),
            c if is_obeyed(c) => escaped.push(char::REPLACEMENT_CHARACTER),
            c => escaped.push(c),
        }
    }
    escaped
}
