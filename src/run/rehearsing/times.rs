//! How long steps took, over rounds.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::snapshot::Side;
use crate::journal::Took;

/// The time of a step, on the way there and back, in milliseconds; `None` if nothing was done in that direction.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Step {
    /// What is done on the way there.
    pub step: String,
    /// The way there.
    pub there: Option<Spread>,
    /// The way back.
    pub back: Option<Spread>,
}

/// The spread of a time over the rounds, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The shortest.
    pub min: f64,
    /// The middle one; of an even number, the mean of the two in the middle.
    pub median: f64,
    /// The longest.
    pub max: f64,
}

impl Spread {
    fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        let ms = |time: &Duration| time.as_secs_f64() * 1000.0;
        let (low, high) = (times.get(times.len().saturating_sub(1) / 2)?, times.get(times.len() / 2)?);
        Some(Self { min: ms(times.first()?), median: (ms(low) + ms(high)) / 2.0, max: ms(times.last()?) })
    }
}

/// The steps of one round, by their place in it.
#[derive(Debug, Default)]
pub(in crate::run) struct Round(BTreeMap<usize, Both>);

#[derive(Debug, Default, Clone)]
struct Both {
    name: String,
    there: Option<Took>,
    back: Option<Took>,
}

impl Both {
    fn on(&self, side: Side) -> Option<Took> {
        if side == Side::There { self.there } else { self.back }
    }
}

impl Round {
    /// Notes a step on the way to this side. The way there names it.
    pub fn note(&mut self, place: usize, name: &str, to: Side, took: Took) {
        let step = self.0.entry(place).or_default();
        match to {
            Side::There => {
                tracing::debug!("{:.1} ms: {name}", took.whole.as_secs_f64() * 1000.0);
                name.clone_into(&mut step.name);
                step.there = Some(took);
            }
            Side::Home => {
                tracing::debug!("{:.1} ms back: {}", took.whole.as_secs_f64() * 1000.0, step.name);
                step.back = Some(took);
            }
        }
    }

    /// All steps of the way to this side.
    pub fn total(&self, to: Side) -> Duration {
        self.0.values().filter_map(|step| step.on(to)).map(|took| took.whole).sum()
    }

    /// The same without others' work.
    fn own(&self, to: Side) -> Duration {
        let own = |took: Took| took.whole.saturating_sub(took.change);
        self.0.values().filter_map(|step| step.on(to)).map(own).sum()
    }
}

/// The rounds that came back.
#[derive(Debug, Default)]
pub(in crate::run) struct Times(Vec<Round>);

impl Times {
    pub fn add(&mut self, round: Round) {
        self.0.push(round);
    }

    pub fn steps(&self) -> Vec<Step> {
        let Some(first) = self.0.first() else { return Vec::new() };
        let spread = |place: &usize, to: Side| {
            let times = self.0.iter().filter_map(|round| round.0.get(place)?.on(to));
            Spread::of(times.map(|took| took.whole).collect())
        };
        let step = |(place, both): (&usize, &Both)| Step {
            step: both.name.clone(),
            there: spread(place, Side::There),
            back: spread(place, Side::Home),
        };
        first.0.iter().map(step).collect()
    }

    pub fn total(&self) -> Step {
        self.sum("in all", Round::total)
    }

    pub fn own(&self) -> Step {
        self.sum("vfio-run itself", Round::own)
    }

    fn sum(&self, name: &str, of: fn(&Round, Side) -> Duration) -> Step {
        let spread = |to| Spread::of(self.0.iter().map(|round| of(round, to)).collect());
        Step { step: name.to_owned(), there: spread(Side::There), back: spread(Side::Home) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(whole: u64, change: u64) -> Took {
        Took { whole: Duration::from_millis(whole), change: Duration::from_millis(change) }
    }

    #[test]
    fn the_middle_of_an_even_number_lies_between_two() {
        let of = |times: &[u64]| Spread::of(times.iter().map(|ms| Duration::from_millis(*ms)).collect());
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[7]), Some(Spread { min: 7.0, median: 7.0, max: 7.0 }));
        assert_eq!(of(&[9, 1, 4]), Some(Spread { min: 1.0, median: 4.0, max: 9.0 }));
        assert_eq!(of(&[8, 1, 4, 2]), Some(Spread { min: 1.0, median: 3.0, max: 8.0 }));
    }

    #[test]
    fn others_work_is_in_the_total_and_not_in_our_own_time() {
        let mut times = Times::default();
        for slower in [0, 10] {
            let mut round = Round::default();
            round.note(0, "lock", Side::There, took(2, 0));
            round.note(1, "unbind", Side::There, took(100 + slower, 97 + slower));
            round.note(1, "", Side::Home, took(200, 199));
            times.add(round);
        }
        let ms = |min, median, max| Some(Spread { min, median, max });
        assert_eq!(
            times.total(),
            Step { step: "in all".into(), there: ms(102.0, 107.0, 112.0), back: ms(200.0, 200.0, 200.0) }
        );
        assert_eq!(
            times.own(),
            Step { step: "vfio-run itself".into(), there: ms(5.0, 5.0, 5.0), back: ms(1.0, 1.0, 1.0) }
        );
        let steps = times.steps();
        assert_eq!((steps[0].step.as_str(), steps[0].back), ("lock", None));
        assert_eq!(steps[1].there, ms(100.0, 105.0, 110.0));
    }
}
