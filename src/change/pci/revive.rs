//! Wake a card that does not answer when its guest has ended, before a host driver is bound to it: such a driver would wait
//! for the card, and may take the host with it.
//!
//! Nothing is done before: the change is there so that what may be tried is in the journal, and whoever puts the host back,
//! in any process, tries just that. The rungs are climbed one after the other, and after each the card is asked again.
//! Source: `Documentation/ABI/testing/sysfs-bus-pci` (`reset`, `reset_subordinate`, `remove`, `rescan`),
//! `Documentation/ABI/testing/rtc-cdev` and `drivers/rtc/sysfs.c` (`wakealarm`), `Documentation/admin-guide/pm/sleep-states.rst`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::change::attribute::{wait_for, write_within};
use crate::change::host::write::write;
use crate::change::pci::bind_driver::{answers, driver, folder};
use crate::change::{ChangeError, Undone};
use crate::host::Root;
use crate::units::PciAddress;

/// How long a card may take to answer after a reset: the kernel itself waits up to a second for most.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// How long the kernel may take: it waits for a card up to 60 s after a reset (`PCIE_RESET_READY_POLL_MS`).
const LIMIT: Duration = Duration::from_secs(90);
/// The host sleeps so long, in seconds. An alarm that comes while the devices are still being stopped would be lost on
/// some boards, so it is longer than that takes.
const SLEEP: u32 = 5;
const CLOCK: &str = "/sys/class/rtc/rtc0/wakealarm";
/// Deeper than the switches below a port go.
const MAX_DEPTH: usize = 8;

/// What can wake a dead card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// The kernel's reset of each function.
    Reset,
    /// A reset of the bus below the port that the card is behind.
    Bus,
    /// The kernel forgets the card and looks for it again.
    Rescan,
    /// The host sleeps for a moment, which cuts the card's power.
    Suspend,
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reset => "a reset",
            Self::Bus => "a reset of its bus",
            Self::Rescan => "looking for it anew",
            Self::Suspend => "suspending the host",
        })
    }
}

/// A card, and what may wake it.
pub(in crate::change) struct Card<'a> {
    /// Its functions that go back to a host driver.
    pub functions: &'a [PciAddress],
    /// The port that it is behind.
    pub port: Option<PciAddress>,
    /// What may be tried, in this order.
    pub rungs: &'a [Rung],
    /// The file that says which rung woke it last time.
    pub note: &'a Path,
}

/// Wakes the card, where it is dead, by what helped last time and then by the rest; the error says what was tried.
pub(in crate::change) fn wake(root: &Root, card: &Card) -> Result<Undone, ChangeError> {
    if card.functions.iter().all(|address| !root.path(folder(*address)).exists()) && !card.rungs.contains(&Rung::Rescan)
    {
        return Ok(Undone::NotOurs { found: "no such device".to_owned() });
    }
    if card.dead(root).is_none() {
        return Ok(Undone::AlreadyBack);
    }
    let last: Option<Rung> =
        std::fs::read(root.path(card.note)).ok().and_then(|text| serde_json::from_slice(&text).ok());
    // What helped before is likely to help again.
    let first = card.rungs.iter().filter(|rung| Some(**rung) == last);
    let mut tried = Vec::new();
    for rung in first.chain(card.rungs.iter().filter(|rung| Some(**rung) != last)) {
        tracing::info!("{} does not answer; trying {rung}", card.functions[0]);
        match card.climb(root, *rung) {
            Err(why) => tried.push(format!("{rung} ({why})")),
            Ok(()) if wait_for(ANSWER_LIMIT, || card.dead(root).is_none()) => {
                tracing::warn!("{} did not answer when the guest had ended; {rung} woke it", card.functions[0]);
                // Without the note all are tried in their order, as this time.
                let _ = serde_json::to_vec(rung).map(|text| std::fs::write(root.path(card.note), text));
                return Ok(Undone::Restored);
            }
            Ok(()) => tried.push(rung.to_string()),
        }
    }
    match card.dead(root) {
        None => Ok(Undone::Restored),
        Some(address) => Err(ChangeError::Dead { address, power: None, tried }),
    }
}

