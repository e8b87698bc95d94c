//! Reports of runs, as a terminal shows them without colours and as SVG.

use vfio_run::host::activity::Stutter;
use vfio_run::machine::Sign;
use vfio_run::report::run_report;
use vfio_run::run::{Black, ChangeResult, End, Ended, ReportedChange, RunReport, Seen, TimedStep, VcpuTime};

use super::svg::{self, Element};

/// Steps that follow one another, from this moment on.
fn steps(mut at_ms: f64, steps: &[(&str, f64)]) -> Vec<TimedStep> {
    let one = |(step, took_ms): &(&str, f64)| {
        let step = TimedStep { step: (*step).to_owned(), at_ms, took_ms: *took_ms, failed: false };
        at_ms += took_ms;
        step
    };
    steps.iter().map(one).collect()
}

fn changes(names: &[&str]) -> Vec<ReportedChange> {
    let one = |name: &&str| ReportedChange { change: (*name).to_owned(), result: ChangeResult::Restored, found: None };
    names.iter().map(one).collect()
}

const STOP: &str = "stop gdm.service";
const LEAVE: &str = "unbind the consoles from vtcon1";
const BIND: &str = "bind 0000:01:00.0 to vfio-pci";
const WRITES: &str =
    "write 24 attributes: /sys/devices/system/cpu/cpufreq/policy*/scaling_governor, /proc/irq/*/smp_affinity_list";

/// The only card of a desktop, handed over and given back.
fn whole() -> RunReport {
    let start = steps(
        0.0,
        &[
            ("lock, leases and journal", 3.2),
            ("folders, files and holds", 1.6),
            (WRITES, 26.0),
            ("fill the guest's memory", 1630.0),
            ("sockets and helpers", 9.25),
            ("trial of QEMU's command line", 310.0),
            ("look at VFIO and at who uses the devices", 4.0),
            (STOP, 890.0),
            (LEAVE, 61.5),
            (BIND, 250.0),
            ("ask VFIO for the devices", 0.4),
            ("QEMU starts and answers", 640.0),
            ("place QEMU's threads", 2.1),
            ("console and devices that come and go", 1.0),
        ],
    );
    RunReport {
        name: "win11".to_owned(),
        started: "2026-11-29T22:10:00Z".parse().unwrap(),
        started_ms: Some(1e6),
        guest_ran_ms: Some(start.iter().map(|step| step.took_ms).sum()),
        start,
        black: Some(Black {
            from_ms: 1984.05,
            by: STOP.to_owned(),
            sign: Some(Seen { sign: Sign::Driver, at_ms: 13_400.0 }),
            back_ms: Some(1240.0),
        }),
        relaunches: 0,
        end: Some(End {
            time: "2026-11-29T23:22:07Z".parse().unwrap(),
            at_ms: Some(4_323_829.0),
            how: Ended::ShutDown,
            words: "guest-shutdown".to_owned(),
            code: Some(0),
            recovered: None,
        }),
        back: steps(
            0.0,
            &[("end QEMU and its helpers", 21.0), (BIND, 312.0), (LEAVE, 41.0), (STOP, 866.0), (WRITES, 31.0)],
        ),
        vcpus: Some(
            (0..6)
                .map(|number| VcpuTime {
                    vcpu: format!("CPU {number}/KVM"),
                    ran_ms: 600_000.0,
                    waited_ms: 1.25 * f64::from(number),
                })
                .collect(),
        ),
        changes: changes(&[WRITES, STOP, LEAVE, BIND]),
        left: Vec::new(),
        warnings: Vec::new(),
        stutter: None,
    }
}

/// A start that fails when the screen is gone already; its program's words are somebody else's.
fn failed() -> RunReport {
    let mut report = whole();
    report.start.truncate(10);
    report.start.last_mut().unwrap().failed = true;
    report.guest_ran_ms = None;
    report.vcpus = None;
    report.end = Some(End {
        at_ms: Some(3_185.55),
        how: Ended::NotStarted,
        words: "could not bind 0000:01:00.0 to vfio-pci:\n  no\u{1b}[2J such <device>".to_owned(),
        code: Some(5),
        ..report.end.unwrap()
    });
    report.black.as_mut().unwrap().sign = None;
    report.changes[0].result = ChangeResult::AlreadyBack;
    report.changes[1].result = ChangeResult::NotOurs;
    report.changes[1].found = Some("failed\u{7}".to_owned());
    report.changes[3].result = ChangeResult::Stands;
    report.left = vec![format!("could not undo: {BIND} (the driver hangs)")];
    report.warnings =
        vec!["the hook restored failed (exit status: 7):\n  no\nthe whole log: /var/log/vfio-run/win11.log".to_owned()];
    report
}

/// A run whose launcher was killed while it started, and one that was restored by `recover`.
fn killed() -> RunReport {
    let mut report = whole();
    (report.start, report.started_ms, report.guest_ran_ms, report.black) = (Vec::new(), None, None, None);
    report.vcpus = None;
    report.back.remove(0);
    report.end = Some(End {
        at_ms: None,
        how: Ended::LauncherKilled,
        words: "its launcher was killed before the guest ran".to_owned(),
        code: None,
        recovered: Some("2026-11-29T23:30:00Z".parse().unwrap()),
        ..report.end.unwrap()
    });
    report
}

