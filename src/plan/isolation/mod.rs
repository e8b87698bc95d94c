//! How everything else of the host is kept off the vCPUs' CPUs.

mod decide;
mod in_the_way;
mod partition;
mod real_time;
mod slice;
mod slices;
#[cfg(test)]
mod tests;

pub(super) use decide::decide;
pub use partition::Isolation;
pub(super) use real_time::check as check_real_time;
pub use slices::can_leave_cpus;
