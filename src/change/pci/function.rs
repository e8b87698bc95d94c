//! A PCI function in sysfs, as several changes read and write it.
//! Source: `Documentation/ABI/testing/sysfs-bus-pci`, `drivers/pci/pci-driver.c`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::change::attribute::write_bounded;
use crate::change::error::{FileError, FunctionError};
use crate::change::file::{read, write};
use crate::change::wait::wait_for;
use crate::host::Root;
use crate::host::pci::config;
use crate::units::PciAddress;

const DEVICES: &str = "/sys/bus/pci/devices";
/// How long a link may take to show what a write that has returned did.
const LINK_LIMIT: Duration = Duration::from_secs(10);
/// How long a driver that is bound to its card may take to make a DRM card of it.
const SCREEN_LIMIT: Duration = Duration::from_secs(5);
/// How long a function that was asleep may take to answer.
const WAKE_LIMIT: Duration = Duration::from_secs(2);

/// The function's folder in sysfs.
pub(in crate::change) fn folder(address: PciAddress) -> PathBuf {
    Path::new(DEVICES).join(address.to_string())
}

/// All functions of the host.
pub(super) fn all(root: &Root) -> impl Iterator<Item = PciAddress> {
    root.names(DEVICES).into_iter().filter_map(|name| name.parse().ok())
}

/// The function that an attribute is of.
pub(in crate::change) fn function_of(attribute: &Path) -> Option<PciAddress> {
    attribute.strip_prefix(DEVICES).ok()?.iter().next()?.to_str()?.parse().ok()
}

/// The file whose reading waits for the same lock as this attribute does, if it is one of a function.
pub(in crate::change) fn lock_file(attribute: &Path) -> Option<PathBuf> {
    function_of(attribute).map(override_of)
}

/// Writes an attribute of whatever it is. A function without a driver may be one whose unbind never came back, and some of
/// its attributes wait for its lock.
pub(in crate::change) fn write_attribute(root: &Root, path: &Path, value: &str) -> Result<(), FileError> {
    match function_of(path).filter(|address| driver(root, *address).is_none()) {
        Some(_) => write_bounded(root, path, value),
        None => write(root, path, value),
    }
}

/// Whether the function is there.
pub(super) fn exists(root: &Root, address: PciAddress) -> bool {
    root.path(folder(address)).exists()
}

/// The driver that is bound to the function.
pub(in crate::change) fn driver(root: &Root, address: PciAddress) -> Option<String> {
    root.link(folder(address).join("driver"))
}

/// The module that the function's driver is in.
pub(super) fn module(root: &Root, address: PciAddress) -> Option<String> {
    root.link(folder(address).join("driver/module"))
}

/// The attribute whose reading and writing wait while the kernel binds or unbinds the function.
pub(in crate::change) fn override_of(address: PciAddress) -> PathBuf {
    folder(address).join("driver_override")
}

/// The only driver that may be bound to the function; `None`: any that knows it.
pub(super) fn driver_override(root: &Root, address: PciAddress) -> Result<Option<String>, FileError> {
    let text = read(root, &override_of(address))?;
    Ok(Some(text).filter(|name| !name.is_empty() && name != "(null)"))
}

/// Sets which driver alone may be bound to the function; `None`: any that knows it. An empty line clears it.
pub(super) fn set_override(root: &Root, address: PciAddress, name: Option<&str>) -> Result<(), FileError> {
    let path = override_of(address);
    write(root, &path, name.unwrap_or("\n"))?;
    let found = driver_override(root, address)?;
    match found.as_deref() == name {
        true => Ok(()),
        false => Err(FileError::NotTaken {
            path,
            wanted: name.unwrap_or_default().to_owned(),
            found: found.unwrap_or_default(),
        }),
    }
}

/// Has the kernel look for a driver.
pub(super) fn probe(root: &Root, address: PciAddress) -> Result<(), FileError> {
    write_bounded(root, Path::new("/sys/bus/pci/drivers_probe"), &address.to_string())
}

/// Whether a driver of this name is registered.
pub(super) fn is_registered(root: &Root, driver: &str) -> bool {
    root.path(Path::new("/sys/bus/pci/drivers").join(driver)).exists()
}

/// Unbinds the driver that is bound to the function, if there is one. `Ok(Some(driver))`: that driver is still bound.
pub(super) fn unbind(root: &Root, address: PciAddress) -> Result<Option<String>, FileError> {
    let Some(name) = driver(root, address) else { return Ok(None) };
    let path = Path::new("/sys/bus/pci/drivers").join(&name).join("unbind");
    match write_bounded(root, &path, &address.to_string()) {
        // It was unbound meanwhile.
        Err(error) if error.errno() == Some(libc::ENODEV) => {}
        other => other?,
    }
    let unbound = wait_for(root, LINK_LIMIT, || driver(root, address).is_none());
    Ok((!unbound).then_some(name))
}

/// Waits until the driver is bound to the function.
pub(super) fn await_driver(root: &Root, address: PciAddress, name: &str) -> Result<(), FunctionError> {
    match wait_for(root, LINK_LIMIT, || driver(root, address).as_deref() == Some(name)) {
        true => Ok(()),
        false => Err(FunctionError::NotBound { address, wanted: name.to_owned(), found: driver(root, address) }),
    }
}

/// Waits until the driver has made a DRM card of its card again.
pub(super) fn await_screen(root: &Root, address: PciAddress, name: &str) -> Result<(), FunctionError> {
    match wait_for(root, SCREEN_LIMIT, || has_screen(root, address)) {
        true => Ok(()),
        false => Err(FunctionError::NoScreen { address, driver: name.to_owned() }),
    }
}

/// Whether the function has a DRM card, and with it `/dev/dri/card…`.
pub(super) fn has_screen(root: &Root, address: PciAddress) -> bool {
    root.names(folder(address).join("drm")).iter().any(|name| name.starts_with("card"))
}

/// Whether it answers. A function whose configuration space cannot be read is not known to be dead.
pub(super) fn answers(root: &Root, address: PciAddress) -> bool {
    config::answers(root, address).unwrap_or(true)
}

/// Refuses a function that is dead, or does not wake from its sleep (D3cold). Reading the configuration space wakes one
/// that can be woken.
pub(super) fn check_answers(root: &Root, address: PciAddress) -> Result<(), FunctionError> {
    match wait_for(root, WAKE_LIMIT, || answers(root, address)) {
        true => Ok(()),
        false => {
            let power = read(root, &folder(address).join("power_state")).ok();
            Err(FunctionError::Dead { address, power, tried: Vec::new() })
        }
    }
}
