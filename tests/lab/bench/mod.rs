//! What a handover costs: the program's rehearsal beside the same steps by hand, as hook scripts do them, in alternating
//! rounds in one lab host. Everything is slow there, so only the proportions say something.

pub mod black;
mod by_hand;
pub mod isolation;

use std::time::Duration;

use anyhow::{Context, Result};

use crate::kit::lab::Lab;

const ROUNDS: usize = 9;
const PATIENCE: Duration = Duration::from_secs(300);

const MACHINE: &str = r#"(
    guest: Other,
    accelerator: Tcg,
    memory: (size: "32 MiB"),
    kernel: (image: "/lab/guests/tiny"),
    networks: [],
    pci: ["01:00.*"],
)"#;

/// Prints how many nanoseconds each way takes.
const TIMED: &str = "
now() { date +%s%N; }
start=$(now); take; there=$(now); give_back; back=$(now)
echo $((there - start)) $((back - there))
udevadm settle";

/// One round: milliseconds there and back.
type Round = [f64; 2];

/// Measures and prints.
///
/// # Errors
/// When a round fails.
pub fn handover() -> Result<()> {
    let lab = Lab::variant("one-gpu", "debian13").start()?;
    lab.sh(by_hand::DESKTOP)?;
    let file = lab.install_machine("only", MACHINE)?;
    lab.run_for(&format!("/lab/bin/vfio-run -q check {file}"), PATIENCE)?.ok()?;
    let (mut by_hand, mut whole, mut own) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let hand = lab.run_for(&format!("{}{TIMED}", by_hand::STEPS), PATIENCE)?.ok()?;
        let rehearsed = lab.run_for(&format!("/lab/bin/vfio-run -q --json rehearse {file}"), PATIENCE)?.ok()?;
        let rehearsed: serde_json::Value = serde_json::from_str(&rehearsed).context("no rehearsal's JSON")?;
        // The first of both loads what the others find.
        if round == 0 {
            continue;
        }
        let nanoseconds: Vec<f64> = hand.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        by_hand.push([nanoseconds.first(), nanoseconds.get(1)].map(|ns| ns.copied().unwrap_or(f64::NAN) / 1e6));
        for (rounds, part) in [(&mut whole, "total"), (&mut own, "own")] {
            let way = |way: &str| rehearsed[part][way]["median"].as_f64().unwrap_or(f64::NAN);
            rounds.push([way("there"), way("back")]);
        }
        eprintln!("round {round} of {ROUNDS}");
    }
    println!("a handover of the only GPU in the lab, medians of {ROUNDS} rounds in ms:");
    println!("                          there      back");
    for (what, rounds) in
        [("the steps by hand", &by_hand), ("vfio-run, all of it", &whole), ("vfio-run's own part", &own)]
    {
        let [there, back] = medians(rounds);
        println!("  {what:20} {there:9.1} {back:9.1}");
    }
    let (hand, all) = (medians(&by_hand), medians(&whole));
    println!("  vfio-run against hand {:8.2} {:9.2} times", all[0] / hand[0], all[1] / hand[1]);
    let own = medians(&own);
    println!("  own part against 1 s  {:8.2} {:9.2} times", own[0] / AIM, own[1] / AIM);
    lab.finish()
}

/// What vfio-run itself may take each way, in milliseconds.
const AIM: f64 = 1000.0;

fn medians(rounds: &[Round]) -> Round {
    [0, 1].map(|way| median(rounds.iter().map(|round| round[way]).collect()))
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
