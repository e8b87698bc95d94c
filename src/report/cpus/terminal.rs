//! The map as text for a terminal.

use std::collections::BTreeSet;

use anstyle::{AnsiColor, Style};
use textwrap::core::display_width;

use super::line::{Line, boxes, wrapped};
use super::map::{Map, Module, Thread};
use super::outline::{Cores, Item, Ranges, drawn, outline, title};
use super::words;
use crate::units::printable_up_to;

/// The least width that a picture is made for; a narrower terminal breaks its lines.
const NARROWEST: usize = 48;
/// The same of the sentences around it.
const NARROWEST_TEXT: usize = 40;
/// What a box takes of its content's width.
const FRAME: usize = 4;
/// Between two cores, or modules of cores.
const BETWEEN: &str = " │ ";
/// Longer names of machines are cut where they stand before a row; below the picture they are whole.
const LONGEST_NAME: usize = 12;
/// The colours of the machines, in their order.
const COLOURS: [AnsiColor; 6] = [
    AnsiColor::Cyan,
    AnsiColor::Yellow,
    AnsiColor::Magenta,
    AnsiColor::Green,
    AnsiColor::BrightBlue,
    AnsiColor::BrightMagenta,
];

/// The map, no line of it wider than this (those of the picture: or than 48 columns).
pub fn text(map: &Map, width: usize) -> String {
    let (sentence, width) = (width.max(NARROWEST_TEXT), width.max(NARROWEST));
    let items = outline(map);
    let drawn = drawn(&items);
    let painter = Painter::of(map, &drawn);
    let (model, rest) = words::headline(map);
    let mut lines = wrapped(&format!("{model}: {rest}"), sentence, "  ");
    lines.extend(map.host.devices.iter().flat_map(|device| wrapped(&words::device(device), sentence, "  ")));
    lines.extend(painter.items(&items, width));
    let legend = words::legend(&drawn);
    if !legend.is_empty() {
        lines.extend(wrapped(&legend.join("; "), sentence, "  "));
    }
    lines.extend(words::notes(map).iter().flat_map(|note| wrapped(note, sentence, "  ")));
    if !map.machines.is_empty() {
        lines.push(Line::default());
    }
    lines.extend(map.machines.iter().flat_map(|machine| wrapped(&words::sentence(machine), sentence, "  ")));
    lines.iter().map(Line::text).map(str::trim_end).collect::<Vec<_>>().join("\n")
}

fn colour(machine: usize) -> Style {
    COLOURS[machine % COLOURS.len()].on_default()
}

fn frame() -> Style {
    Style::new().dimmed()
}

struct Painter {
    /// The machines' names, as they stand before a row.
    names: Vec<String>,
    /// How wide these are.
    before: usize,
    /// How wide a CPU's column is.
    column: usize,
}

impl Painter {
    fn of(map: &Map, drawn: &[&Thread]) -> Self {
        let name = |machine| printable_up_to(&words::name(machine), LONGEST_NAME);
        let names: Vec<String> = map.machines.iter().map(name).collect();
        let uses = || drawn.iter().flat_map(|thread| &thread.uses);
        let longest = uses().filter_map(|one| names.get(one.index)).map(|name| display_width(name)).max();
        let labels = uses().map(|one| display_width(&words::label(one))).max();
        let numbers = drawn.iter().map(|thread| thread.cpu.to_string().len()).max();
        Self { before: longest.unwrap_or(0).max(3) + 1, column: labels.max(numbers).unwrap_or(1), names }
    }

    /// These items below each other, in so many columns.
    fn items(&self, items: &[Item], width: usize) -> Vec<Line> {
        let mut lines = Vec::new();
        // Boxes that follow one another are of one width.
        let mut pending: Vec<(String, Vec<Line>)> = Vec::new();
        for item in items {
            if let Item::Group(group, inner) = item {
                let room = width.saturating_sub(FRAME);
                let mut content = Vec::new();
                let mut heading = title(group);
                if display_width(&heading) + 1 > room {
                    content.extend(wrapped(&heading, room, "  "));
                    heading.clear();
                }
                content.extend(group.devices.iter().flat_map(|device| wrapped(&words::device(device), room, "  ")));
                content.extend(self.items(inner, room));
                pending.push((heading, content));
                continue;
            }
            lines.extend(boxes(std::mem::take(&mut pending), frame()));
            match item {
                Item::Cores(cores) => lines.extend(self.cores(cores, width)),
                Item::Ranges(ranges) => lines.extend(self.ranges(ranges, width)),
                Item::Group(..) => {}
            }
        }
        lines.extend(boxes(pending, frame()));
        lines
    }

