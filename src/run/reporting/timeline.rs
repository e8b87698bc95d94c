//! The report of a run in the making: which step begins when. It costs a look at the clock a step, and nothing while the
//! guest runs.

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};

use super::contents::{Black, RunReport, Seen, TimedStep, VcpuTime};
use crate::change::Change;
use crate::host::Root;
use crate::host::activity::Activity;
use crate::journal::UndoReport;
use crate::machine::Sign;
use crate::run::ending::restore::RestoreStep;
use crate::units::PciAddress;

/// The report of a run in the making.
#[derive(Debug)]
pub(in crate::run) struct Timeline {
    report: RunReport,
    /// Whether the guest does not run yet.
    starts: bool,
    /// The step that goes on, and when it began.
    open: Option<(String, f64)>,
    /// The first step of the start that may have taken the host's screen, and whether one was begun that surely takes it.
    black: Option<(String, f64)>,
    taken: bool,
    /// The cards that show the host's screen and are taken.
    cards: Vec<PciAddress>,
    /// The QEMU whose vCPUs were looked at last, with them, and what those of others before it came to.
    seen: Option<(i32, Vec<VcpuTime>)>,
    earlier: Vec<VcpuTime>,
    /// When the guest had ended, since the host was booted.
    ended_ms: Option<f64>,
}

/// What a step does to the host's screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Screen {
    Stays,
    /// It ends what shows on it, if the screen goes too.
    MayGo,
    Goes,
}

impl Screen {
    /// A desktop ends with its unit, before the consoles, the firmware's framebuffer or the cards that show it are taken.
    fn of(change: &Change, cards: &[PciAddress]) -> Self {
        match change {
            Change::LeaveConsole(_) | Change::ReleaseBootScreen(_) => Self::Goes,
            Change::BindDriver(bind) if cards.contains(&bind.address) => Self::Goes,
            Change::StopUnit(_) | Change::StopUserUnit(_) => Self::MayGo,
            _ => Self::Stays,
        }
    }
}

impl Timeline {
    /// A run begins, with this step. `cards` are those that show the host's screen and are taken.
    pub fn begin(name: &str, cards: &[PciAddress], step: &str) -> Self {
        let mut timeline = Self::of(RunReport::begun(name, Timestamp::now(), Some(now_ms())));
        timeline.starts = true;
        timeline.open = Some((step.to_owned(), 0.0));
        timeline.cards = cards.to_vec();
        timeline
    }

    /// Goes on with what another launcher of this run has noted.
    pub fn of(report: RunReport) -> Self {
        Self {
            report,
            starts: false,
            open: None,
            black: None,
            cards: Vec::new(),
            taken: false,
            seen: None,
            earlier: Vec::new(),
            ended_ms: None,
        }
    }

    /// What is known so far.
    pub fn report(&self) -> &RunReport {
        &self.report
    }

    /// The same, to be completed.
    pub fn into_report(self) -> RunReport {
        self.report
    }

    /// A step of the start begins, and the one before has ended.
    pub fn step(&mut self, step: &str) {
        self.begins(step.to_owned(), Screen::Stays);
    }

    /// The same for a change.
    pub fn change(&mut self, change: &Change) {
        self.begins(change.to_string(), Screen::of(change, &self.cards));
    }

    fn begins(&mut self, step: String, screen: Screen) {
        // A guest that restarts in a new QEMU is started already.
        if !self.starts {
            return;
        }
        let now = self.since_start();
        self.close(now, false);
        if screen != Screen::Stays && self.black.is_none() {
            self.black = Some((step.clone(), now));
        }
        self.taken |= screen == Screen::Goes;
        self.open = Some((step, now));
    }

    /// The step that goes on has failed; the start ends, or does without.
    pub fn fails(&mut self) {
        let now = self.since_start();
        self.close(now, true);
    }

    fn close(&mut self, now: f64, failed: bool) {
        if let Some((step, at_ms)) = self.open.take() {
            self.report.start.push(TimedStep { step, at_ms, took_ms: micro(now - at_ms), failed });
        }
    }

    /// The guest executes its first instruction.
    pub fn guest_runs(&mut self) {
        if !self.starts {
            self.report.relaunches += 1;
            return;
        }
        self.starts = false;
        let now = self.since_start();
        self.close(now, false);
        self.report.guest_ran_ms = Some(now);
        self.note_black();
    }

    fn note_black(&mut self) {
        if let Some((by, from_ms)) = self.black.take().filter(|_| self.taken) {
            self.report.black = Some(Black { from_ms, by, sign: None, back_ms: None });
        }
    }

    /// The guest shows a sign of life. Says whether that is news.
    pub fn sign(&mut self, sign: Sign) -> bool {
        let at_ms = self.since_start();
        match &mut self.report.black {
            Some(black) if black.sign.is_none() => {
                black.sign = Some(Seen { sign, at_ms });
                true
            }
            _ => false,
        }
    }

