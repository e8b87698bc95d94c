//! Firmware descriptors: which UEFI builds are installed and what they can do.
//! Source: QEMU `docs/interop/firmware.json`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::machine::DiskFormat;

/// One installed firmware build for x86-64 that lives in flash (code and variable store).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Descriptor {
    /// The descriptor's file.
    pub path: PathBuf,
    /// What it says of itself.
    pub description: String,
    /// The code image.
    pub code: PathBuf,
    /// Format of the code image.
    pub code_format: DiskFormat,
    /// The variable store's template.
    pub vars: PathBuf,
    /// Format of the variable store.
    pub vars_format: DiskFormat,
    /// QEMU machine types that it works with, as glob patterns: `pc-q35-*`.
    pub machines: Vec<String>,
    /// What it has.
    pub features: Vec<Feature>,
}

/// The features that a choice depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    /// Secure Boot is there.
    SecureBoot,
    /// The variable store's template holds keys, so Secure Boot is on.
    EnrolledKeys,
    /// System management mode must be on.
    RequiresSmm,
}
