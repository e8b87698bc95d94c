//! From power on to a host that answers.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::agent::Agent;

/// How long a boot may take, on a machine that does other work too.
pub const BOOT: Duration = Duration::from_secs(240);
/// How often one is tried.
const TRIES: u32 = 3;

/// What a kernel says when a processor no longer gets interrupts. Where this machine has little time for it, the emulator
/// loses a processor's timer at boot, and the host would hang for good.
const STALLED: &str = "detected stalls on CPUs";

/// Switches a host on and waits until its agent says hello; once more, where the emulator lost a processor. `console` is
/// where its kernel writes.
pub fn boot<T>(
    console: &Path,
    mut switch_on: impl FnMut() -> Result<T>,
    agent: impl Fn(&mut T) -> &mut Agent,
) -> Result<T> {
    let is_stalled = || fs::read(console).is_ok_and(|text| String::from_utf8_lossy(&text).contains(STALLED));
    for _ in 1..TRIES {
        let mut host = switch_on()?;
        match agent(&mut host).wait_for_hello(Instant::now() + BOOT, is_stalled) {
            Err(_) if is_stalled() => eprintln!("lab: the emulator lost a processor of the host; booting once more"),
            result => return result.map(|()| host),
        }
    }
    let mut host = switch_on()?;
    agent(&mut host).wait_for_hello(Instant::now() + BOOT, || false)?;
    Ok(host)
}
