//! Places on the guest's PCI Express bus. Each device gets a root port of its own, as on a real board: that gives it its
//! own slot number for hot-plug and its own link, and a passed-through GPU later finds the same tree.
//!
//! Root ports are functions of multifunction slots, eight to a slot, so that a slot of the root complex is not used up by
//! each device.

use super::device::Device;

/// Where the emulated graphics card is, before all root ports: firmware looks at the slots in order.
pub const VIDEO_ADDR: &str = "f.0";
/// Where a watchdog on the conventional bus is.
pub const WATCHDOG_ADDR: &str = "e.0";
/// The first slot of `pcie.0` that root ports take. Those below it stay free for devices that the user adds by hand
/// without an address: QEMU makes them before all that is written as JSON, and puts them into the first free slot.
const FIRST_SLOT: u32 = 0x10;
/// The slots from here on belong to the q35 chipset (USB at 1a and 1d, the LPC bridge at 1f).
const END_SLOT: u32 = 0x1a;
/// Chassis numbers of ports in slots of their own follow those of the others.
const FIRST_OWN_CHASSIS: u32 = RootPorts::MAX;
/// Functions of a slot.
const FUNCTIONS: u32 = 8;

/// The root ports given out so far.
#[derive(Debug, Default)]
pub struct RootPorts {
    used: u32,
}

impl RootPorts {
    /// How many there can be.
    pub const MAX: u32 = (END_SLOT - FIRST_SLOT) * FUNCTIONS;

    /// A root port in a slot of its own, beyond those that [`Self::port_for`] gives out.
    pub fn port_in(&mut self, slot: u8, device: &str) -> Device {
        let slot = u32::from(slot);
        let port =
            Device::new("pcie-root-port", format!("port-{device}")).on("pcie.0").with("addr", format!("{slot:x}.0"));
        port.with("port", slot * FUNCTIONS % 256).with("chassis", FIRST_OWN_CHASSIS + slot)
    }

    /// A root port for the device of this id, or `None` if all are taken. The port's id is the bus that the device
    /// sits on.
    pub fn port_for(&mut self, device: &str) -> Option<Device> {
        if self.used == Self::MAX {
            return None;
        }
        let (slot, function) = (FIRST_SLOT + self.used / FUNCTIONS, self.used % FUNCTIONS);
        self.used += 1;
        let port = Device::new("pcie-root-port", format!("port-{device}"))
            .on("pcie.0")
            .with("addr", format!("{slot:x}.{function:x}"))
            // Port and chassis number tell the guest which slot it is; each must be unique.
            .with("port", slot * FUNCTIONS + function)
            .with("chassis", self.used);
        // The guest looks for further functions only if function 0 announces them.
        Some(if function == 0 { port.with("multifunction", true) } else { port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_fill_a_slot_before_the_next_and_announce_it_once() {
        let mut ports = RootPorts::default();
        let made: Vec<Device> = (0..10).map(|n| ports.port_for(&format!("d{n}")).unwrap()).collect();
        let addr = |n: usize| made[n].props["addr"].as_str().unwrap().to_owned();
        assert_eq!([addr(0), addr(7), addr(8)], ["10.0", "10.7", "11.0"]);
        let announced = made.iter().filter(|p| p.props.contains_key("multifunction")).count();
        assert_eq!(announced, 2);
    }

    #[test]
    fn numbers_are_unique_up_to_the_last_and_then_it_ends() {
        let mut ports = RootPorts::default();
        let mut seen = std::collections::BTreeSet::new();
        for n in 0..RootPorts::MAX {
            let port = ports.port_for(&n.to_string()).unwrap();
            assert!(seen.insert(port.props["chassis"].as_u64().unwrap()));
            // `chassis` and `port` are 8 bits wide in QEMU.
            assert!(port.props["chassis"].as_u64().unwrap() < 256 && port.props["port"].as_u64().unwrap() < 256);
        }
        assert_eq!(ports.port_for("more"), None);
    }
}
