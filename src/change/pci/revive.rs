//! Wake a card that does not answer when its guest has ended, before a host driver is bound to it: such a driver would wait
//! for the card, and could crash the host.
//!
//! Nothing is done before the guest: the change stands in the journal so that the process that restores the host, whichever
//! that is, tries just what the plan allows. It tries one remedy after the other, and asks the card again after each.
//! Source: `Documentation/ABI/testing/sysfs-bus-pci` (`reset`, `reset_subordinate`, `remove`, `rescan`),
//! `Documentation/ABI/testing/rtc-cdev` and `drivers/rtc/sysfs.c` (`wakealarm`), `Documentation/admin-guide/pm/sleep-states.rst`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::function::{answers, driver, exists, folder};
use crate::change::attribute::write_within;
use crate::change::error::{ChangeError, FileError, FunctionError};
use crate::change::file::write;
use crate::change::record::{Nothing, Undone};
use crate::change::step::{Nature, Observed, Progress, Step};
use crate::change::wait::wait_for;
use crate::host::Root;
use crate::units::PciAddress;

/// How long a card may take to answer after a reset: the kernel itself waits up to a second for most.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// How long the kernel may take: it waits for a card up to 60 s after a reset (`PCIE_RESET_READY_POLL_MS`).
const LIMIT: Duration = Duration::from_secs(90);
/// How long the host sleeps, in seconds. An alarm that comes while the devices are still being stopped would be lost on
/// some boards, so it is longer than that takes.
const SLEEP: u32 = 5;
const CLOCK: &str = "/sys/class/rtc/rtc0/wakealarm";
/// More than the levels of switches below a port.
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

/// Wake a card that does not answer when the guest has ended; nothing is done before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revive {
    /// Its functions that a host driver is bound to again.
    pub functions: Vec<PciAddress>,
    /// The port that it is behind.
    pub port: Option<PciAddress>,
    /// What may be tried, in this order.
    pub rungs: Vec<Rung>,
    /// The file that keeps which of these helped last time.
    pub note: PathBuf,
}

impl Step for Revive {
    type Before = Nothing;

    fn nature(&self) -> Nature {
        Nature::takes(false)
    }

    fn capture(&self, _: &Root) -> Result<Nothing, ChangeError> {
        Ok(Nothing::Nothing)
    }

    fn apply(&self, _: &Root, _: &Nothing, _: Progress<'_>) -> Result<(), ChangeError> {
        Ok(())
    }

    /// Wakes the card if it is dead: first by what helped last time, then by the rest. The error says what was tried.
    fn undo(&self, root: &Root, _: &Nothing) -> Result<Undone, ChangeError> {
        if self.functions.iter().all(|address| !exists(root, *address)) && !self.rungs.contains(&Rung::Rescan) {
            return Ok(Undone::no_device());
        }
        let Some(dead) = self.dead(root) else { return Ok(Undone::AlreadyBack) };
        let last: Option<Rung> =
            std::fs::read(root.path(&self.note)).ok().and_then(|text| serde_json::from_slice(&text).ok());
        // What helped before is likely to help again.
        let first = self.rungs.iter().filter(|rung| Some(**rung) == last);
        let mut tried = Vec::new();
        for rung in first.chain(self.rungs.iter().filter(|rung| Some(**rung) != last)) {
            tracing::info!("{dead} does not answer; trying {rung}");
            match self.try_rung(root, *rung) {
                Err(why) => tried.push(format!("{rung} ({why})")),
                Ok(()) if wait_for(root, ANSWER_LIMIT, || self.dead(root).is_none()) => {
                    tracing::warn!("{dead} did not answer when the guest had ended; {rung} woke it");
                    // Without the note, the next time tries all in their order, as this time.
                    drop(serde_json::to_vec(rung).map(|text| std::fs::write(root.path(&self.note), text)));
                    return Ok(Undone::Restored);
                }
                Ok(()) => tried.push(rung.to_string()),
            }
        }
        match self.dead(root) {
            None => Ok(Undone::Restored),
            Some(address) => Err(FunctionError::Dead { address, power: None, tried }.into()),
        }
    }

    fn lock_files(&self, _: &Nothing) -> Vec<PathBuf> {
        Vec::new()
    }

    /// It changes nothing on the way there, and every rehearsal looks at the devices.
    fn observe(&self, _: &Root) -> Vec<Observed> {
        Vec::new()
    }
}

impl fmt::Display for Revive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.functions.iter().map(ToString::to_string).collect();
        let how: Vec<_> = self.rungs.iter().map(ToString::to_string).collect();
        write!(f, "wake {} if dead after the guest, by {}", names.join(", "), how.join(", then "))
    }
}

impl Revive {
    /// A function that does not answer, or is not there.
    fn dead(&self, root: &Root) -> Option<PciAddress> {
        let alive = |address: PciAddress| exists(root, address) && answers(root, address);
        self.functions.iter().copied().find(|address| !alive(*address))
    }

    fn try_rung(&self, root: &Root, rung: Rung) -> Result<(), String> {
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
                true => whys.extend(trigger(root, &path).err()),
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
        trigger(root, &path)
    }

    fn rescan(&self, root: &Root) -> Result<(), String> {
        for address in &self.functions {
            if let Some(driver) = driver(root, *address).filter(|driver| driver != "vfio-pci") {
                return Err(format!("{address} is bound to {driver}"));
            }
        }
        for address in self.functions.iter().filter(|address| exists(root, **address)) {
            trigger(root, &folder(*address).join("remove"))?;
        }
        let path = match self.port {
            Some(port) => folder(port).join("rescan"),
            None => PathBuf::from("/sys/bus/pci/rescan"),
        };
        trigger(root, &path)
    }
}

/// Writes "1" to an attribute that makes the kernel act.
fn trigger(root: &Root, path: &Path) -> Result<(), String> {
    write_within(root, path, "1", LIMIT).map_err(|error| error.to_string())
}

/// A function below this folder that a driver of the host is bound to.
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

/// Suspends the host to memory, with an alarm of its clock that wakes it.
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
        return Err("it has no clock that could wake it".to_owned());
    }
    let words = |error: FileError| error.to_string();
    // An alarm that is set already refuses another.
    write(root, Path::new(CLOCK), "0").map_err(words)?;
    write(root, Path::new(CLOCK), &format!("+{SLEEP}")).map_err(words)?;
    write_within(root, state, "mem", LIMIT).map_err(words)
}
