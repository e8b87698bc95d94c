//! How many lab hosts run at once on this machine, in all test processes together.

use std::fs::{self, File};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::fcntl::Flock;

use super::cache;

/// More at once are slower in sum: an emulated host keeps more than a core busy.
const SLOTS: u32 = 2;

/// Longer than the whole lab may take, every point of its series tried: who waits is served in no order.
const PATIENCE: Duration = Duration::from_secs(3 * 3600);

/// The right to run a lab host, until dropped. A process that dies gives it back too.
pub struct Slot {
    _lock: Flock<File>,
}

/// Waits for a slot. A test that holds one must not ask for another.
pub fn take() -> Result<Slot> {
    let folder = cache::root().join("slots");
    fs::create_dir_all(&folder)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        for number in 1..=SLOTS {
            if let Some(lock) = cache::try_lock(&folder.join(number.to_string())) {
                return Ok(Slot { _lock: lock });
            }
        }
        if Instant::now() > deadline {
            bail!("no slot for a lab host became free within {} hours", PATIENCE.as_secs() / 3600);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
