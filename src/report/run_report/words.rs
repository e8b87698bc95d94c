//! What is said of a run beside both pictures.

use jiff::tz::TimeZone;

use crate::run::{Black, ChangeResult, Ended, RunReport, TimedStep};
use crate::units::{counted, printable};

/// How many of the longest steps are named.
const LONGEST: usize = 3;

/// A part of the run that is drawn.
pub(super) struct Part<'a> {
    /// What it is.
    pub title: String,
    /// Its steps.
    pub steps: &'a [TimedStep],
    /// How long it took, in milliseconds.
    pub took: f64,
    /// When and for how long the screen was black.
    pub black: Option<TimedStep>,
}

/// The start and the way back, as far as their steps are known.
pub(super) fn parts(report: &RunReport) -> Vec<Part<'_>> {
    let ends = |steps: &[TimedStep]| steps.iter().map(|step| step.at_ms + step.took_ms).fold(0.0, f64::max);
    let mut parts = Vec::new();
    if !report.start.is_empty() {
        let took = report.guest_ran_ms.unwrap_or_else(|| ends(&report.start));
        let title = match report.guest_ran_ms {
            Some(_) => format!("the start: {} until the guest's first instruction", duration(took)),
            None => format!("the start: it failed after {}", duration(took)),
        };
        let black = report.black.as_ref().map(|it| black(it.from_ms, took));
        parts.push(Part { title, steps: &report.start, took, black });
    }
    if !report.back.is_empty() {
        let took = ends(&report.back);
        let by = report.end.as_ref().filter(|end| end.recovered.is_some()).map_or("", |_| " afterwards");
        let from = report.guest_ms().map_or("", |_| " from the guest's end on");
        let title = format!("giving back{by}, the last change first: {}{from}", duration(took));
        // The steps of a second attempt say nothing of the first.
        let second = report.end.as_ref().is_some_and(|end| end.recovered.is_some() && end.at_ms.is_some());
        let black = report.black.as_ref().filter(|_| !second).and_then(|it| Some(black(0.0, it.back_ms?)));
        parts.push(Part { title, steps: &report.back, took, black });
    }
    parts
}

fn black(from: f64, to: f64) -> TimedStep {
    TimedStep { step: "the screen is black".to_owned(), at_ms: from, took_ms: (to - from).max(0.0), failed: false }
}

/// The machine, when it was started, and how it ended or how it is `now`.
pub(super) fn headline(report: &RunReport, now: Option<&str>) -> String {
    let started = report.started.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M");
    let mut text = format!("{}, started {started}: ", printable(&report.name));
    let Some(end) = &report.end else {
        return text + now.unwrap_or("it has not ended");
    };
    // More lines of it are below.
    let words = printable(end.words.lines().next().unwrap_or_default().trim_end_matches(':'));
    text.push_str(&match end.how {
        Ended::ShutDown => format!("it shut down ({words})"),
        Ended::NotStarted => format!("it did not start: {words}"),
        Ended::Forced | Ended::Crashed | Ended::LauncherKilled => words,
    });
    if let Some(ms) = report.guest_ms() {
        text.push_str(&format!("; the guest had run for {}", duration(ms)));
    }
    if report.relaunches > 0 {
        let times = counted(report.relaunches as usize, "time", "times");
        text.push_str(&format!("; its QEMU was started anew {times}"));
    }
    text.push_str(&end.code.map_or_else(String::new, |code| format!("; exit code {code}")));
    text
}

/// The rest of why it ended, line by line.
pub(super) fn more_of_why(report: &RunReport) -> Vec<String> {
    let words = report.end.as_ref().map(|end| end.words.as_str()).unwrap_or_default();
    words.lines().skip(1).map(|line| printable(line.trim())).collect()
}

/// A step, and whether it failed.
pub(super) fn name(step: &TimedStep) -> String {
    let name = printable(&step.step);
    if step.failed { format!("{name}: failed") } else { name }
}

/// The longest steps of a part.
pub(super) fn longest(part: &Part<'_>) -> String {
    let mut steps: Vec<&TimedStep> = part.steps.iter().collect();
    steps.sort_by(|a, b| b.took_ms.total_cmp(&a.took_ms));
    let steps =
        steps.iter().take(LONGEST).map(|step| format!("{} ({})", printable(&step.step), duration(step.took_ms)));
    steps.collect::<Vec<_>>().join(", ")
}

