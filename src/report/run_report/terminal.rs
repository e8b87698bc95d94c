//! The report of a run as text for a terminal.

use anstyle::{AnsiColor, Style};

use super::words::{self, Part, duration, name};
use crate::report::activity::stutter;
use crate::report::hanging::within;
use crate::run::{RunReport, TimedStep};
use crate::units::printable;

/// The least width that is drawn for; a narrower terminal breaks its lines.
const NARROWEST: usize = 40;
/// From this width on, bars stand beside their steps, below which they stand under them.
const WIDE: usize = 64;
/// Before each step.
const INDENT: usize = 2;
/// How wide the column of what the notes are about is.
const ABOUT: usize = 11;

/// The report, its picture no wider than `width` and its sentences than `wrap`. `now` says how a machine is that has not
/// ended.
pub fn text(report: &RunReport, now: Option<&str>, width: usize, wrap: usize) -> String {
    let width = width.max(NARROWEST);
    let bold = Style::new().bold();
    let mut blocks = Vec::new();
    let mut head = within(wrap, "", &words::headline(report, now));
    if let Some(rest) = head.strip_prefix(&printable(&report.name)) {
        head = format!("{bold}{}{bold:#}{rest}", printable(&report.name));
    }
    for line in words::more_of_why(report) {
        head.push_str(&format!("\n{}", within(wrap, "    ", &line)));
    }
    blocks.push(head);
    for part in words::parts(report) {
        let mut lines = vec![format!("{bold}{}{bold:#}", within(wrap, "", &part.title))];
        lines.extend(chart(&part, width));
        if part.steps.len() > 1 {
            lines.push(within(wrap, "  longest: ", &words::longest(&part)));
        }
        blocks.push(lines.join("\n"));
    }
    let notes = words::notes(report);
    let mut lines = Vec::new();
    for (about, note) in &notes {
        lines.push(within(wrap, &format!("{about:<ABOUT$}"), note));
        if *about == "changes" {
            lines.extend(words::changes(report).iter().map(|change| within(wrap, "  ", change)));
        }
    }
    if !lines.is_empty() {
        blocks.push(lines.join("\n"));
    }
    if let Some(report) = &report.stutter {
        blocks.push(format!("{bold}what happened on the guest's CPUs{bold:#}\n{}", stutter(report, wrap)));
    }
    blocks.join("\n\n")
}

/// The steps with their times, each a bar on one scale.
fn chart(part: &Part<'_>, width: usize) -> Vec<String> {
    let black = part.black.iter().map(|step| (step, '━'));
    let rows: Vec<(&TimedStep, char)> = part.steps.iter().map(|step| (step, '█')).chain(black).collect();
    let times: Vec<String> = rows.iter().map(|(step, _)| duration(step.took_ms)).collect();
    let times_width = times.iter().map(|time| time.chars().count()).max().unwrap_or(0);
    let names: Vec<String> = rows.iter().map(|(step, _)| name(step)).collect();
    let room = width - INDENT;
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let names_width = if width < WIDE { room } else { longest.min(room / 2) };
    let bars = if width < WIDE { room - 2 } else { room - names_width - 2 };
    let bars = bars.saturating_sub(times_width + 2);
    let mut lines = Vec::new();
    for (((step, glyph), time), name) in rows.iter().zip(&times).zip(&names) {
        let style = if step.failed { AnsiColor::Red.on_default() } else { Style::new() };
        let options = textwrap::Options::new(names_width)
            .subsequent_indent("  ")
            .word_splitter(textwrap::WordSplitter::NoHyphenation);
        let bar = format!("{time:>times_width$}  {}", bar(step, part.took, bars, *glyph));
        let mut wrapped = textwrap::wrap(name, options).into_iter();
        if width < WIDE {
            lines.extend(wrapped.map(|line| format!("  {style}{line}{style:#}")));
            lines.push(format!("    {style}{}{style:#}", bar.trim_end()));
            continue;
        }
        let first = wrapped.next().unwrap_or_default();
        let pad = " ".repeat(names_width.saturating_sub(first.chars().count()));
        lines.push(format!("  {style}{first}{pad}  {}{style:#}", bar.trim_end()));
        lines.extend(wrapped.map(|line| format!("  {style}{line}{style:#}")));
    }
    lines
}

/// A bar in so many columns. What is too short for one is a thin line.
fn bar(step: &TimedStep, whole: f64, columns: usize, glyph: char) -> String {
    if columns == 0 {
        return String::new();
    }
    let whole = whole.max(f64::MIN_POSITIVE);
    let at = |ms: f64| (ms / whole).clamp(0.0, 1.0) * columns as f64;
    let from = (at(step.at_ms).round() as usize).min(columns - 1);
    let length = (at(step.took_ms).round() as usize).min(columns - from);
    let filled = if length == 0 { "▏".to_owned() } else { glyph.to_string().repeat(length) };
    format!("{}{filled}", " ".repeat(from))
}
