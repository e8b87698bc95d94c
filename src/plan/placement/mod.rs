//! Which CPUs each of QEMU's threads runs on.
//!
//! vCPU threads one to a CPU, SMT siblings adjacent, in one L3 domain if they fit, on performance cores; the emulator
//! and I/O threads on the host's CPUs closest to them. The topology that the guest sees is derived from it, so that the
//! guest's scheduler knows the truth.

mod checks;
mod choose;
mod cores;
mod place;
mod placed;
#[cfg(test)]
mod tests;

pub(super) use place::place;
pub use placed::Placement;
