//! `vfio-run status [NAME]`.

mod look;

use anyhow::Result;
use look::{Status, look};

use super::shared::machines::{about_unreadable, closed, does_not_run, names};
use crate::cli::{OutputArgs, StatusArgs};
use crate::host;
use crate::report::{self, Table, each_within, hanging};
use crate::run::LastFailure;
use crate::units::{exit, machine_state};

/// Shows the machines that run, then what needs attention: what was left behind, and which failed to start. Ends with 1 if a
/// machine was named and is not there.
pub fn status(args: &StatusArgs, output: OutputArgs) -> Result<u8> {
    if args.names {
        names()?.iter().for_each(|name| report::say(name));
        return Ok(exit::OK);
    }
    let names = match &args.name {
        Some(name) => vec![name.clone()],
        None => {
            let mut names = names()?;
            names.extend(closed());
            names.extend(LastFailure::names(&host::log_dir()));
            names.sort();
            names.dedup();
            names
        }
    };
    let mut all = Vec::new();
    for (name, found) in names.iter().zip(look_at_all(&names, args.name.is_some())) {
        // One journal that cannot be read must not hide the other machines.
        let found = found.unwrap_or_else(|error| {
            let remedy = Some(about_unreadable(name, &error));
            Some(Status { remedy, ..Status::new(name, machine_state::UNREADABLE) })
        });
        all.extend(
            found.or_else(|| {
                Some(Status::new(name, machine_state::FAILED)).filter(|status| status.last_failure.is_some())
            }),
        );
    }
    // In the order of their names otherwise.
    all.sort_by_key(urgency);
    let there = all.iter().any(Status::is_there);
    if output.json {
        match &args.name {
            Some(_) => report::json(&all.first())?,
            None => report::json(&all)?,
        }
    } else {
        let width = report::wrap_width();
        let mut parts = Vec::new();
        if there {
            parts.push(table(&all).within(width));
        }
        parts.extend(all.iter().filter_map(|status| about(status, args.name.is_some(), width)));
        parts.extend(all.iter().filter_map(|status| failure(status, width)));
        if !there {
            let no_name = || "no machine runs".to_owned();
            parts.push(hanging("", &args.name.as_ref().map_or_else(no_name, |name| does_not_run(name))));
        }
        report::say(&parts.join("\n\n"));
    }
    Ok(if args.name.is_some() && !there { exit::NOT_STARTED } else { exit::OK })
}

/// How each machine is. They are asked at once, so that the time that one of them takes is the time that all take.
fn look_at_all(names: &[String], closely: bool) -> Vec<Result<Option<Status>>> {
    std::thread::scope(|scope| {
        let looks: Vec<_> = names.iter().map(|name| scope.spawn(move || look(name, closely))).collect();
        looks.into_iter().map(|look| look.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

/// What runs comes first, then what somebody should do something about, then what is no more.
fn urgency(status: &Status) -> u8 {
    match status.state.as_str() {
        machine_state::FAILED => 2,
        machine_state::SILENT
        | machine_state::UNSUPERVISED
        | machine_state::LEFT_BEHIND
        | machine_state::UNREADABLE => 1,
        _ => 0,
    }
}

fn table(all: &[Status]) -> Table {
    let number = |n: Option<i32>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let mut table = Table::new(&["NAME", "STATE", "LAUNCHER", "QEMU", "HOST CHANGES"]);
    for s in all.iter().filter(|status| status.is_there()) {
        let cells = [s.name.clone(), s.state.clone(), number(s.launcher), number(s.qemu), s.changes.len().to_string()];
        table.row(cells);
    }
    table
}

/// How a guest is reached and what is to be done; of a machine that was named also which changes stand, and what happens on its
/// CPUs.
fn about(status: &Status, in_full: bool, width: usize) -> Option<String> {
    let mut rows: Vec<(&str, String)> = Vec::new();
    if let Some(reach) = &status.reach {
        // The addresses are all below.
        rows.extend(reach.lines(&status.name).into_iter().filter(|(what, _)| *what != "address"));
    }
    if !status.addresses.is_empty() {
        rows.push(("address", status.addresses.join(", ")));
    }
    if in_full {
        rows.extend(status.changes.iter().map(|change| ("change", change.clone())));
    }
    rows.extend(status.remedy.iter().map(|remedy| ("to do", remedy.clone())));
    let mut text = String::new();
    if !rows.is_empty() {
        text = format!("{}:", status.name);
        for (what, how) in &rows {
            text.push('\n');
            text.push_str(&hanging(&format!("  {what:<8} "), how));
        }
    }
    if let Some(activity) = &status.activity {
        text.push_str(if text.is_empty() { "" } else { "\n\n" });
        text.push_str(&activity.text(width));
    }
    (!text.is_empty()).then_some(text)
}

/// Why the last start failed, and how that is dismissed.
fn failure(status: &Status, width: usize) -> Option<String> {
    let told = status.last_failure.as_ref()?.describe(&status.name);
    let text = format!("{told}\n  `vfio-run recover --forget {}` dismisses this", status.name);
    Some(each_within(width, &text))
}
