//! A rehearsal, as people read it.

use super::hanging::each_within;
use super::table::Table;
use crate::run::{Rehearsal, Spread, Step};
use crate::units::counted;

/// The steps with their times, and what was left behind. For a reader of this width.
pub fn rehearsal(rehearsal: &Rehearsal, width: usize) -> String {
    let mut text = String::new();
    if rehearsal.completed > 0 {
        let mut table = Table::new(&["STEP (ms)", "THERE min", "median", "max", "BACK min", "median", "max"]);
        for step in rehearsal.steps.iter().chain([&rehearsal.total, &rehearsal.own]) {
            table.row(row(step));
        }
        text = table.within(width);
    }
    let mut line = |line: String| {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&each_within(width, &line));
    };
    if !rehearsal.stays.is_empty() {
        line(format!("left by design, as by a run: {}", rehearsal.stays.join(", ")));
    }
    for leak in &rehearsal.leaks {
        line(format!("leaked: {leak}"));
    }
    line(format!(
        "{} of {} of {} came back",
        rehearsal.completed,
        counted(rehearsal.rounds as usize, "round", "rounds"),
        rehearsal.name
    ));
    text
}

fn row(step: &Step) -> Vec<String> {
    let cells = |spread: Option<Spread>| match spread {
        Some(spread) => [spread.min, spread.median, spread.max].map(|ms| format!("{ms:.1}")),
        None => [const { String::new() }; 3],
    };
    let mut row = vec![step.step.clone()];
    row.extend(cells(step.there));
    row.extend(cells(step.back));
    row
}
