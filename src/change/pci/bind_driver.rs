//! Give a PCI function to another driver, or to none.
//!
//! By `driver_override` and `drivers_probe`, never `new_id`, which would take a twin card too. `drivers_probe` succeeds
//! also when no driver wanted the device, so what counts is where the link leads afterwards.
//! Source: `Documentation/ABI/testing/sysfs-bus-pci`, `drivers/pci/pci-driver.c`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::change::attribute::{ASK_LIMIT, answer, wait_for, write_bounded};
use crate::change::host::write::{read, write};
use crate::change::pci::disks::check_unused;
use crate::change::pci::remove_module as module;
use crate::change::{Before, ChangeError, Undone};
use crate::host::Root;
use crate::units::PciAddress;

/// How long a link may take to show what a write that has returned did.
const LINK_LIMIT: Duration = Duration::from_secs(10);
/// How long a driver that has its card may take to make a screen of it.
const SCREEN_LIMIT: Duration = Duration::from_secs(5);
/// How long a function that was asleep may take to answer.
const WAKE_LIMIT: Duration = Duration::from_secs(2);

/// The driver that has the function, and what it takes to give the function back to it.
pub(in crate::change) fn capture(root: &Root, address: PciAddress) -> Result<Before, ChangeError> {
    let folder = folder(address);
    // Without a driver it may be one that an unbind never came back from.
    let path = override_of(address);
    if driver(root, address).is_none() && !answer(root, std::slice::from_ref(&path)) {
        return Err(ChangeError::Stuck { path, seconds: ASK_LIMIT.as_secs() });
    }
    let module = root.path(folder.join("driver/module"));
    Ok(Before::Driver {
        driver: driver(root, address),
        module: std::fs::read_link(module).ok().and_then(|link| Some(link.file_name()?.to_str()?.to_owned())),
        driver_override: driver_override(root, address)?,
        screen: has_screen(root, address),
    })
}

/// Gives the function to this driver, or takes it from the one that has it.
pub(in crate::change) fn apply(root: &Root, address: PciAddress, wanted: Option<&str>) -> Result<(), ChangeError> {
    if driver(root, address).as_deref() == wanted {
        return Ok(());
    }
    check_unused(root, address)?;
    match wanted {
        None => unbind(root, address),
        Some(name) => {
            check_answers(root, address)?;
            bind(root, address, name, None)
        }
    }
}

/// Refuses a function that is dead, or does not wake from its sleep (D3cold). Reading the configuration space wakes one
/// that can be.
pub(in crate::change) fn check_answers(root: &Root, address: PciAddress) -> Result<(), ChangeError> {
    match wait_for(WAKE_LIMIT, || answers(root, address)) {
        true => Ok(()),
        false => {
            let power = read(root, &folder(address).join("power_state")).ok();
            Err(ChangeError::Dead { address, power, tried: Vec::new() })
        }
    }
}

/// Gives the function back, unless a third driver has it meanwhile.
pub(in crate::change) fn undo(
    root: &Root,
    address: PciAddress,
    ours: Option<&str>,
    before: &Before,
) -> Result<Undone, ChangeError> {
    let Before::Driver { driver: old, module, driver_override: old_override, screen } = before else {
        return Err(ChangeError::WrongRecord { before: before.clone() });
    };
    if !root.path(folder(address)).exists() {
        return Ok(Undone::NotOurs { found: "no such device".to_owned() });
    }
    let found = driver(root, address);
    let already = found == *old;
    // Without a driver it is ours too: a death between the old driver and the new one.
    if !already && found.is_some() && found.as_deref() != ours {
        return Ok(Undone::NotOurs { found: found.unwrap_or_default() });
    }
    if !already {
        match old {
            None => unbind(root, address)?,
            Some(name) => {
                // A host driver that is bound to a card that does not answer can take the host with it; with vfio-pci
                // it does no harm.
                check_answers(root, address)?;
                if found.is_some() {
                    unbind(root, address)?;
                }
                bind(root, address, name, module.as_deref())?;
            }
        }
    }
    let override_back = driver_override(root, address)? == *old_override;
    if !override_back {
        // What keeps other drivers off a dead card stays, also where it had no driver of its own: the next module that is
        // loaded may have one for it.
        check_answers(root, address)?;
        set_override(root, address, old_override.as_deref())?;
    }
    if let (false, true, Some(name)) = (already, *screen, old) {
        await_screen(root, address, name)?;
    }
    Ok(if already && override_back { Undone::AlreadyBack } else { Undone::Restored })
}

