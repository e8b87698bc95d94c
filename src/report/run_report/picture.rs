//! The report of a run as a picture in SVG.

use super::words::{self, Part, duration, name};
use crate::report::svg::block::{Anchor, Block, Look, below, text_lines};
use crate::report::svg::{colours, document};
use crate::run::{RunReport, TimedStep};
use crate::units::printable;

/// How wide what is in the picture is, in pixels, as all here.
const WIDTH: u32 = 900;
/// Around everything.
const MARGIN: u32 = 20;
/// The columns: names, times, and bars, with what is between them.
const NAMES: u32 = 320;
const TIMES: u32 = 76;
const BETWEEN: u32 = 12;
const BARS: u32 = WIDTH - NAMES - TIMES - 2 * BETWEEN;
/// Sizes of texts.
const TEXT: u32 = 12;
const SMALL: u32 = 10;
/// A bar, and what is at least above and below it.
const BAR: u32 = 12;
const GAP: u32 = 4;
/// Where the scale is written.
const SCALE: u32 = 20;

const GROUND: &str = "#f2f4f7";
const BLACK: &str = "#d5dae1";
const START: &str = "#1a5fb4";
const BACK: &str = "#0d7377";

/// The report as an SVG document. `now` says how a machine is that has not ended.
pub fn svg(report: &RunReport, now: Option<&str>) -> String {
    let title = words::headline(report, now);
    let mut blocks = vec![text_lines(&title, 16, true, colours::INK, WIDTH)];
    for (part, fill) in words::parts(report).iter().zip([START, BACK]) {
        blocks.push(text_lines(&part.title, 14, true, colours::INK, WIDTH));
        blocks.push(chart(part, fill));
    }
    for (about, note) in words::notes(report) {
        blocks.push(text_lines(&format!("{about}: {note}"), TEXT, false, colours::INK, WIDTH));
        if about == "changes" {
            let changes = words::changes(report).join("; ");
            blocks.push(text_lines(&changes, TEXT, false, colours::PALE_INK, WIDTH));
        }
    }
    document(&below(blocks), MARGIN, &title)
}

/// A row for each step: its name, its time, and its bar on one scale.
fn chart(part: &Part<'_>, fill: &'static str) -> Block {
    let steps: Vec<&TimedStep> = part.steps.iter().chain(&part.black).collect();
    let names: Vec<Block> = steps.iter().map(|step| text_lines(&name(step), TEXT, false, ink(step), NAMES)).collect();
    let height = |name: &Block| name.height.max(BAR) + GAP;
    let rows: u32 = names.iter().map(height).sum();
    let bars = NAMES + TIMES + 2 * BETWEEN;
    let mut chart = Block { width: WIDTH, height: SCALE + rows + GAP, shapes: Vec::new() };
    let ground = Look { radius: 2, ..Look::of(GROUND, GROUND) };
    chart.put(bars, SCALE, Block::rect(BARS, rows + GAP, ground, None));
    if let Some(black) = &part.black {
        let (from, to) = ends(black, part.took);
        let look = Look { radius: 0, ..Look::of(BLACK, BLACK) };
        chart.put(bars + from, SCALE, Block::rect(to - from, rows + GAP, look, None));
    }
    for (at, text) in scale(part.took) {
        let at = column(at, part.took);
        let line = Look { radius: 0, ..Look::of(colours::LINE, colours::LINE) };
        // The last may stand where the ground ends.
        chart.put(bars + at.min(BARS - 1), SCALE, Block::rect(1, rows + GAP, line, None));
        chart.write((bars + at, SCALE - 6), SMALL, Anchor::Middle, colours::PALE_INK, &text);
    }
    let mut y = SCALE + GAP;
    for (step, name) in steps.into_iter().zip(names) {
        let row = height(&name);
        chart.put(0, y - 2, name);
        chart.write((NAMES + BETWEEN, y + TEXT - 2), TEXT, Anchor::Start, ink(step), &duration(step.took_ms));
        let (from, to) = ends(step, part.took);
        let fill = match step {
            step if part.black.as_ref() == Some(step) => colours::INK,
            step if step.failed => colours::WRONG,
            _ => fill,
        };
        let look = Look { radius: 2, ..Look::of(fill, fill) };
        let tip = format!("{}, from {} on: {}", printable(&step.step), duration(step.at_ms), duration(step.took_ms));
        chart.put(bars + from, y, Block::rect(to - from, BAR, look, Some(tip)));
        y += row;
    }
    chart
}

fn ink(step: &TimedStep) -> &'static str {
    if step.failed { colours::WRONG } else { colours::INK }
}

/// From where to where a step goes on the scale; the shortest is a line.
fn ends(step: &TimedStep, whole: f64) -> (u32, u32) {
    let from = column(step.at_ms, whole).min(BARS - 2);
    (from, column(step.at_ms + step.took_ms, whole).max(from + 2))
}

/// Where a moment is on the scale.
fn column(ms: f64, whole: f64) -> u32 {
    ((ms / whole.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0) * f64::from(BARS)).round() as u32
}

/// Round numbers on the scale, four to eight of them, the first being 0.
fn scale(whole: f64) -> Vec<(f64, String)> {
    let label = |at: f64| if at > 0.0 { duration(at) } else { "0".to_owned() };
    if whole < 0.1 {
        return vec![(0.0, label(0.0))];
    }
    let power = 10_f64.powf((whole / 4.0).log10().floor());
    let step = [5.0, 2.0, 1.0].map(|digit| digit * power).into_iter().find(|step| whole / step >= 4.0).unwrap_or(power);
    (0..).map(|number| f64::from(number) * step).take_while(|at| *at <= whole).map(|at| (at, label(at))).collect()
}
