//! Bind a PCI function to another driver, or to none.
//!
//! By `driver_override` and `drivers_probe`, never `new_id`, which would bind a second card of the same model too.
//! `drivers_probe` succeeds also when no driver wanted the device, so only the link `driver` says afterwards which one is bound.
//! Source: `Documentation/ABI/testing/sysfs-bus-pci`, `drivers/pci/pci-driver.c`.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::disks::check_unused;
use super::function::{
    await_driver, await_screen, check_answers, driver, driver_override, exists, folder, has_screen, is_registered,
    module, override_of, probe, set_override, unbind, write_attribute,
};
use super::modprobe;
use crate::change::attribute::{ASK_LIMIT, reads_return};
use crate::change::error::{ChangeError, FileError, FunctionError};
use crate::change::record::Undone;
use crate::change::step::{Nature, Observed, Progress, Step};
use crate::host::Root;
use crate::units::PciAddress;

/// The driver that gives functions to guests.
const VFIO: &str = "vfio-pci";

/// Bind a PCI function to another driver, or to none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindDriver {
    /// The function.
    pub address: PciAddress,
    /// The driver's name; `None`: no driver.
    pub driver: Option<String>,
}

/// The driver of a PCI function, and what it takes to bind it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Driver {
    /// Its name; `None`: there was no driver.
    pub driver: Option<String>,
    /// The module that it is in.
    pub module: Option<String>,
    /// The only driver that might have been bound.
    pub driver_override: Option<String>,
    /// Whether the driver had made a DRM card of it.
    #[serde(default)]
    pub screen: bool,
    /// What its `power/control` said, if it was to be vfio-pci's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<String>,
}

/// The driver that was found: `{"driver": {…}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundDriver {
    /// The driver.
    pub driver: Driver,
}

impl Step for BindDriver {
    type Before = FoundDriver;

    fn nature(&self) -> Nature {
        Nature::takes(false)
    }

    fn capture(&self, root: &Root) -> Result<FoundDriver, ChangeError> {
        let address = self.address;
        let now = driver(root, address);
        // A function without a driver may be one whose unbind never came back.
        let path = override_of(address);
        if now.is_none() && !reads_return(root, std::slice::from_ref(&path)) {
            return Err(FileError::ReadStuck { path, seconds: ASK_LIMIT.as_secs() }.into());
        }
        Ok(FoundDriver {
            driver: Driver {
                driver: now,
                module: module(root, address),
                driver_override: driver_override(root, address)?,
                screen: has_screen(root, address),
                control: control(root, address).filter(|_| self.driver.as_deref() == Some(VFIO)),
            },
        })
    }

    fn apply(&self, root: &Root, _: &FoundDriver, _: Progress<'_>) -> Result<(), ChangeError> {
        if driver(root, self.address) != self.driver {
            check_unused(root, self.address)?;
            match &self.driver {
                None => must_unbind(root, self.address)?,
                Some(name) => {
                    check_answers(root, self.address)?;
                    bind(root, self.address, name, None)?;
                }
            }
        }
        // vfio-pci lets the function sleep as soon as it has it, and some cards do not wake from that.
        match self.driver.as_deref() {
            Some(VFIO) => set_control(root, self.address, Some("on")),
            _ => Ok(()),
        }
    }

    /// Binds the old driver again, unless a third driver is bound meanwhile.
    fn undo(&self, root: &Root, FoundDriver { driver: old }: &FoundDriver) -> Result<Undone, ChangeError> {
        let address = self.address;
        if !exists(root, address) {
            return Ok(Undone::no_device());
        }
        let found = driver(root, address);
        let already = found == old.driver;
        // Without a driver it is ours too: a death between the old driver and the new one.
        if !already && found.is_some() && found != self.driver {
            return Ok(Undone::NotOurs { found: found.unwrap_or_default() });
        }
        if !already {
            match &old.driver {
                None => must_unbind(root, address)?,
                Some(name) => {
                    // A host driver that is bound to a card that does not answer can crash the host; vfio-pci does not.
                    check_answers(root, address)?;
                    if found.is_some() {
                        must_unbind(root, address)?;
                    }
                    bind(root, address, name, old.module.as_deref())?;
                }
            }
        }
        // Not before the driver is bound: with vfio-pci it would fall asleep on its way back.
        set_control(root, address, old.control.as_deref())?;
        let override_back = driver_override(root, address)? == old.driver_override;
        if !override_back {
            // A dead card keeps the override that keeps other drivers off it, also if it had no driver before: the next
            // module that is loaded may have one for it.
            check_answers(root, address)?;
            set_override(root, address, old.driver_override.as_deref())?;
        }
        if let (false, true, Some(name)) = (already, old.screen, &old.driver) {
            await_screen(root, address, name)?;
        }
        Ok(if already && override_back { Undone::AlreadyBack } else { Undone::Restored })
    }

    fn lock_files(&self, _: &FoundDriver) -> Vec<PathBuf> {
        vec![override_of(self.address)]
    }

    fn observe(&self, root: &Root) -> Vec<Observed> {
        let now = driver(root, self.address).unwrap_or_else(|| "none".to_owned());
        vec![Observed::new(format!("{} driver", self.address), now)]
    }
}

impl fmt::Display for BindDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.driver {
            Some(driver) => write!(f, "bind {} to {driver}", self.address),
            None => write!(f, "unbind {} from its driver", self.address),
        }
    }
}

/// Binds the driver of this name, and loads its module first if the driver is not registered.
fn bind(root: &Root, address: PciAddress, name: &str, module: Option<&str>) -> Result<(), ChangeError> {
    if !is_registered(root, name) {
        modprobe::load(root, module.unwrap_or(name))?;
    }
    set_override(root, address, Some(name))?;
    // Loading the module may have bound it already.
    if driver(root, address).as_deref() != Some(name) {
        must_unbind(root, address)?;
        probe(root, address)?;
    }
    Ok(await_driver(root, address, name)?)
}

fn must_unbind(root: &Root, address: PciAddress) -> Result<(), ChangeError> {
    match unbind(root, address)? {
        None => Ok(()),
        found => Err(FunctionError::NotBound { address, wanted: "no driver".to_owned(), found }.into()),
    }
}

/// Whether the function may sleep: `auto`, or `on` for never.
fn control(root: &Root, address: PciAddress) -> Option<String> {
    root.text_up_to(control_of(address), 64)
}

fn control_of(address: PciAddress) -> PathBuf {
    folder(address).join("power/control")
}

/// Has the function sleep or not, if it is known what is wanted and the kernel lets it sleep at all.
fn set_control(root: &Root, address: PciAddress, wanted: Option<&str>) -> Result<(), ChangeError> {
    let (Some(wanted), Some(found)) = (wanted, control(root, address)) else { return Ok(()) };
    if found != wanted {
        write_attribute(root, &control_of(address), wanted)?;
    }
    Ok(())
}
