//! Give what is plugged into a USB port to QEMU.
//!
//! QEMU itself takes the device from the host's drivers, and gives it back when it lets go or ends. Killed, it leaves the
//! interfaces without a driver, and the device as the guest configured it. So making the change only notes what is there.
//! Source: `Documentation/ABI/stable/sysfs-bus-usb` (`bConfigurationValue`), `drivers/base/bus.c` (`drivers_probe`).

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::change::attribute::write_bounded;
use crate::change::error::{ChangeError, FileError};
use crate::change::record::Undone;
use crate::change::step::{Nature, Observed, Progress, Step};
use crate::change::wait::wait_for;
use crate::host::Root;
use crate::units::UsbPort;

const DEVICES: &str = "/sys/bus/usb/devices";
/// The driver of an interface that a program uses (`drivers/usb/core/devio.c`).
const OF_A_PROGRAM: &str = "usbfs";
/// How long an interface may take to show what a write that has returned did.
const LIMIT: Duration = Duration::from_secs(5);

/// Give what is plugged into a USB port to QEMU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeUsb {
    /// The port.
    pub port: UsbPort,
}

/// What was in the port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundUsb {
    /// The number of the configuration that the device was in; empty if in none.
    pub configuration: String,
    /// The driver of each interface, by the interface's name: `3-2.1:1.0`.
    pub drivers: BTreeMap<String, Option<String>>,
}

impl Step for TakeUsb {
    type Before = FoundUsb;

    fn nature(&self) -> Nature {
        Nature::takes(true)
    }

    fn capture(&self, root: &Root) -> Result<FoundUsb, ChangeError> {
        Ok(FoundUsb { configuration: self.configuration(root).unwrap_or_default(), drivers: self.drivers(root) })
    }

    fn apply(&self, _: &Root, _: &FoundUsb, _: Progress<'_>) -> Result<(), ChangeError> {
        Ok(())
    }

    /// Has the kernel look for a driver for each interface that lost its own. What was plugged in meanwhile has had other
    /// interfaces; the kernel found their drivers when it was plugged in, and QEMU took them all the same.
    fn undo(&self, root: &Root, before: &FoundUsb) -> Result<Undone, ChangeError> {
        // What was unplugged has nothing that could be put back.
        let Some(configuration) = self.configuration(root) else { return Ok(Undone::AlreadyBack) };
        let mut restored = false;
        if configuration.is_empty() && !before.configuration.is_empty() {
            write_bounded(root, &self.folder().join("bConfigurationValue"), &before.configuration)?;
            restored = true;
        }
        for (interface, driver) in self.drivers(root) {
            let old = before.drivers.get(&interface);
            // It had no driver, or that of a program that has ended: nobody waits for it.
            let idle = old.is_some_and(|old| old.as_deref().is_none_or(|name| name == OF_A_PROGRAM));
            if driver.is_some() || idle {
                continue;
            }
            write_bounded(root, Path::new("/sys/bus/usb/drivers_probe"), &interface)?;
            let link = Path::new(DEVICES).join(&interface).join("driver");
            let bound = wait_for(root, LIMIT, || old.is_none() || root.link(&link).is_some());
            if let (false, Some(Some(wanted))) = (bound, old) {
                let wanted = wanted.clone();
                return Err(FileError::NotTaken { path: link, wanted, found: "no driver".to_owned() }.into());
            }
            restored = true;
        }
        Ok(if restored { Undone::Restored } else { Undone::AlreadyBack })
    }

    fn lock_files(&self, _: &FoundUsb) -> Vec<PathBuf> {
        Vec::new()
    }

    fn observe(&self, root: &Root) -> Vec<Observed> {
        let drivers = self.drivers(root).into_iter();
        let observed = drivers.map(|(interface, driver)| {
            Observed::new(format!("driver of USB interface {interface}"), driver.unwrap_or_else(|| "none".to_owned()))
        });
        observed.collect()
    }
}

impl TakeUsb {
    fn folder(&self) -> PathBuf {
        Path::new(DEVICES).join(self.port.as_str())
    }