/// What there is to say, with what each is about.
pub(super) fn notes(report: &RunReport) -> Vec<(&'static str, String)> {
    let mut notes: Vec<(&'static str, String)> = Vec::new();
    if report.start.is_empty() {
        notes.push(("start", "its steps are not known: nobody had noted them when its launcher was killed".to_owned()));
    }
    notes.extend(report.black.as_ref().map(|black| ("black", black_time(report, black))));
    match &report.vcpus {
        Some(vcpus) => {
            let all: f64 = vcpus.iter().map(|vcpu| vcpu.ran_ms).sum();
            let each = vcpus.iter().map(|vcpu| format!("{} {}", printable(&vcpu.vcpu), duration(vcpu.waited_ms)));
            let each = each.collect::<Vec<_>>().join(", ");
            notes.push(("vCPU wait", format!("for a CPU of the host: {each}; they ran for {}", duration(all))));
        }
        None if report.end.is_some() && report.guest_ran_ms.is_some() => {
            notes.push(("vCPU wait", "not known: QEMU ended before anybody could look".to_owned()));
        }
        None => {}
    }
    if report.end.is_some() {
        notes.push(("changes", restored(report)));
    }
    notes.extend(report.left.iter().map(|left| ("left", one_line(left))));
    if !report.left.is_empty() {
        notes.push(("to do", format!("`vfio-run recover {}` tries again", printable(&report.name))));
    }
    notes.extend(report.warnings.iter().map(|warning| ("warning", one_line(warning))));
    notes
}

/// A text whose lines follow one another on one, and stay apart.
fn one_line(text: &str) -> String {
    let mut all = String::new();
    for line in text.lines().map(|line| printable(line.trim())).filter(|line| !line.is_empty()) {
        all.push_str(match all.chars().last() {
            None => "",
            Some(':' | ';' | ',' | '.') => " ",
            Some(_) => "; ",
        });
        all.push_str(&line);
    }
    all
}

fn black_time(report: &RunReport, black: &Black) -> String {
    let (by, back) = (printable(&black.by), black.back_ms);
    let Some(ran) = report.guest_ran_ms else {
        let start = parts(report).first().map_or(0.0, |part| part.took) - black.from_ms;
        return match back {
            Some(back) => format!(
                "the screen was black for {}, from \"{by}\" until the host had it again",
                duration(start + back)
            ),
            None => format!("the screen was black from \"{by}\" on"),
        };
    };
    let mut text = format!(
        "the screen was black for {} at least, from \"{by}\" until the guest's first instruction; the guest's first picture came \
         after that, unseen by the host",
        duration(ran - black.from_ms)
    );
    match &black.sign {
        Some(seen) => text.push_str(&format!(
            ", and likely by {} after the screen went, when the guest's first sign of life was seen ({})",
            duration(seen.at_ms - black.from_ms),
            seen.sign
        )),
        None => text.push_str(", and no sign of life was seen"),
    }
    if let Some(back) = back {
        let seen = report.end.as_ref().is_some_and(|end| end.at_ms.is_some());
        let by = if seen { "after the guest's end" } else { "afterwards" };
        text.push_str(&format!("; {by} the host had its screen again in {}", duration(back)));
    }
    text
}

fn restored(report: &RunReport) -> String {
    let stand = report.changes.iter().filter(|change| change.result == ChangeResult::Stands).count();
    let foreign = report.changes.iter().filter(|change| change.result == ChangeResult::NotOurs).count();
    let all = report.changes.len();
    let by = report.end.as_ref().and_then(|end| end.recovered).map_or("", |_| " afterwards");
    match (all, stand + foreign) {
        (0, _) => "none were made to the host".to_owned(),
        (1, 0) => format!("the one that was made to the host was restored{by}"),
        (all, 0) => format!("all {all} that were made to the host were restored{by}"),
        (all, other) => format!("{} of {all} that were made to the host were restored{by}", all - other),
    }
}

/// The changes to the host, with what became of each that was not just restored.
pub(super) fn changes(report: &RunReport) -> Vec<String> {
    let one = |change: &crate::run::ReportedChange| {
        let name = printable(&change.change);
        match change.result {
            ChangeResult::Restored => name,
            ChangeResult::AlreadyBack => format!("{name}: was as before already"),
            ChangeResult::NotOurs => {
                let found = change.found.as_deref().map(printable).unwrap_or_default();
                format!("{name}: left alone, since another program changed it meanwhile (found: {found})")
            }
            ChangeResult::Stands => format!("{name}: not restored"),
        }
    };
    report.changes.iter().map(one).collect()
}

/// A time, as precise as a reader needs.
pub(super) fn duration(ms: f64) -> String {
    let seconds = (ms / 1e3).round().max(0.0) as u64;
    match ms {
        ms if ms < 9.95 => format!("{:.1} ms", ms.max(0.0)),
        ms if ms < 9_999.5 => format!("{ms:.0} ms"),
        ms if ms < 119_950.0 => format!("{:.1} s", ms / 1e3),
        _ if seconds < 7200 && seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        _ if seconds < 7200 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_become_one_stay_apart() {
        let said = "QEMU ended, and it said nothing\nthe whole log: /a.log";
        assert_eq!(one_line(said), "QEMU ended, and it said nothing; the whole log: /a.log");
        assert_eq!(one_line("QEMU ended:\n  a\n\n  b"), "QEMU ended: a; b");
    }
}
