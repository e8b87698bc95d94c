//! Huge pages that are not there.

use crate::units::Size;

/// Not all huge pages could be reserved.
#[derive(Debug, thiserror::Error)]
pub enum HugePagesError {
    /// Another machine holds the pools.
    #[error("another machine has been reserving huge pages for minutes; `vfio-run status` shows which one starts")]
    Busy,
    /// The kernel found too few.
    #[error(
        "NUMA node {node} is short of {missing_mib} MiB in {size} pages: {got} of {wanted} pages could be reserved. \
         Reserve them at boot with `{boot}` on the kernel command line, close programs that use much memory, or write \
         `pages: Normal` in the machine file"
    )]
    Short {
        /// NUMA node.
        node: u32,
        /// Size of a page.
        size: Size,
        /// Pages that were wanted.
        wanted: u64,
        /// Pages that were free in the end.
        got: u64,
        /// The shortage in MiB.
        missing_mib: u64,
        /// The kernel parameter that reserves them at boot.
        boot: String,
    },
}