impl Card<'_> {
    /// A function that does not answer, or is not there.
    fn dead(&self, root: &Root) -> Option<PciAddress> {
        let alive = |address: PciAddress| root.path(folder(address)).exists() && answers(root, address);
        self.functions.iter().copied().find(|address| !alive(*address))
    }

    fn climb(&self, root: &Root, rung: Rung) -> Result<(), String> {
        match rung {
            Rung::Reset => self.reset(root),
            Rung::Bus => self.reset_bus(root),
            Rung::Rescan => self.rescan(root),
            Rung::Suspend => suspend(root),
        }
    }

    fn reset(&self, root: &Root) -> Result<(), String> {
        let mut whys = Vec::new();
        for address in self.functions.iter().filter(|address| !answers(root, **address)) {
            let path = folder(*address).join("reset");
            match root.path(&path).exists() {
                true => whys.extend(give(root, &path).err()),
                false => whys.push(format!("the kernel knows none for {address}")),
            }
        }
        // One that worked may have reset the whole card.
        if whys.len() < self.functions.len() { Ok(()) } else { Err(whys.join(", ")) }
    }

    fn reset_bus(&self, root: &Root) -> Result<(), String> {
        let port = self.port.ok_or("it is behind no port")?;
        let path = folder(port).join("reset_subordinate");
        if !root.path(&path).exists() {
            return Err(format!("this kernel offers none for {port}"));
        }
        if let Some((address, driver)) = in_use(root, &folder(port), 0) {
            return Err(format!("{address} is on the bus too, and {driver} uses it"));
        }
        give(root, &path)
    }

    fn rescan(&self, root: &Root) -> Result<(), String> {
        for address in self.functions {
            if let Some(driver) = driver(root, *address).filter(|driver| driver != "vfio-pci") {
                return Err(format!("{address} is with {driver}"));
            }
        }
        for address in self.functions.iter().filter(|address| root.path(folder(**address)).exists()) {
            give(root, &folder(*address).join("remove"))?;
        }
        let path = match self.port {
            Some(port) => folder(port).join("rescan"),
            None => PathBuf::from("/sys/bus/pci/rescan"),
        };
        give(root, &path)
    }
}

fn give(root: &Root, path: &Path) -> Result<(), String> {
    write_within(root, path, "1", LIMIT).map_err(|error| error.to_string())
}

/// A function below this folder that a driver of the host's has.
fn in_use(root: &Root, below: &Path, depth: usize) -> Option<(PciAddress, String)> {
    let entries = std::fs::read_dir(root.path(below)).ok()?;
    entries.flatten().filter(|_| depth < MAX_DEPTH).find_map(|entry| {
        let address: PciAddress = entry.file_name().to_str()?.parse().ok()?;
        match driver(root, address).filter(|name| name != "vfio-pci" && name != "pcieport") {
            Some(driver) => Some((address, driver)),
            None => in_use(root, &below.join(entry.file_name()), depth + 1),
        }
    })
}

/// Sleeps, and has the clock wake the host.
fn suspend(root: &Root) -> Result<(), String> {
    let state = Path::new("/sys/power/state");
    if !root.text_up_to(state, 256).unwrap_or_default().split_whitespace().any(|word| word == "mem") {
        return Err("this host cannot".to_owned());
    }
    // `s2idle` leaves the cards their power.
    let kind = root.text_up_to("/sys/power/mem_sleep", 256).unwrap_or_default();
    if !kind.is_empty() && !kind.contains("[deep]") {
        return Err(format!("its sleep is {kind}, which does not cut the power; boot with `mem_sleep_default=deep`"));
    }
    if !root.path(CLOCK).exists() {
        return Err("no clock could wake it".to_owned());
    }
    let words = |error: ChangeError| error.to_string();
    // An alarm that is set already refuses another.
    write(root, Path::new(CLOCK), "0").map_err(words)?;
    write(root, Path::new(CLOCK), &format!("+{SLEEP}")).map_err(words)?;
    write_within(root, state, "mem", LIMIT).map_err(words)
}
