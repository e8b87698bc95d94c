//! What happened on the guest's CPUs, as text: while it runs, and as a report after its end.

use super::Table;
use super::hanging::each_within;
use super::table::TOGETHER;
use crate::host::activity::{MemoryUse, Since, SinceThread, Stutter};
use crate::units::counted;

/// How many of the others are named.
const MOST: usize = 10;
/// What is said where nobody has looked yet.
const UNKNOWN: &str = "not known yet";
/// How many characters wide the plot is.
const WIDTH: usize = 60;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Threads, and what else was seen on the guest's CPUs. For a reader of this width, as all here.
pub fn since(since: &Since, width: usize) -> String {
    let runs = |number: u64| counted(usize::try_from(number).unwrap_or(usize::MAX), "run", "runs");
    let foreign = since.foreign.iter().map(|seen| match seen.threads {
        1 => format!("{} ({})", seen.name, runs(seen.runs)),
        threads => format!("{} ({threads} threads, {})", seen.name, runs(seen.runs)),
    });
    let interrupts = since.interrupts.iter().map(|one| format!("{} {} ({})", one.id, one.name, one.count));
    let (foreign, interrupts) = (named(&foreign.collect::<Vec<_>>()), named(&interrupts.collect::<Vec<_>>()));
    let mut text = told(&since.threads, &foreign, &interrupts, width);
    if let Some(stall) = since.memory_stall_ms {
        add(&mut text, width, &format!("programs of the host waited for memory: {}", milliseconds(stall)));
    }
    text
}

fn add(text: &mut String, width: usize, line: &str) {
    text.push('\n');
    text.push_str(&each_within(width, line));
}

/// What is known of threads before the first look, in the guest's first second.
pub fn before_first_look(threads: &[SinceThread], width: usize) -> String {
    told(threads, UNKNOWN, UNKNOWN, width)
}

fn told(threads: &[SinceThread], foreign: &str, interrupts: &str, width: usize) -> String {
    let mut table = Table::new(&["THREAD", "CPU", "MAY USE", "RAN", "WAITED", "SWITCHED OUT"]);
    for thread in threads {
        let cpu = thread.cpu.map_or_else(|| "-".to_owned(), |cpu| cpu.to_string());
        let time = |ms| milliseconds(ms).replace(' ', TOGETHER);
        let (ran, waited) = (time(thread.run_ms), time(thread.wait_ms));
        table.row([thread.name.clone(), cpu, thread.allowed.clone(), ran, waited, thread.involuntary.to_string()]);
    }
    let others = format!("other threads on the guest's CPUs: {foreign}\ninterrupts on the guest's CPUs: {interrupts}");
    format!("{}\n{}", table.within(width), each_within(width, &others))
}

/// The first of these, and how many there are besides.
fn named(all: &[String]) -> String {
    match all.len() {
        0 => "none".to_owned(),
        n if n > MOST => format!("{}, and {} more", all[..MOST].join(", "), n - MOST),
        _ => all.join(", "),
    }
}

/// What the guest's memory lies on.
pub fn memory(memory: &MemoryUse, width: usize) -> String {
    let parts = [
        ("huge pages of a pool", memory.huge),
        ("resident", memory.resident),
        ("of that transparent huge pages", memory.transparent),
        ("swapped out", memory.swapped),
    ];
    let parts = parts.iter().filter_map(|(what, size)| Some(format!("{} MiB {what}", (*size)?.as_mib())));
    each_within(width, &format!("memory of QEMU: {}", parts.collect::<Vec<_>>().join(", ")))
}

