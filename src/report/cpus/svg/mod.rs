//! The map as a picture in SVG: boxes in boxes, with a legend.

mod boxes;
mod colours;
mod legend;

use boxes::{Boxes, device};

use super::map::Map;
use super::outline::{drawn, outline};
use super::words;
use crate::report::svg::block::{self, Block, below, text_lines};
use crate::report::svg::document;

/// How wide what is in the picture may become.
const WIDTH: u32 = 1120;
/// A picture of less is as wide as this, so that sentences have room.
const NARROWEST: u32 = 640;
/// Around everything.
const MARGIN: u32 = 20;

/// The map as an SVG document.
pub fn svg(map: &Map) -> String {
    let mut parts = Vec::new();
    let planned = map.machines.iter().find(|machine| !machine.runs);
    let (model, rest) = words::headline(map);
    let title = match planned {
        Some(machine) => format!("{} on {model}", words::name(machine)),
        None => model,
    };
    let devices: Vec<Block> = map.host.devices.iter().map(|one| device(one, map)).collect();
    let items = outline(map);
    let drawn = drawn(&items);
    let picture = below(vec![block::flow(devices, WIDTH), Boxes::of(map, &drawn).items(&items, WIDTH)]);
    let width = picture.width.clamp(NARROWEST, WIDTH);
    parts.push(text_lines(&title, 18, true, colours::INK, width));
    parts.push(text_lines(&rest, 13, false, colours::PALE_INK, width));
    parts.push(picture);
    parts.push(block::flow(legend::entries(map, &drawn), width));
    let sentences = words::notes(map).into_iter().chain(map.machines.iter().map(words::sentence));
    parts.extend(sentences.map(|text| text_lines(&text, 12, false, colours::INK, width)));
    document(&below(parts), MARGIN, &title)
}
