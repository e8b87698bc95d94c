//! PCI functions that are not as they must be.

use crate::units::PciAddress;

/// A PCI function has the wrong driver, no screen, or does not answer.
#[derive(Debug, thiserror::Error)]
pub enum FunctionError {
    /// It is not bound to the driver that it was to be bound to.
    #[error("{address} is bound to {}, not to {wanted}; `dmesg` may say why", found.as_deref().unwrap_or("no driver"))]
    NotBound {
        /// The function.
        address: PciAddress,
        /// The driver that should be bound.
        wanted: String,
        /// The driver that is bound.
        found: Option<String>,
    },
    /// A card has its driver again, and the driver has made no DRM card of it.
    #[error(
        "{address} is bound to {driver} again and has no screen (`/dev/dri/card…`) as it had before; `dmesg` may say \
         why, and a reboot brings it back"
    )]
    NoScreen {
        /// The card.
        address: PciAddress,
        /// Its driver.
        driver: String,
    },
    /// It does not answer.
    #[error(
        "{address} does not answer{}: its configuration space reads as all ones, and binding a driver to it could crash \
         the host.{} Suspending the host to memory for a moment may wake it, then `vfio-run recover` goes on; else a \
         reboot does",
        power.as_ref().map_or_else(String::new, |state| format!(" (power state {state})")),
        if tried.is_empty() { String::new() } else { format!(" Tried in vain: {}.", tried.join(", ")) }
    )]
    Dead {
        /// The function.
        address: PciAddress,
        /// Its power state, if that could be read: `D3cold`.
        power: Option<String>,
        /// What was tried to wake it, and why it could not be.
        tried: Vec<String>,
    },
}
