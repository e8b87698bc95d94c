//! `vfio-run top [NAME…]`: what running guests do, refreshed. It looks from outside: no launcher takes part, so it costs nothing
//! when nobody looks.

mod cards;
mod monitor;
mod screen;
mod watched;

use std::io::IsTerminal as _;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Result, bail};
use screen::{Done, Screen};
use tokio::time::{Instant, sleep_until};
use watched::Machines;

use super::shared::machines::{does_not_run, is_closed, names, run_dir};
use super::shared::outcome::block_on;
use crate::cli::{OutputArgs, TopArgs};
use crate::report::{self, Top};
use crate::run::{Lock, Signals, guest_runs};
use crate::units::exit;

/// How wide text is for a reader that is no terminal: what reads it wraps it.
const ENDLESS: usize = usize::MAX;

/// Shows them until the user leaves, or once.
pub fn top(args: &TopArgs, output: OutputArgs) -> Result<u8> {
    let there = names()?;
    // Of one that was left behind there is nothing to see.
    let runs = |name: &String| {
        is_closed(name)
            || there.contains(name) && run_dir(name).is_ok_and(|it| Lock::owner(&it).is_some() || guest_runs(&it))
    };
    if let Some(name) = args.names.iter().find(|name| !runs(name)) {
        bail!(does_not_run(name));
    }
    block_on(watch(args, output))
}

async fn watch(args: &TopArgs, output: OutputArgs) -> Result<u8> {
    let interval = Duration::from_secs_f64(args.interval);
    let mut signals = Signals::catch()?;
    let mut machines = Machines::of(&args.names);
    let mut shown = tokio::select! {
        _ = signals.next() => return Ok(exit::OK),
        looked = machines.look() => looked?,
    };
    let mut screen = match has_screen(args, output) {
        true => Some(Screen::open()?),
        false => None,
    };
    let mut next = Instant::now() + interval;
    let mut first = true;
    loop {
        // A QEMU and a launcher that do not answer must not keep the user here.
        let pause = sleep_until(next);
        let mut look = pin!(async {
            pause.await;
            machines.look().await
        });
        shown = loop {
            if let Some(screen) = &mut screen {
                screen.draw(&text(&shown, screen.width()), args.interval);
            }
            let done = tokio::select! {
                _ = signals.next() => Done::Leaves,
                done = happens(screen.as_mut()) => done,
                looked = look.as_mut() => break looked?,
            };
            match done {
                Done::Leaves => return Ok(exit::OK),
                // The picture is drawn for the new size.
                Done::Resized => {}
            }
        };
        // A look that took long is no reason for the next to come at once.
        next = (next + interval).max(Instant::now() + interval / 2);
        if screen.is_none() {
            show(&shown, first, output)?;
            if args.once || report::is_over() {
                return Ok(exit::OK);
            }
        }
        first = false;
    }
}

/// Whether it is drawn again and again on one screen: on a terminal that can be told where to write.
fn has_screen(args: &TopArgs, output: OutputArgs) -> bool {
    let can = std::env::var("TERM").is_ok_and(|term| !term.is_empty() && term != "dumb");
    !args.once && !output.json && can && std::io::stdout().is_terminal()
}

async fn happens(screen: Option<&mut Screen>) -> Done {
    match screen {
        Some(screen) => screen.happens().await,
        None => std::future::pending().await,
    }
}

fn show(shown: &Top, first: bool, output: OutputArgs) -> Result<()> {
    if output.json {
        return report::json_line(shown);
    }
    let width = if std::io::stdout().is_terminal() { report::window().0 } else { ENDLESS };
    report::say(&format!("{}{}", if first { "" } else { "\n" }, text(shown, width)));
    Ok(())
}

fn text(shown: &Top, width: usize) -> String {
    match shown.machines.is_empty() {
        true => "no machine runs".to_owned(),
        false => report::top(shown, width),
    }
}