    /// The configuration of what is in the port; `None`: nothing is.
    fn configuration(&self, root: &Root) -> Option<String> {
        root.text_up_to(self.folder().join("bConfigurationValue"), 64)
    }

    /// The interfaces of what is in the port, each with its driver.
    fn drivers(&self, root: &Root) -> BTreeMap<String, Option<String>> {
        let names = root.names(DEVICES).into_iter();
        let interfaces = names.filter(|name| name.split_once(':').is_some_and(|(port, _)| port == self.port.as_str()));
        interfaces.map(|name| (name.clone(), root.link(Path::new(DEVICES).join(name).join("driver")))).collect()
    }
}

impl fmt::Display for TakeUsb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "take the USB device in port {}", self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::unattended;

    /// A host with a device of two interfaces, the first with a driver.
    struct Fake(tempfile::TempDir);

    impl Fake {
        fn new() -> Self {
            let fake = Self(tempfile::tempdir().unwrap());
            for name in ["3-2", "3-2:1.0", "3-2:1.1", "3-21:1.0"] {
                std::fs::create_dir_all(fake.path(name)).unwrap();
            }
            std::fs::write(fake.path("3-2/bConfigurationValue"), "1\n").unwrap();
            std::fs::write(fake.0.path().join("sys/bus/usb/drivers_probe"), "").unwrap();
            fake.bind("usbhid");
            fake
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join("sys/bus/usb/devices").join(name)
        }

        fn bind(&self, driver: &str) {
            drop(std::fs::remove_file(self.path("3-2:1.0/driver")));
            if !driver.is_empty() {
                std::os::unix::fs::symlink(format!("../../drivers/{driver}"), self.path("3-2:1.0/driver")).unwrap();
            }
        }

        fn root(&self) -> Root {
            Root::new(self.0.path())
        }

        fn probed(&self) -> String {
            std::fs::read_to_string(self.0.path().join("sys/bus/usb/drivers_probe")).unwrap()
        }
    }

    fn change() -> TakeUsb {
        TakeUsb { port: "3-2".parse().unwrap() }
    }

    #[test]
    fn a_qemu_that_let_go_left_nothing_to_do() {
        let fake = Fake::new();
        let before = change().capture(&fake.root()).unwrap();
        assert_eq!(before.drivers.len(), 2);
        change().apply(&fake.root(), &before, &unattended).unwrap();
        assert_eq!(change().undo(&fake.root(), &before).unwrap(), Undone::AlreadyBack);
        // Another program, or another guest, uses it.
        fake.bind("usbfs");
        assert_eq!(change().undo(&fake.root(), &before).unwrap(), Undone::AlreadyBack);
        std::fs::remove_dir_all(fake.path("3-2")).unwrap();
        assert_eq!(change().undo(&fake.root(), &before).unwrap(), Undone::AlreadyBack);
        assert_eq!(fake.probed(), "");
    }

    #[test]
    fn an_interface_that_lost_its_driver_is_probed_and_one_that_had_none_is_not() {
        let fake = Fake::new();
        let before = change().capture(&fake.root()).unwrap();
        fake.bind("");
        // No kernel is there to bind the driver.
        let failed = change().undo(&fake.root(), &before).unwrap_err().to_string();
        assert!(failed.contains("3-2:1.0/driver") && failed.contains("usbhid"), "{failed}");
        assert_eq!(fake.probed(), "3-2:1.0");
    }

    #[test]
    fn what_was_plugged_in_meanwhile_is_probed_and_configured() {
        let fake = Fake::new();
        let mut before = change().capture(&fake.root()).unwrap();
        before.drivers.clear();
        fake.bind("");
        std::fs::write(fake.path("3-2/bConfigurationValue"), "\n").unwrap();
        assert_eq!(change().undo(&fake.root(), &before).unwrap(), Undone::Restored);
        assert_eq!(fake.probed(), "3-2:1.1");
        assert_eq!(std::fs::read_to_string(fake.path("3-2/bConfigurationValue")).unwrap(), "1");
    }
}