/// Binds the driver of this name, whose module is loaded first if it is not there.
fn bind(root: &Root, address: PciAddress, name: &str, module: Option<&str>) -> Result<(), ChangeError> {
    let registered = root.path(Path::new("/sys/bus/pci/drivers").join(name));
    if !registered.exists() {
        module::load(root, module.unwrap_or(name))?;
    }
    set_override(root, address, Some(name))?;
    // Loading the module may have bound it already.
    if driver(root, address).as_deref() != Some(name) {
        unbind(root, address)?;
        probe(root, address)?;
    }
    await_driver(root, address, name)
}

/// Waits until the driver has the function.
pub(in crate::change) fn await_driver(root: &Root, address: PciAddress, name: &str) -> Result<(), ChangeError> {
    match wait_for(LINK_LIMIT, || driver(root, address).as_deref() == Some(name)) {
        true => Ok(()),
        false => Err(ChangeError::NotBound { address, wanted: name.to_owned(), found: driver(root, address) }),
    }
}

/// Waits until the driver has made a screen of its card again.
pub(in crate::change) fn await_screen(root: &Root, address: PciAddress, name: &str) -> Result<(), ChangeError> {
    match wait_for(SCREEN_LIMIT, || has_screen(root, address)) {
        true => Ok(()),
        false => Err(ChangeError::NoScreen { address, driver: name.to_owned() }),
    }
}

/// Whether the function has a DRM card, and with it `/dev/dri/card…`.
pub(in crate::change) fn has_screen(root: &Root, address: PciAddress) -> bool {
    root.names(folder(address).join("drm")).iter().any(|name| name.starts_with("card"))
}

/// Has the kernel look for a driver.
pub(in crate::change) fn probe(root: &Root, address: PciAddress) -> Result<(), ChangeError> {
    write_bounded(root, Path::new("/sys/bus/pci/drivers_probe"), &address.to_string())
}

fn unbind(root: &Root, address: PciAddress) -> Result<(), ChangeError> {
    let Some(name) = driver(root, address) else { return Ok(()) };
    let path = Path::new("/sys/bus/pci/drivers").join(&name).join("unbind");
    match write_bounded(root, &path, &address.to_string()) {
        // It went by itself meanwhile.
        Err(ChangeError::Io { error, .. }) if error.raw_os_error() == Some(libc::ENODEV) => {}
        other => other?,
    }
    match wait_for(LINK_LIMIT, || driver(root, address).is_none()) {
        true => Ok(()),
        false => Err(ChangeError::NotBound { address, wanted: "no driver".to_owned(), found: Some(name) }),
    }
}

/// Sets which driver alone may have the device; `None`: any that knows it. An empty line clears it.
fn set_override(root: &Root, address: PciAddress, name: Option<&str>) -> Result<(), ChangeError> {
    let path = override_of(address);
    write(root, &path, name.unwrap_or("\n"))?;
    let found = driver_override(root, address)?;
    match found.as_deref() == name {
        true => Ok(()),
        false => Err(ChangeError::NotTaken {
            path,
            wanted: name.unwrap_or_default().to_owned(),
            found: found.unwrap_or_default(),
        }),
    }
}

fn driver_override(root: &Root, address: PciAddress) -> Result<Option<String>, ChangeError> {
    let text = read(root, &override_of(address))?;
    Ok(Some(text).filter(|name| !name.is_empty() && name != "(null)"))
}

/// The driver that has the function.
pub(in crate::change) fn driver(root: &Root, address: PciAddress) -> Option<String> {
    let link = std::fs::read_link(root.path(folder(address).join("driver"))).ok()?;
    Some(link.file_name()?.to_str()?.to_owned())
}

/// Whether its configuration space answers with anything but ones. What can't be read is not known to be dead.
pub(in crate::change) fn answers(root: &Root, address: PciAddress) -> bool {
    use std::io::Read as _;
    let mut vendor = [0; 2];
    let read =
        std::fs::File::open(root.path(folder(address).join("config"))).and_then(|mut f| f.read_exact(&mut vendor));
    read.is_err() || vendor != [0xff, 0xff]
}

/// The attribute that can be read and written only while nobody binds or unbinds the function.
pub(in crate::change) fn override_of(address: PciAddress) -> PathBuf {
    folder(address).join("driver_override")
}

/// The function's folder in sysfs.
pub(in crate::change) fn folder(address: PciAddress) -> PathBuf {
    PathBuf::from(format!("/sys/bus/pci/devices/{address}"))
}
