//! Rectangles and texts at their places, put together without overlapping.

use super::colours;

/// Between blocks.
const GAP: u32 = 8;

/// A rectangle of shapes.
#[derive(Debug, Clone, Default)]
pub struct Block {
    /// In pixels, as all here.
    pub width: u32,
    pub height: u32,
    pub shapes: Vec<Shape>,
}

/// What is drawn.
#[derive(Debug, Clone)]
pub enum Shape {
    Rect { x: u32, y: u32, width: u32, height: u32, look: Look, tip: Option<String> },
    Text { x: u32, y: u32, size: u32, anchor: Anchor, bold: bool, underlined: bool, fill: &'static str, text: String },
}

/// How a rectangle looks.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    pub fill: &'static str,
    pub line: &'static str,
    /// How wide the line is.
    pub line_width: u32,
    pub dashed: bool,
    pub radius: u32,
}

/// What of a text is at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    Start,
    Middle,
}

impl Look {
    /// A filled rectangle with a thin line.
    pub fn of(fill: &'static str, line: &'static str) -> Self {
        Self { fill, line, line_width: 1, dashed: false, radius: 4 }
    }
}

impl Block {
    /// A rectangle of this size.
    pub fn rect(width: u32, height: u32, look: Look, tip: Option<String>) -> Self {
        Self { width, height, shapes: vec![Shape::Rect { x: 0, y: 0, width, height, look, tip }] }
    }

    /// Puts another block into this one.
    pub fn put(&mut self, x: u32, y: u32, block: Self) {
        self.shapes.extend(block.shapes.into_iter().map(|shape| shape.moved(x, y)));
    }

    /// Puts a text into this one, whose baseline is at `y`.
    pub fn write(&mut self, (x, y): (u32, u32), size: u32, anchor: Anchor, fill: &'static str, text: &str) {
        let text = text.to_owned();
        self.shapes.push(Shape::Text { x, y, size, anchor, bold: false, underlined: false, fill, text });
    }

    /// Makes a block larger, with its frame, which is its first rectangle.
    fn stretch(&mut self, to_width: u32, to_height: u32) {
        (self.width, self.height) = (self.width.max(to_width), self.height.max(to_height));
        if let Some(Shape::Rect { width, height, .. }) = self.shapes.first_mut() {
            (*width, *height) = (self.width, self.height);
        }
    }
}

impl Shape {
    fn moved(mut self, by_x: u32, by_y: u32) -> Self {
        let (Self::Rect { x, y, .. } | Self::Text { x, y, .. }) = &mut self;
        *x += by_x;
        *y += by_y;
        self
    }
}

/// How wide a text becomes at most, in the widest of the usual fonts without serifs.
pub fn measure(text: &str, size: u32, bold: bool) -> u32 {
    let of = |c: char| match c {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '\'' | '|' | ' ' | 'I' => 40,
        'f' | 'r' | 't' | '-' | '(' | ')' | '[' | ']' | '*' => 50,
        'm' | 'w' | 'M' | 'W' | '@' | '%' => 100,
        'A'..='Z' => 76,
        _ if c.is_ascii() => 66,
        _ => 110,
    };
    let hundredths: u64 = text.chars().map(of).sum();
    let bolder = if bold { 110 } else { 100 };
    u32::try_from((hundredths * u64::from(size) * bolder).div_ceil(100 * 100)).unwrap_or(u32::MAX)
}

/// Blocks below each other.
pub fn below(blocks: Vec<Block>) -> Block {
    let mut all = Block::default();
    for block in blocks.into_iter().filter(|block| block.height > 0) {
        let y = if all.height > 0 { all.height + GAP } else { 0 };
        all.width = all.width.max(block.width);
        all.height = y + block.height;
        all.put(0, y, block);
    }
    all
}