/// One whose launcher was killed while the guest ran.
fn killed_later() -> RunReport {
    let (start, guest_ran_ms, black) = (whole().start, whole().guest_ran_ms, whole().black);
    let mut report = RunReport { start, guest_ran_ms, black, ..killed() };
    report.black.as_mut().unwrap().sign = None;
    report.end.as_mut().unwrap().words = "its launcher was killed while the guest ran".to_owned();
    report
}

/// One that runs.
fn running() -> RunReport {
    let mut report = whole();
    (report.end, report.back, report.vcpus, report.changes) = (None, Vec::new(), None, Vec::new());
    report.black.as_mut().unwrap().back_ms = None;
    report
}

/// A machine without devices that crashed.
fn plain() -> RunReport {
    let mut report = whole();
    report.start = steps(0.0, &[("lock, leases and journal", 0.02), ("QEMU starts and answers", 0.03)]);
    (report.guest_ran_ms, report.black) = (Some(0.05), None);
    report.relaunches = 2;
    (report.back, report.changes) = (Vec::new(), Vec::new());
    report.vcpus = None;
    report.stutter = Some(Stutter {
        since: Default::default(),
        step_s: 1,
        wait_ms: vec![1.0, 7.0],
        worst: None,
        culprits: Default::default(),
        split_locks: None,
    });
    report
}

fn cases() -> Vec<(&'static str, RunReport, Option<&'static str>)> {
    vec![
        ("the only card of a desktop", whole(), None),
        ("a start that failed", failed(), None),
        ("a launcher that was killed", killed(), None),
        ("a launcher that was killed while the guest ran", killed_later(), None),
        ("a machine that runs", running(), Some("it runs")),
        ("a machine without devices", plain(), None),
    ]
}

fn text(report: &RunReport, now: Option<&str>, width: usize, wrap: usize) -> String {
    let text = anstream::adapter::strip_str(&run_report::text(report, now, width, wrap)).to_string();
    // Wherever this runs.
    let local = report.started.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string();
    text.replace(&local, "2026-11-29 22:10")
}

/// All of them as one text, for people to review.
pub fn terminal() -> String {
    let mut all = String::new();
    for (name, report, now) in cases() {
        all.push_str(&format!("== {name}\n{}\n\n", text(&report, now, 80, 80)));
    }
    let (name, report, now) = &cases()[0];
    all.push_str(&format!("== {name}, 40 columns\n{}\n\n", text(report, *now, 40, 40)));
    all + &format!("== {name}, in a pipe\n{}\n", text(report, *now, 80, usize::MAX))
}

#[test]
fn a_report_is_as_wide_as_the_terminal_and_has_nothing_that_a_terminal_obeys() {
    for (name, report, now) in cases() {
        for width in [20, 40, 63, 64, 80, 200] {
            let text = text(&report, now, width, width.max(40));
            for line in text.lines() {
                // Paths stay whole below the picture, and the values of a report about CPUs are a table.
                let fits = line.chars().count() <= width.max(40) || line.contains('/') || report.stutter.is_some();
                assert!(fits, "{name}: wider than {width}:\n{line}\nin\n{text}");
            }
            assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
        }
        let plain = text(&report, now, 80, usize::MAX);
        for step in report.start.iter().chain(&report.back) {
            let first = step.step.split(' ').next().unwrap();
            assert!(plain.contains(first), "{name}: no {first} in\n{plain}");
        }
    }
}

#[test]
fn in_a_picture_all_is_in_its_box_and_bars_do_not_overlap() {
    for (name, report, now) in cases() {
        let elements = svg::elements(&run_report::svg(&report, now));
        let boxes: Vec<&Element> = elements.iter().filter(|element| element.name == "rect").collect();
        for element in &elements {
            let (from, to) =
                if element.name == "text" { element.extent() } else { (element.x, element.x + element.width) };
            let whole = boxes[0];
            assert!(
                whole.contains(element) && from >= 0.0 && to <= whole.width,
                "{name}: {element:?} leaves the picture"
            );
        }
        // Beside the ground there are bars, which say how long their steps took.
        let is_bar = |element: &&&Element| element.tip.as_ref().is_some_and(|tip| tip.contains(", from "));
        let bars: Vec<&&Element> = boxes.iter().filter(is_bar).collect();
        let black = elements.iter().filter(|element| element.text == "the screen is black").count();
        assert_eq!(bars.len(), report.start.len() + report.back.len() + black, "{name}");
        for (number, bar) in bars.iter().enumerate() {
            assert!(bars[number + 1..].iter().all(|other| bar.is_apart(other)), "{name}: {bar:?}");
            let texts = elements.iter().filter(|element| element.name == "text");
            for text in texts.filter(|text| text.y > bar.y && text.y < bar.y + bar.height) {
                assert!(text.extent().1 <= bar.x, "{name}: {text:?} is on {bar:?}");
            }
        }
    }
}