/// The report after a run.
pub fn stutter(report: &Stutter, width: usize) -> String {
    let mut text = since(&report.since, width);
    if let Some(locks) = report.split_locks {
        add(&mut text, width, &format!("threads with split locks: {locks}"));
    }
    if let Some(worst) = &report.worst {
        let (at, waited) = (worst.at_s, milliseconds(worst.wait_ms));
        let who = &worst.vcpu;
        add(
            &mut text,
            width,
            &format!("worst second: {at:.0} s after the start the vCPUs waited {waited}, most of all {who}"),
        );
    }
    if !report.culprits.is_empty() {
        let mut culprits: Vec<_> = report.culprits.iter().collect();
        culprits.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
        let culprits = culprits.iter().map(|(name, seconds)| format!("{name} ({seconds} s)"));
        let culprits = named(&culprits.collect::<Vec<_>>());
        add(&mut text, width, &format!("on the guest's CPUs in seconds with more than 5 ms of waiting: {culprits}"));
    }
    if !report.wait_ms.is_empty() {
        let most = report.wait_ms.iter().copied().fold(0.0, f64::max);
        let seconds = report.wait_ms.len() as u64 * u64::from(report.step_s);
        add(&mut text, width, &format!("the vCPUs' wait, over {seconds} s, up to {} a second:", milliseconds(most)));
        text.push('\n');
        text.push_str(&plot(&report.wait_ms, width));
    }
    text
}

/// A line of bars, each the highest of its values.
fn plot(values: &[f64], width: usize) -> String {
    let most = values.iter().copied().fold(0.0, f64::max);
    let bars = values.chunks(values.len().div_ceil(WIDTH.min(width)).max(1)).map(|part| {
        let value = part.iter().copied().fold(0.0, f64::max);
        let height = if most > 0.0 { value / most * (BARS.len() - 1) as f64 } else { 0.0 };
        BARS[(height.round() as usize).min(BARS.len() - 1)]
    });
    bars.collect()
}

fn milliseconds(ms: f64) -> String {
    if ms >= 10_000.0 { format!("{:.1} s", ms / 1e3) } else { format!("{ms:.1} ms") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::activity::{Seen, Worst};

    #[test]
    fn a_report_names_the_wait_and_who_caused_it() {
        let thread = |name: &str, wait_ms| SinceThread { name: name.to_owned(), wait_ms, ..SinceThread::default() };
        let report = Stutter {
            since: Since {
                threads: vec![thread("CPU 0/KVM", 90.0), thread("qemu-system-x86", 12_000.0)],
                foreign: vec![Seen { name: "stress".to_owned(), threads: 2, runs: 69 }],
                memory_stall_ms: Some(2.0),
                ..Since::default()
            },
            step_s: 1,
            wait_ms: vec![1.0, 88.0, 44.0],
            worst: Some(Worst { at_s: 2.0, wait_ms: 88.0, vcpu: "CPU 0/KVM".to_owned() }),
            culprits: [("cc1".to_owned(), 1), ("stress".to_owned(), 7)].into(),
            split_locks: Some(0),
        };
        let text = stutter(&report, usize::MAX);
        for words in [
            "90.0 ms",
            "12.0 s",
            "stress (2 threads, 69 runs)",
            "interrupts on the guest's CPUs: none",
            "waited for memory: 2.0 ms",
            "worst second: 2 s after the start the vCPUs waited 88.0 ms, most of all CPU 0/KVM",
            "of waiting: stress (7 s), cc1 (1 s)",
            "\n▁█▅",
        ] {
            assert!(text.contains(words), "{words:?} in\n{text}");
        }
        let many = Stutter { culprits: (0..12).map(|n| (format!("a{n:02}"), 1)).collect(), ..report };
        assert!(stutter(&many, usize::MAX).contains("a09 (1 s), and 2 more\n"), "{}", stutter(&many, usize::MAX));
        assert_eq!(plot(&[0.0; 200], usize::MAX).chars().count(), 50);
    }
    #[test]
    fn before_the_first_look_nothing_is_said_of_others() {
        let text =
            before_first_look(&[SinceThread { name: "CPU 0/KVM".to_owned(), ..SinceThread::default() }], usize::MAX);
        assert!(text.contains("CPU 0/KVM") && !text.contains("none"), "{text}");
        assert!(text.ends_with(
            "other threads on the guest's CPUs: not known yet\ninterrupts on the guest's CPUs: not known yet"
        ));
    }
}
