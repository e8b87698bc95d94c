//! How much of the host a new machine has.

use crate::host::Host;
use crate::machine::{Guest, Pages};
use crate::units::Size;

/// What a game wants today; more is easily written.
const ENOUGH: u64 = 16 * Size::GIB;
/// More vCPUs than these gain little without CPUs of their own.
const MANY_VCPUS: u32 = 4;

/// The memory, its pages, and why: half of the host's, if that is free.
pub(super) fn memory(host: &Host, guest: Guest, card: bool) -> (Size, Pages, String) {
    let total = host.memory.total.map_or(8 * Size::GIB, Size::as_bytes);
    let free = host.memory.available.map_or(total, Size::as_bytes);
    let least = match guest {
        Guest::Windows11 => 4 * Size::GIB,
        Guest::Windows10 | Guest::Linux => 2 * Size::GIB,
        Guest::Other => Size::GIB,
    };
    // With less than the family wants the check says so; the host keeps a quarter.
    let share = (total / 2).max(least.min(total / 4 * 3)).min(free / 4 * 3).min(ENOUGH);
    let unit = if share >= 2 * Size::GIB { Size::GIB } else { 64 * Size::MIB };
    let size = Size::bytes((share / unit * unit).max(128 * Size::MIB));
    let of = host.memory.total.map_or_else(String::new, |total| format!(" of the host's {}", total.about()));
    match card {
        true => {
            let pages =
                "Huge pages make memory faster; with `Auto` the guest starts without them if there are too few.";
            (size, Pages::Auto, format!("{size}{of}. {pages}"))
        }
        false => (size, Pages::Normal, format!("{size}{of}.")),
    }
}

/// vCPUs of a guest that has no CPUs of its own: half of the host's, and few.
pub(super) fn vcpus(host: &Host, guest: Guest) -> u32 {
    let cpus = u32::try_from(host.cpus.online.len()).unwrap_or(MANY_VCPUS);
    // Windows 11 is not installed on fewer than two.
    (cpus / 2).clamp(if guest.is_windows() { 2 } else { 1 }, MANY_VCPUS)
}