/// Blocks with frames side by side, in as many rows as they need, of nearly equal length: columns and rows line up.
pub fn grid(mut blocks: Vec<Block>, width: u32) -> Block {
    let widest = blocks.iter().map(|block| block.width).max().unwrap_or(0);
    let fit = usize::try_from((width + GAP) / (widest + GAP)).unwrap_or(1).max(1);
    let columns = blocks.len().div_ceil(blocks.len().div_ceil(fit).max(1)).max(1);
    for column in 0..columns {
        let widest = blocks.iter().skip(column).step_by(columns).map(|block| block.width).max().unwrap_or(0);
        blocks.iter_mut().skip(column).step_by(columns).for_each(|block| block.stretch(widest, 0));
    }
    for row in blocks.chunks_mut(columns) {
        let highest = row.iter().map(|block| block.height).max().unwrap_or(0);
        row.iter_mut().for_each(|block| block.stretch(0, highest));
    }
    below(blocks.chunks(columns).map(beside).collect())
}

/// Blocks side by side, in as many rows as they need.
pub fn flow(blocks: Vec<Block>, width: u32) -> Block {
    let mut rows: Vec<Vec<Block>> = Vec::new();
    let mut used = 0;
    for block in blocks {
        match rows.last_mut() {
            Some(row) if used + GAP + block.width <= width => {
                used += GAP + block.width;
                row.push(block);
            }
            _ => {
                used = block.width;
                rows.push(vec![block]);
            }
        }
    }
    below(rows.iter().map(|row| beside(row)).collect())
}

fn beside(row: &[Block]) -> Block {
    let height = row.iter().map(|block| block.height).max().unwrap_or(0);
    let mut all = Block { height, ..Block::default() };
    for block in row {
        let x = if all.width > 0 { all.width + GAP } else { 0 };
        all.width = x + block.width;
        all.put(x, 0, block.clone());
    }
    all
}

/// A text in lines that are no wider than this.
pub fn text_lines(text: &str, size: u32, bold: bool, fill: &'static str, width: u32) -> Block {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let joined = lines.last().map(|line| format!("{line} {word}"));
        match (lines.last_mut(), joined) {
            (Some(line), Some(joined)) if measure(&joined, size, bold) <= width => *line = joined,
            _ => lines.extend(broken(word, size, bold, width)),
        }
    }
    written(&lines, size, bold, fill)
}

/// These lines below each other.
pub fn written(lines: &[String], size: u32, bold: bool, fill: &'static str) -> Block {
    let pitch = size + size / 3;
    let mut block = Block::default();
    for (line, number) in lines.iter().zip(0..) {
        block.width = block.width.max(measure(line, size, bold));
        block.height = (number + 1) * pitch;
        let (y, text) = (number * pitch + size, line.clone());
        block.shapes.push(Shape::Text { x: 0, y, size, anchor: Anchor::Start, bold, underlined: false, fill, text });
    }
    block
}

/// A word in parts that have room; lists of CPUs are broken behind commas.
fn broken(word: &str, size: u32, bold: bool, width: u32) -> Vec<String> {
    if measure(word, size, bold) <= width {
        return vec![word.to_owned()];
    }
    let mut parts = vec![String::new()];
    for piece in word.split_inclusive(',') {
        for piece in chopped(piece, size, bold, width) {
            match parts.last_mut() {
                Some(last) if measure(last, size, bold) + measure(&piece, size, bold) <= width => last.push_str(&piece),
                _ => parts.push(piece),
            }
        }
    }
    parts
}

fn chopped(piece: &str, size: u32, bold: bool, width: u32) -> Vec<String> {
    if measure(piece, size, bold) <= width {
        return vec![piece.to_owned()];
    }
    piece.chars().map(String::from).collect()
}

/// A swatch or a list of CPUs: a text in a rectangle.
pub fn chip(text: &str, size: u32, look: Look, width: u32) -> Block {
    const PAD: u32 = 5;
    let lines = text_lines(text, size, false, colours::INK, width.saturating_sub(2 * PAD));
    let mut block = Block::rect(lines.width + 2 * PAD, lines.height + 2 * PAD - 2, look, None);
    block.put(PAD, PAD - 2, lines);
    block
}
