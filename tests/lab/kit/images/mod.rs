//! Everything that a lab host is booted from, made once and cached.
//!
//! In layers, so that a change costs no more than it must: the Debian system (a minute), the initramfs with the lab's
//! own files (under a second), the payload disk with the program under test and its guests (under a second).

pub mod compile;
pub mod cpio;
pub mod guests;
pub mod initramfs;
pub mod kernel;
pub mod modules;
pub mod payload;
pub mod system;
pub mod tables;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// The Debian releases that a lab host can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Release {
    /// Kernel 6.1, QEMU 7.2.
    Debian12,
    /// Kernel 6.12, QEMU 10.0.
    Debian13,
}

impl Release {
    /// Both, oldest first.
    pub const ALL: [Self; 2] = [Self::Debian12, Self::Debian13];

    /// As tests write it: `debian12`, `debian13`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debian12 => "debian12",
            Self::Debian13 => "debian13",
        }
    }

    /// As Debian's archive calls it.
    pub fn suite(self) -> &'static str {
        match self {
            Self::Debian12 => "bookworm",
            Self::Debian13 => "trixie",
        }
    }
}

impl std::str::FromStr for Release {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match Self::ALL.into_iter().find(|release| release.name() == text) {
            Some(release) => Ok(release),
            None => bail!("no lab host runs `{text}`; there are debian12 and debian13"),
        }
    }
}

/// The folder of the lab's sources.
pub fn sources() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/lab")
}

/// Builds whatever is missing for the release, telling what it does on standard error.
pub fn build(release: Release) -> Result<()> {
    let system = timed(&format!("{}: system", release.name()), || system::get(release))?;
    timed(&format!("{}: initramfs", release.name()), || initramfs::get(release, &system))?;
    timed(&format!("{}: payload", release.name()), || payload::get(release, &system))?;
    Ok(())
}

/// Runs a step and tells how long it took.
fn timed<T>(what: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("{what} …");
    let start = Instant::now();
    let result = step()?;
    eprintln!("{what}: ready after {:.1} s", start.elapsed().as_secs_f32());
    Ok(result)
}