    /// QEMU is about to end: looks at its vCPUs. The last look counts, of those that came in time.
    pub fn look_at_vcpus(&mut self, qemu: i32) {
        let now = Activity::read(&Root::new("/"), qemu, None);
        let vcpus = now.since(&Activity::default()).threads.into_iter().filter(|thread| thread.is_vcpu());
        let vcpus = vcpus.map(|t| VcpuTime { vcpu: t.name, ran_ms: t.run_ms, waited_ms: t.wait_ms });
        self.saw_vcpus(qemu, vcpus.collect());
    }

    fn saw_vcpus(&mut self, qemu: i32, vcpus: Vec<VcpuTime>) {
        match &mut self.seen {
            // Threads go one after the other when a process ends.
            Some((last, seen)) if *last == qemu && vcpus.len() >= seen.len() => *seen = vcpus,
            Some((last, _)) if *last == qemu => return,
            _ if vcpus.is_empty() => return,
            seen => {
                *seen = Some((qemu, vcpus));
                self.earlier = self.report.vcpus.take().unwrap_or_default();
            }
        }
        let mut all = self.earlier.clone();
        for vcpu in self.seen.iter().flat_map(|(_, seen)| seen) {
            match all.iter_mut().find(|known| known.vcpu == vcpu.vcpu) {
                Some(known) => {
                    known.ran_ms += vcpu.ran_ms;
                    known.waited_ms += vcpu.waited_ms;
                }
                None => all.push(vcpu.clone()),
            }
        }
        self.report.vcpus = Some(all);
    }

    /// QEMU has ended, or the start has failed: from here on the host is given back.
    pub fn ends(&mut self) {
        let now = now_ms();
        self.ended_ms = Some(now);
        self.fails();
        self.note_black();
    }

    /// When that was, from the start on; `None`: nobody was there.
    pub fn ended_at(&self) -> Option<f64> {
        Some(micro(self.ended_ms? - self.report.started_ms?))
    }

    /// A step of giving back that began then and has just ended.
    pub fn gave_back(&mut self, step: &str, took_ms: f64) {
        self.back(step.to_owned(), now_ms() - took_ms, took_ms, false);
    }

    /// A step of restoring the host.
    pub fn restored(&mut self, step: &RestoreStep<'_>, hooks: bool) {
        match step {
            RestoreStep::Hooks(stage, took) if hooks => {
                self.gave_back(&format!("hooks of `{}`", stage.name()), took.as_secs_f64() * 1e3);
            }
            RestoreStep::Hooks(..) => {}
            RestoreStep::Undone(UndoReport { change, result, took, begun, .. }) => {
                let at = now_ms() - begun.elapsed().as_secs_f64() * 1e3;
                self.back(change.to_string(), at, took.whole.as_secs_f64() * 1e3, result.is_err());
                let ends = self.report.back.last().map(|step| micro(step.at_ms + step.took_ms));
                // Of a second attempt nobody knows how long the screen was black before.
                let first = self.report.end.is_none() && Screen::of(change, &self.cards) != Screen::Stays;
                if let Some(black) = self.report.black.as_mut().filter(|_| first) {
                    black.back_ms = ends.filter(|_| result.is_ok()).or(black.back_ms);
                }
            }
        }
    }

    fn back(&mut self, step: String, at: f64, took_ms: f64, failed: bool) {
        // A second attempt takes the place of the first, if it has anything to do.
        let from = *self.ended_ms.get_or_insert_with(|| {
            self.report.back.clear();
            at
        });
        let at_ms = micro((at - from).max(0.0));
        self.report.back.push(TimedStep { step, at_ms, took_ms: micro(took_ms), failed });
    }

    fn since_start(&self) -> f64 {
        self.report.started_ms.map_or(0.0, |started| micro(now_ms() - started))
    }
}

/// Milliseconds since the host was booted.
fn now_ms() -> f64 {
    // Linux has had this clock since 2.6.39.
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map_or(0.0, |now| now.tv_sec() as f64 * 1e3 + (now.tv_nsec() / 1000) as f64 / 1e3)
}

