//! What uses a graphics card and must release it first: consoles, framebuffers, and the display manager.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::config::hex;
use crate::host::sessions::{self, Manager, Session};
use crate::host::{Root, unit_names};
use crate::units::PciAddress;

/// The name by which systemd knows the display manager.
const DISPLAY_MANAGER: &str = "display-manager.service";
/// Drivers of the framebuffer that the firmware left (`drivers/firmware/sysfb.c` names their devices).
const BOOT_DRIVERS: [&str; 3] = ["simple-framebuffer", "efi-framebuffer", "vesa-framebuffer"];
/// What /proc/iomem calls that framebuffer, by kernel version and driver.
const BOOT_NAMES: [&str; 5] = ["BOOTFB", "efifb", "vesafb", "simplefb", "simpledrm"];

/// Consoles, framebuffers and the display manager.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Screen {
    /// Drivers of the virtual consoles.
    pub consoles: Vec<Console>,
    /// Framebuffers: `fb0` and the PCI function that made it.
    pub framebuffers: Vec<(String, Option<PciAddress>)>,
    /// Where the firmware's framebuffer is, first and last address; only root is told.
    pub boot_memory: Vec<(u64, u64)>,
    /// Who drives the firmware's framebuffer.
    pub boot_screens: Vec<BootScreen>,
    /// The cards that have a connector with a picture (`enabled`, also if its monitor sleeps).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub showing: Vec<PciAddress>,
    /// The unit that `display-manager.service` stands for.
    pub display_manager: Option<String>,
    /// Whether that unit runs.
    pub display_manager_runs: bool,
    /// Units that were asked for under another name than their own, with that.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub aliases: BTreeMap<String, String>,
    /// Who is logged in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sessions: Vec<Session>,
    /// Whose service managers run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub managers: Vec<Manager>,
    /// Those units of users that were asked for and that there is a file of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub user_units: Vec<String>,
}

/// A driver of the virtual consoles (`/sys/class/vtconsole`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Console {
    /// `vtcon1`.
    pub name: String,
    /// `(M) frame buffer device`.
    pub kind: String,
    /// Whether the consoles are on it.
    pub bound: bool,
}

/// The firmware's framebuffer, bound to a driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootScreen {
    /// `efi-framebuffer`.
    pub driver: String,
    /// `efi-framebuffer.0`.
    pub device: String,
}

impl Console {
    /// Whether it draws on a framebuffer, which a card's driver has made.
    pub fn on_framebuffer(&self) -> bool {
        self.kind.contains("frame buffer")
    }
}

impl Screen {
    pub(super) fn read(root: &Root, units: &[String], user_units: &[String]) -> Self {
        let managers = sessions::managers(root);
        // Without a display manager there is no such name.
        let display_manager = Some(unit_names::id(root, DISPLAY_MANAGER)).filter(|unit| unit != DISPLAY_MANAGER);
        let runs = display_manager.as_ref().is_some_and(|unit| unit_names::runs(root, unit));
        let aliases = units.iter().map(|unit| (unit.clone(), unit_names::id(root, unit)));
        Self {
            consoles: root.names("/sys/class/vtconsole").into_iter().filter_map(|name| console(root, name)).collect(),
            framebuffers: framebuffers(root),
            boot_memory: boot_memory(&root.text("/proc/iomem").unwrap_or_default()),
            boot_screens: BOOT_DRIVERS.iter().flat_map(|driver| boot_screens(root, driver)).collect(),
            showing: showing(root),
            display_manager,
            display_manager_runs: runs,
            aliases: aliases.filter(|(name, unit)| name != unit).collect(),
            sessions: sessions::sessions(root),
            user_units: sessions::known_units(root, &managers, user_units),
            managers,
        }
    }
}

/// A card's connectors stand beside it, `card1-HDMI-A-1` (`drivers/gpu/drm/drm_sysfs.c`).
fn showing(root: &Root) -> Vec<PciAddress> {
    const FOLDER: &str = "/sys/class/drm";
    let shown = root.names(FOLDER).into_iter().filter_map(|name| {
        let (card, _) = name.strip_prefix("card").and_then(|rest| rest.split_once('-'))?;
        let enabled = root.text_up_to(format!("{FOLDER}/{name}/enabled"), 16)? == "enabled";
        enabled.then(|| root.device_of(format!("{FOLDER}/card{card}/device")))?
    });
    let mut shown: Vec<PciAddress> = shown.collect();
    shown.sort();
    shown.dedup();
    shown
}

fn console(root: &Root, name: String) -> Option<Console> {
    let folder = format!("/sys/class/vtconsole/{name}");
    let kind = root.text_up_to(format!("{folder}/name"), 256)?;
    let bound = root.text_up_to(format!("{folder}/bind"), 16)? == "1";
    Some(Console { name, kind, bound })
}

fn framebuffers(root: &Root) -> Vec<(String, Option<PciAddress>)> {
    let names = root.names("/sys/class/graphics").into_iter();
    let numbered = names.filter(|name| name.strip_prefix("fb").is_some_and(|n| n.parse::<u32>().is_ok()));
    numbered.map(|name| (name.clone(), root.device_of(format!("/sys/class/graphics/{name}/device")))).collect()
}

/// A line such as `    e0000000-e02fffff : BOOTFB`. Users other than root see zeros.
fn boot_memory(iomem: &str) -> Vec<(u64, u64)> {
    let ranges = iomem.lines().filter_map(|line| {
        let (range, name) = line.split_once(" : ")?;
        let (start, end) = range.trim().split_once('-')?;
        let (start, end) = (hex(start)?, hex(end)?);
        (BOOT_NAMES.contains(&name.trim()) && end > 0).then_some((start, end))
    });
    ranges.collect()
}

fn boot_screens(root: &Root, driver: &str) -> Vec<BootScreen> {
    let folder = format!("/sys/bus/platform/drivers/{driver}");
    let devices = root.names(&folder).into_iter().filter(|name| {
        let path = root.path(format!("{folder}/{name}"));
        // The driver's own attributes are files, its module a link too.
        name != "module" && path.is_symlink()
    });
    devices.map(|device| BootScreen { driver: driver.to_owned(), device }).collect()
}