    /// Cores side by side: a row with the numbers of the CPUs, and one for each machine that has some of them.
    fn cores(&self, cores: &Cores, width: usize) -> Vec<Line> {
        let mut lines = cores.heading.as_ref().map_or_else(Vec::new, |heading| wrapped(heading, width, "  "));
        let cells: Vec<Cell> = cores.modules.iter().map(|module| Cell::of(module)).collect();
        for row in rows(&cells, width.saturating_sub(self.before), self.column) {
            lines.push(self.row("CPU", Style::new(), &row, |thread| (number_style(thread), thread.cpu.to_string())));
            let uses = row.iter().flat_map(|cell| &cell.threads).flat_map(|thread| &thread.uses);
            let machines: BTreeSet<usize> = uses.map(|one| one.index).collect();
            for (index, name) in machines.into_iter().filter_map(|index| Some((index, self.names.get(index)?))) {
                lines.push(self.row(name, colour(index), &row, |thread| {
                    let found = thread.uses.iter().find(|one| one.index == index);
                    let style = match found.is_some_and(|one| one.vcpus.is_some()) {
                        true if thread.is_shared() => AnsiColor::Red.on_default().bold(),
                        true => colour(index).bold(),
                        false => colour(index),
                    };
                    (style, found.map(words::label).unwrap_or_default())
                }));
            }
        }
        lines
    }

    fn row(&self, name: &str, style: Style, cells: &[Cell], what: impl Fn(&Thread) -> (Style, String)) -> Line {
        let mut line = Line::default();
        line.push(style, name);
        line.pad(self.before);
        for (number, cell) in cells.iter().enumerate() {
            if number > 0 {
                line.push(frame(), BETWEEN);
            }
            for (at, thread) in cell.threads.iter().enumerate() {
                line.push(
                    Style::new(),
                    if at == 0 {
                        ""
                    } else if cell.begins.contains(&at) {
                        "  "
                    } else {
                        " "
                    },
                );
                let (style, text) = what(thread);
                line.push(Style::new(), &" ".repeat(self.column.saturating_sub(display_width(&text))));
                line.push(style, &text);
            }
        }
        line
    }

    /// The CPUs of each as a list, side by side.
    fn ranges(&self, ranges: &Ranges, width: usize) -> Vec<Line> {
        const NAME: &str = "CPUs ";
        let mut lines = wrapped(&ranges.heading, width, "  ");
        let room = width.saturating_sub(NAME.len());
        let texts: Vec<String> = ranges.sets.iter().flat_map(|set| pieces(&set.to_string(), room)).collect();
        let column = texts.iter().map(|text| display_width(text)).max().unwrap_or(1);
        let side_by_side = balanced(texts.len(), (room + display_width(BETWEEN)) / (column + display_width(BETWEEN)));
        for row in texts.chunks(side_by_side) {
            let mut line = Line::of(NAME);
            for (number, text) in row.iter().enumerate() {
                if number > 0 {
                    line.push(frame(), BETWEEN);
                }
                line.push(Style::new(), &format!("{text:column$}"));
            }
            lines.push(line);
        }
        lines
    }
}

/// The threads of a module, or a part of them if there is no room for all in a line.
#[derive(Clone)]
struct Cell<'a> {
    threads: Vec<&'a Thread>,
    /// Where a core of several threads begins, after the first.
    begins: Vec<usize>,
}

impl<'a> Cell<'a> {
    fn of(module: &'a Module) -> Self {
        let mut cell = Self { threads: Vec::new(), begins: Vec::new() };
        for core in &module.cores {
            if core.threads.len() > 1 && !cell.threads.is_empty() {
                cell.begins.push(cell.threads.len());
            }
            cell.threads.extend(&core.threads);
        }
        cell
    }

    fn width(&self, column: usize) -> usize {
        self.threads.len() * (column + 1) + self.begins.len()
    }
}

/// The cells in rows of nearly equal length; cells that have no room in a row are broken.
fn rows<'a>(cells: &[Cell<'a>], width: usize, column: usize) -> Vec<Vec<Cell<'a>>> {
    let between = display_width(BETWEEN);
    let widest = cells.iter().map(|cell| cell.width(column)).max().unwrap_or(1) - 1;
    if widest > width {
        let threads = (width.saturating_sub(1) / (column + 2)).max(1);
        let broken = cells.iter().flat_map(|cell| cell.threads.chunks(threads));
        return broken.map(|part| vec![Cell { threads: part.to_vec(), begins: Vec::new() }]).collect();
    }
    let side_by_side = balanced(cells.len(), (width + between) / (widest + between));
    cells.chunks(side_by_side).map(<[Cell]>::to_vec).collect()
}

/// How many stand side by side if at most so many do, and no row is much shorter than others.
fn balanced(number: usize, most: usize) -> usize {
    number.div_ceil(number.div_ceil(most.max(1)).max(1)).max(1)
}

/// A list of CPUs in pieces of at most this length, broken between numbers.
fn pieces(list: &str, width: usize) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    for part in list.split(',') {
        match pieces.last_mut() {
            Some(last) if last.len() + 1 + part.len() <= width => last.push_str(&format!(",{part}")),
            _ => pieces.push(part.to_owned()),
        }
    }
    pieces
}

fn number_style(thread: &Thread) -> Style {
    let style = Style::new();
    match (thread.isolated, thread.forbidden) {
        (_, true) => style.dimmed(),
        (true, _) => style.underline(),
        _ => style,
    }
}