/// To the microsecond: more digits say nothing.
fn micro(ms: f64) -> f64 {
    (ms.max(0.0) * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::change::{BindDriver, LeaveConsole, StopUnit, Undone};
    use crate::journal::Took;

    const CARD: &str = "0000:01:00.0";

    fn stop(unit: &str) -> Change {
        StopUnit { unit: unit.to_owned() }.into()
    }

    fn console() -> Change {
        LeaveConsole { name: "vtcon1".to_owned() }.into()
    }

    /// The changes of a start, up to the running guest.
    fn start(changes: &[Change]) -> Timeline {
        let mut timeline = Timeline::begin("win11", &[CARD.parse().unwrap()], "lock, leases and journal");
        changes.iter().for_each(|change| timeline.change(change));
        timeline.step("QEMU starts and answers");
        timeline.guest_runs();
        timeline
    }

    fn undo(timeline: &mut Timeline, change: &Change, took: u64) {
        let took = Duration::from_millis(took);
        let begun = Instant::now().checked_sub(took).unwrap();
        let took = Took { whole: took, change: took };
        let report = UndoReport { seq: 1, change: change.clone(), result: Ok(Undone::Restored), begun, took };
        timeline.restored(&RestoreStep::Undone(&report), false);
    }

    #[test]
    fn steps_follow_one_another_without_a_gap() {
        let timeline = start(&[stop("a.service"), console()]);
        let report = timeline.report();
        let names: Vec<&str> = report.start.iter().map(|step| step.step.as_str()).collect();
        let changes = [stop("a.service").to_string(), console().to_string()];
        assert_eq!(names, ["lock, leases and journal", &changes[0], &changes[1], "QEMU starts and answers"]);
        let mut at = 0.0;
        for step in &report.start {
            assert!((step.at_ms - at).abs() < 0.002 && step.took_ms >= 0.0, "{step:?} at {at}");
            at = step.at_ms + step.took_ms;
        }
        assert!((report.guest_ran_ms.unwrap() - at).abs() < 0.002, "{report:?}");
    }

    #[test]
    fn the_screen_is_black_from_the_unit_on_that_is_stopped_for_it() {
        let changes = [stop("gdm.service"), console()];
        let mut timeline = start(&changes);
        assert!(timeline.sign(Sign::Driver) && !timeline.sign(Sign::GuestAgent), "only the first counts");
        timeline.ends();
        changes.iter().rev().for_each(|change| undo(&mut timeline, change, 5));
        let report = timeline.into_report();
        let black = report.black.unwrap();
        assert_eq!((black.by, black.from_ms), (report.start[1].step.clone(), report.start[1].at_ms));
        let seen = black.sign.unwrap();
        assert!(seen.sign == Sign::Driver && seen.at_ms >= report.guest_ran_ms.unwrap());
        // The desktop is the last to come back.
        let last = report.back.last().unwrap();
        assert!((black.back_ms.unwrap() - last.at_ms - last.took_ms).abs() < 0.002, "{last:?}");
    }

    #[test]
    fn a_second_attempt_takes_the_place_of_the_first_only_if_it_does_something() {
        let mut first = start(&[console()]);
        first.ends();
        undo(&mut first, &console(), 5);
        let noted = first.into_report();
        assert_eq!(Timeline::of(noted.clone()).into_report(), noted);
        let mut second = Timeline::of(noted);
        undo(&mut second, &stop("gdm.service"), 5);
        let steps: Vec<String> = second.report().back.iter().map(|step| step.step.clone()).collect();
        assert_eq!(steps, [stop("gdm.service").to_string()]);
    }

    #[test]
    fn a_card_takes_the_screen_that_it_shows() {
        let bind = |address: &str| BindDriver { address: address.parse().unwrap(), driver: None }.into();
        let report = start(&[stop("gdm.service"), bind(CARD)]).into_report();
        assert_eq!(report.black.unwrap().by, stop("gdm.service").to_string());
        assert_eq!(start(&[bind("0000:02:00.0")]).report().black, None);
    }

    #[test]
    fn a_unit_or_a_device_alone_takes_no_screen() {
        assert_eq!(start(&[stop("pipewire.service")]).report().black, None);
        assert_eq!(start(&[]).report().black, None);
    }

    #[test]
    fn the_step_that_goes_on_when_a_start_ends_has_failed() {
        let mut timeline = Timeline::begin("win11", &[CARD.parse().unwrap()], "lock, leases and journal");
        timeline.change(&console());
        timeline.ends();
        let report = timeline.into_report();
        let failed: Vec<bool> = report.start.iter().map(|step| step.failed).collect();
        assert_eq!(failed, [false, true]);
        assert!(report.guest_ran_ms.is_none() && report.black.is_some(), "{report:?}");
    }

    #[test]
    fn a_guest_that_restarts_in_a_new_qemu_goes_on_and_its_vcpus_are_summed_up() {
        let mut timeline = start(&[]);
        let started = timeline.report().start.clone();
        let vcpu = |waited_ms| vec![VcpuTime { vcpu: "CPU 0/KVM".to_owned(), ran_ms: 10.0, waited_ms }];
        timeline.saw_vcpus(10, vcpu(0.5));
        timeline.saw_vcpus(10, vcpu(1.0));
        timeline.step("QEMU starts and answers");
        timeline.guest_runs();
        timeline.saw_vcpus(11, vcpu(2.0));
        // Too late.
        timeline.saw_vcpus(11, Vec::new());
        timeline.saw_vcpus(12, Vec::new());
        let report = timeline.into_report();
        assert_eq!((report.start, report.relaunches), (started, 1));
        let expected = VcpuTime { vcpu: "CPU 0/KVM".to_owned(), ran_ms: 20.0, waited_ms: 3.0 };
        assert_eq!(report.vcpus, Some(vec![expected]));
    }
}
