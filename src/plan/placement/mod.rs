//! Which CPUs each of QEMU's threads runs on.
//!
//! vCPU threads one to a CPU, SMT siblings adjacent; the emulator and I/O threads on the host's CPUs closest to them. The
//! topology that the guest sees is derived from it (`told`), so that the guest's scheduler knows the truth. Which CPUs: `groups` says
//! from which cores a choice may be made, `choose` takes the best of each, `cost` compares them.

mod checks;
mod choose;
mod cores;
mod cost;
mod found;
mod groups;
mod neighbours;
mod place;
mod placed;
#[cfg(test)]
mod tests;
mod told;
#[cfg(test)]
mod told_tests;
mod why;
mod wish;

pub(super) use cores::is_amd;
pub(super) use place::place;
pub use placed::Placement;
pub(super) use told::Told;
pub use why::Why;
