//! From power on to a host that answers.

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::agent::Agent;
use super::host::Init;
use super::l0::L0;
use super::template::last_lines;

/// How long a boot may take, on a machine that does other work too.
pub const BOOT: Duration = Duration::from_secs(240);
/// How often one is tried.
const TRIES: u32 = 3;

/// What a kernel says when a processor no longer gets interrupts. If this machine has little time for it, the emulator
/// loses a processor's timer at boot, and the host would hang for good. A tick that comes by itself (`nohz=off
/// highres=off`) does not keep it from that, and made tests with guests half as dear again.
const STALLED: &str = "detected stalls on CPUs";

/// How long a host that is not up may do next to nothing: if the processor that is lost is the first, nobody is left to
/// say so.
const STANDSTILL: Duration = Duration::from_secs(20);

/// What the emulator says when it trips over itself: `iotlb_to_section: Assertion … failed` was seen, of a processor that
/// ran while another changed the address map.
pub const CRASHED: &str = "Assertion `";

/// How often a boot that has said hello is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Switches a host on and waits until it has come to rest; once more, if the emulator lost a processor or crashed.
/// `console` is where its kernel writes; what the emulator says is beside it.
pub fn boot<T>(
    init: Init,
    console: &Path,
    mut switch_on: impl FnMut() -> Result<T>,
    parts: impl Fn(&mut T) -> (&L0, &mut Agent),
) -> Result<T> {
    let says =
        |file: &Path, words: &str| fs::read(file).is_ok_and(|text| String::from_utf8_lossy(&text).contains(words));
    let is_stalled = || says(console, STALLED);
    let emulator = console.with_file_name("qemu.log");
    let mut tries = 1;
    loop {
        let mut host = switch_on()?;
        let (l0, agent) = parts(&mut host);
        let idle = Idle::new(l0);
        let is_lost = || is_stalled() || idle.is_standstill();
        match come_up(init, agent, &is_lost) {
            Err(_) if tries < TRIES && is_lost() => {
                eprintln!("lab: the emulator lost a processor of the host; booting once more");
            }
            Err(_) if tries < TRIES && says(&emulator, CRASHED) => {
                eprintln!("lab: the emulator crashed; booting once more");
            }
            result => {
                let last_words = || format!("the emulator said:\n{}", last_lines(&emulator));
                return result.map(|()| host).with_context(last_words);
            }
        }
        tries += 1;
    }
}

/// Whether the emulator has anything to do.
struct Idle<'a> {
    l0: &'a L0,
    /// From when on we look, and what it had worked by then.
    since: Cell<(Instant, Duration)>,
    /// What the last look found.
    seen: Cell<bool>,
}

impl<'a> Idle<'a> {
    fn new(l0: &'a L0) -> Self {
        Self { l0, since: Cell::new((Instant::now(), Duration::ZERO)), seen: Cell::new(false) }
    }

    /// Whether it has worked for less than a tenth of the last [`STANDSTILL`], as processors do that only count time.
    fn is_standstill(&self) -> bool {
        let (since, before) = self.since.get();
        let passed = since.elapsed();
        if passed > STANDSTILL
            && let Ok(worked) = self.l0.worked()
        {
            self.since.set((Instant::now(), worked));
            self.seen.set(worked.saturating_sub(before) < passed / 10);
        }
        self.seen.get()
    }
}

/// Waits for the agent's hello, which comes early, and for all that comes after it: the GPU's driver, for one, loads after
/// systemd calls itself running.
fn come_up(init: Init, agent: &mut Agent, is_hopeless: &dyn Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + BOOT;
    agent.wait_for_hello(deadline, is_hopeless)?;
    if init == Init::Plain {
        return Ok(());
    }
    let id = agent.start(
        "systemctl is-system-running --wait; udevadm settle; \
         until [ -z \"$(systemctl list-jobs --no-legend)\" ]; do sleep 0.2; done; udevadm settle",
    )?;
    while !agent.has_ended(id)? {
        if Instant::now() > deadline || is_hopeless() {
            bail!("the lab host did not come to rest");
        }
        std::thread::sleep(LOOK);
    }
    agent.wait(id, deadline).map(drop)
}
