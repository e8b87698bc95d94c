//! How much is tried: an emulated host is slow, and a long series finds what its beginning does not once in a long while.

/// Environment variable that has every point of every series tried.
pub const VARIABLE: &str = "VFIO_RUN_LAB_THOROUGH";

/// Whether it is set.
pub fn is_on() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// How many rounds of a series: all, or a usual part of them.
pub fn rounds(all: u32, usual: u32) -> u32 {
    if is_on() { all } else { usual }
}

/// On which releases a series is tried: all, or the newest.
pub fn releases() -> &'static [&'static str] {
    if is_on() { &["debian13", "debian12"] } else { &["debian13"] }
}

/// The same, when the older release is the one to try: its systemd and kernel offer less, and that has to be enough.
pub fn older_releases() -> &'static [&'static str] {
    if is_on() { &["debian12", "debian13"] } else { &["debian12"] }
}
