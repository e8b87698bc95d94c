//! How much is tried: an emulated host is slow, and a long series finds what its beginning does not once in a long while.

/// Environment variable that has every point of every series tried.
pub const VARIABLE: &str = "VFIO_RUN_LAB_THOROUGH";

/// Environment variable that names the only release on which a series is tried.
pub const RELEASE: &str = "VFIO_RUN_LAB_RELEASE";

const RELEASES: [&str; 2] = ["debian13", "debian12"];

/// Whether it is set.
pub fn is_on() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// The one that was asked for.
fn asked() -> Option<&'static [&'static str]> {
    let name = std::env::var(RELEASE).ok()?;
    let known = RELEASES.iter().position(|release| *release == name);
    Some(std::slice::from_ref(&RELEASES[known.unwrap_or_else(|| panic!("{RELEASE}={name}: one of {RELEASES:?}"))]))
}

/// How many rounds of a series: all, or a usual part of them.
pub fn rounds(all: u32, usual: u32) -> u32 {
    if is_on() { all } else { usual }
}

/// On which releases a series is tried: all, or the newest.
pub fn releases() -> &'static [&'static str] {
    asked().unwrap_or(if is_on() { &RELEASES } else { &["debian13"] })
}

/// The same, when the older release is the one to try: its systemd and kernel offer less, and that has to be enough.
pub fn older_releases() -> &'static [&'static str] {
    asked().unwrap_or(if is_on() { &["debian12", "debian13"] } else { &["debian12"] })
}
