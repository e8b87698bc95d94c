//! A device of the guest, and how it is written: the JSON object that `-device` takes. One type for all drivers, so that
//! nothing is formatted or escaped by hand.

use serde_json::{Map, Value};

use super::command::QemuOption;
use super::role::Role;
use crate::units::Origin;

/// One device: which driver, its id, the bus that it sits on, and its properties.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// QEMU's driver: `virtio-blk-pci`.
    pub driver: String,
    /// Its id, unique in the machine.
    pub id: String,
    /// The bus that it sits on: `pcie.0`, `scsi0.0`. `None`: QEMU finds the only one that fits.
    pub bus: Option<String>,
    /// Its properties in the order that they are written.
    pub props: Map<String, Value>,
    /// What it does to the host or for others.
    pub role: Role,
}

impl Device {
    /// A device without properties, on the bus that QEMU finds.
    pub fn new(driver: impl Into<String>, id: impl Into<String>) -> Self {
        Self { driver: driver.into(), id: id.into(), bus: None, props: Map::new(), role: Role::Plain }
    }

    /// Puts it on a bus.
    #[must_use]
    pub fn on(mut self, bus: impl Into<String>) -> Self {
        self.bus = Some(bus.into());
        self
    }

    /// Sets a property.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.props.insert(key.to_owned(), value.into());
        self
    }

    /// Sets a property if there is a value.
    #[must_use]
    pub fn with_some(self, key: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// It takes a device of the host, or a descriptor of one.
    #[must_use]
    pub fn of_host(mut self) -> Self {
        self.role = Role::HostDevice;
        self
    }

    /// Sets a property to the number of a descriptor of a device of the host, as QEMU's `vhostfd` takes it.
    #[must_use]
    pub fn with_descriptor(self, key: &str, fd: i32) -> Self {
        self.with(key, fd.to_string()).of_host()
    }

    /// The `-device` option.
    pub fn option(self, origin: Origin) -> QemuOption {
        let role = self.role.clone();
        QemuOption::json("-device", self.json(), origin).with_role(role)
    }

    /// The object that `-device` takes.
    fn json(self) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("driver".to_owned(), self.driver.into());
        object.insert("id".to_owned(), self.id.into());
        if let Some(bus) = self.bus {
            object.insert("bus".to_owned(), bus.into());
        }
        object.extend(self.props);
        object
    }
}
