//! Take the virtual consoles off a framebuffer, and the firmware's framebuffer off its driver.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::change::attribute::{wait_for, write_bounded};
use crate::change::host::write::read;
use crate::change::{Before, ChangeError, Undone};
use crate::host::Root;

const CONSOLES: &str = "/sys/class/vtconsole";
/// How long the console may take to come back after its card's driver has.
const BACK_LIMIT: Duration = Duration::from_secs(10);

/// Whether consoles are on it.
pub(in crate::change) fn capture_console(root: &Root, name: &str) -> Result<Before, ChangeError> {
    Ok(Before::Exists(read(root, &console_bind(name))? == "1"))
}

/// Takes the consoles off it.
pub(in crate::change) fn leave_console(root: &Root, name: &str) -> Result<(), ChangeError> {
    let path = console_bind(name);
    if read(root, &path)? == "0" {
        return Ok(());
    }
    write_bounded(root, &path, "0")?;
    match wait_for(BACK_LIMIT, || read(root, &path).is_ok_and(|found| found == "0")) {
        true => Ok(()),
        false => Err(ChangeError::NotTaken { path, wanted: "0".to_owned(), found: "1".to_owned() }),
    }
}

/// The console's driver goes with the last framebuffer and comes with the next one, by itself and bound; so it is
/// waited for first, and bound by us only where it came back unbound.
pub(in crate::change) fn return_console(root: &Root, name: &str, was_bound: bool) -> Result<Undone, ChangeError> {
    if !was_bound {
        return Ok(Undone::AlreadyBack);
    }
    let path = console_bind(name);
    let mut found = None;
    wait_for(BACK_LIMIT, || {
        found = read(root, &path).ok();
        found.is_some()
    });
    match found.as_deref() {
        Some("1") => Ok(Undone::AlreadyBack),
        Some(_) => {
            write_bounded(root, &path, "1")?;
            match read(root, &path)?.as_str() {
                "1" => Ok(Undone::Restored),
                found => Err(ChangeError::NotTaken { path, wanted: "1".to_owned(), found: found.to_owned() }),
            }
        }
        None => read(root, &path).map(|_| Undone::AlreadyBack),
    }
}

pub(in crate::change) fn console_bind(name: &str) -> PathBuf {
    Path::new(CONSOLES).join(name).join("bind")
}

/// Whether the driver has the framebuffer.
pub(in crate::change) fn capture_boot(root: &Root, driver: &str, device: &str) -> Before {
    Before::Exists(is_bound(root, driver, device))
}

/// Takes the framebuffer off its driver.
pub(in crate::change) fn release_boot(root: &Root, driver: &str, device: &str) -> Result<(), ChangeError> {
    if !is_bound(root, driver, device) {
        return Ok(());
    }
    let path = folder(driver).join("unbind");
    write_bounded(root, &path, device)?;
    match wait_for(BACK_LIMIT, || !is_bound(root, driver, device)) {
        true => Ok(()),
        false => Err(ChangeError::NotTaken { path, wanted: "unbound".to_owned(), found: device.to_owned() }),
    }
}

/// The firmware's framebuffer may be gone for good: a driver that took the card's memory over removed its device.
pub(in crate::change) fn return_boot(
    root: &Root,
    driver: &str,
    device: &str,
    was_bound: bool,
) -> Result<Undone, ChangeError> {
    if !was_bound || is_bound(root, driver, device) {
        return Ok(Undone::AlreadyBack);
    }
    match write_bounded(root, &folder(driver).join("bind"), device) {
        Ok(()) => Ok(Undone::Restored),
        Err(ChangeError::Io { error, .. })
            if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENOENT | libc::EBUSY | libc::ENOMEM)) =>
        {
            Ok(Undone::NotOurs { found: "the card's own driver has the screen".to_owned() })
        }
        Err(error) => Err(error),
    }
}

fn folder(driver: &str) -> PathBuf {
    Path::new("/sys/bus/platform/drivers").join(driver)
}

fn is_bound(root: &Root, driver: &str, device: &str) -> bool {
    root.path(folder(driver).join(device)).is_symlink()
}
