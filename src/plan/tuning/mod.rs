//! What is tuned on the host for the run: a table of knobs, and work and interrupts that stay off the vCPUs' CPUs.

mod aio;
mod away;
mod boot;
mod checks;
mod decide;
mod device_irqs;
mod knobs;
mod missed;
#[cfg(test)]
mod tests;
mod wanted;

pub(super) use away::decide_after_devices;
pub(super) use decide::decide;
pub use device_irqs::DeviceIrqs;
pub(super) use device_irqs::decide_device_irqs;
pub(super) use wanted::{wanted, wanted_by_any};
