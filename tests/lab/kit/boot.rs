//! From power on to a host that answers.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::agent::Agent;
use super::template::last_lines;

/// How long a boot may take, on a machine that does other work too.
pub const BOOT: Duration = Duration::from_secs(240);
/// How often one is tried.
const TRIES: u32 = 3;

/// What a kernel says when a processor no longer gets interrupts. Where this machine has little time for it, the emulator
/// loses a processor's timer at boot, and the host would hang for good.
const STALLED: &str = "detected stalls on CPUs";

/// What the emulator says when it trips over itself: `iotlb_to_section: Assertion … failed` was seen, of a processor that
/// ran while another changed the address map.
const CRASHED: &str = "Assertion `";

/// Switches a host on and waits until its agent says hello; once more, where the emulator lost a processor or crashed.
/// `console` is where its kernel writes; what the emulator says is beside it.
pub fn boot<T>(
    console: &Path,
    mut switch_on: impl FnMut() -> Result<T>,
    agent: impl Fn(&mut T) -> &mut Agent,
) -> Result<T> {
    let says =
        |file: &Path, words: &str| fs::read(file).is_ok_and(|text| String::from_utf8_lossy(&text).contains(words));
    let is_stalled = || says(console, STALLED);
    let emulator = console.with_file_name("qemu.log");
    let last_words = || format!("the emulator said:\n{}", last_lines(&emulator));
    for _ in 1..TRIES {
        let mut host = switch_on()?;
        match agent(&mut host).wait_for_hello(Instant::now() + BOOT, is_stalled) {
            Err(_) if is_stalled() => eprintln!("lab: the emulator lost a processor of the host; booting once more"),
            Err(_) if says(&emulator, CRASHED) => eprintln!("lab: the emulator crashed; booting once more"),
            result => return result.map(|()| host).with_context(last_words),
        }
    }
    let mut host = switch_on()?;
    agent(&mut host).wait_for_hello(Instant::now() + BOOT, || false).with_context(last_words)?;
    Ok(host)
}
