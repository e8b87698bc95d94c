//! Firmware descriptors: which UEFI builds are installed and what they can do.
//! Source: QEMU `docs/interop/firmware.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::host::{Environment, Root};
use crate::units::DiskFormat;

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

/// A descriptor is some 800 bytes; more than this is none.
const MAX_LENGTH: usize = 256 << 10;

/// The descriptors in order of priority. The same name in an earlier folder overrides, an empty file masks, and the
/// order is that of the names, not of the folders (QEMU `docs/interop/firmware.json`, "@Firmware").
///
/// A descriptor names files that are copied and read with our rights, so root (`uid` 0) takes only the system's: its `HOME`
/// may be another user's (`sudo -E`). A QEMU that is installed elsewhere (/usr/local, Nix) has its own beside it: `qemu` is its
/// program.
pub(in crate::host) fn read(root: &Root, environment: &Environment, uid: u32, qemu: Option<&Path>) -> Vec<Descriptor> {
    let own = environment.xdg("XDG_CONFIG_HOME", ".config").filter(|_| uid != 0);
    let beside = qemu.and_then(|program| {
        // What stands in PATH may be a link to it.
        let program = std::fs::canonicalize(root.path(program)).ok()?;
        let top = std::fs::canonicalize(root.path("/")).ok()?;
        let prefix = program.parent()?.parent()?.strip_prefix(top).ok()?;
        Some(Path::new("/").join(prefix).join("share/qemu/firmware"))
    });
    let folders = [
        own.map(|folder| folder.join("qemu/firmware")),
        Some("/etc/qemu/firmware".into()),
        Some("/usr/share/qemu/firmware".into()),
        beside,
    ];
    let mut by_name: BTreeMap<String, PathBuf> = BTreeMap::new();
    for folder in folders.into_iter().flatten() {
        for name in root.names(&folder).into_iter().filter(|name| name.ends_with(".json")) {
            let path = folder.join(&name);
            by_name.entry(name).or_insert(path);
        }
    }
    by_name.into_values().filter_map(|path| read_one(root, &path)).collect()
}

/// One descriptor, or nothing if it describes another kind of firmware, is masked, or can't be read.
fn read_one(root: &Root, path: &Path) -> Option<Descriptor> {
    let text = root.text_up_to(path, MAX_LENGTH)?;
    if text.is_empty() {
        return None;
    }
    match serde_json::from_str::<Written>(&text) {
        Ok(written) => written.into_descriptor(path),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "skipped a firmware descriptor that can't be read");
            None
        }
    }
}

/// A descriptor as it is written, as far as it matters here. What it says beyond that is not looked at, for newer
/// versions of the format add to it.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Written {
    #[serde(default)]
    description: String,
    interface_types: Vec<String>,
    mapping: Mapping,
    targets: Vec<Target>,
    #[serde(default)]
    features: Vec<String>,
}

/// How the firmware is loaded. Builds for `-kernel` or plain memory have other fields, so all are optional.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mapping {
    device: String,
    /// Since QEMU 7.0; `stateless` and `combined` have no variable store of their own.
    mode: Option<String>,
    executable: Option<Flash>,
    nvram_template: Option<Flash>,
}

#[derive(Deserialize)]
struct Flash {
    filename: PathBuf,
    format: String,
}

#[derive(Deserialize)]
struct Target {
    architecture: String,
    machines: Vec<String>,
}

impl Written {
    fn into_descriptor(self, path: &Path) -> Option<Descriptor> {
        let split = self.mapping.mode.as_deref().is_none_or(|mode| mode == "split");
        if self.mapping.device != "flash" || !split || !self.interface_types.iter().any(|kind| kind == "uefi") {
            return None;
        }
        let (code, vars) = (self.mapping.executable?, self.mapping.nvram_template?);
        let machines: Vec<String> =
            self.targets.into_iter().filter(|t| t.architecture == "x86_64").flat_map(|t| t.machines).collect();
        if machines.is_empty() {
            return None;
        }
        let features = self.features.iter().filter_map(|name| match name.as_str() {
            "secure-boot" => Some(Feature::SecureBoot),
            "enrolled-keys" => Some(Feature::EnrolledKeys),
            "requires-smm" => Some(Feature::RequiresSmm),
            _ => None,
        });
        Some(Descriptor {
            path: path.to_owned(),
            description: self.description,
            code_format: format(&code.format)?,
            code: code.filename,
            vars_format: format(&vars.format)?,
            vars: vars.filename,
            machines,
            features: features.collect(),
        })
    }
}

/// QEMU's name of an image format.
fn format(name: &str) -> Option<DiskFormat> {
    match name {
        "raw" => Some(DiskFormat::Raw),
        "qcow2" => Some(DiskFormat::Qcow2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = r#"{
        "description": "UEFI firmware for x86_64, with Secure Boot and SMM, SB enabled, MS certs enrolled",
        "interface-types": ["uefi"],
        "mapping": {
            "device": "flash",
            "executable": {"filename": "/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "format": "raw"},
            "nvram-template": {"filename": "/usr/share/OVMF/OVMF_VARS_4M.ms.fd", "format": "raw"}
        },
        "targets": [{"architecture": "x86_64", "machines": ["pc-q35-*"]}],
        "features": ["acpi-s3", "amd-sev", "enrolled-keys", "requires-smm", "secure-boot", "verbose-dynamic"],
        "tags": []
    }"#;

    fn read_files(files: &[(&str, &str)]) -> Vec<Descriptor> {
        read_files_as(1000, files)
    }

    fn read_files_as(uid: u32, files: &[(&str, &str)]) -> Vec<Descriptor> {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let variables = [("HOME".to_owned(), "/home/u".into())].into();
        let program = folder.path().join("opt/q/bin/qemu-system-x86_64");
        std::fs::create_dir_all(program.parent().unwrap()).unwrap();
        std::fs::write(&program, "").unwrap();
        drop(std::os::unix::fs::symlink("q/bin/qemu-system-x86_64", folder.path().join("opt/qemu")));
        let environment = Environment { variables, ..Environment::default() };
        read(&Root::new(folder.path()), &environment, uid, Some(Path::new("/opt/qemu")))
    }

    #[test]
    fn a_qemu_that_is_installed_elsewhere_brings_its_own() {
        let found = read_files(&[
            ("opt/q/share/qemu/firmware/60-b.json", DEBIAN),
            ("opt/q/share/qemu/firmware/50-a.json", DEBIAN),
            ("usr/share/qemu/firmware/50-a.json", DEBIAN),
        ]);
        let paths: Vec<_> = found.iter().map(|d| d.path.to_str().unwrap()).collect();
        assert_eq!(paths, ["/usr/share/qemu/firmware/50-a.json", "/opt/q/share/qemu/firmware/60-b.json"]);
    }

    #[test]
    fn root_takes_no_descriptor_of_a_users() {
        let files = [("home/u/.config/qemu/firmware/10-a.json", DEBIAN), ("etc/qemu/firmware/20-b.json", DEBIAN)];
        assert_eq!(read_files_as(1000, &files).len(), 2);
        let found = read_files_as(0, &files);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].path, Path::new("/etc/qemu/firmware/20-b.json"));
    }

    #[test]
    fn debians_descriptor_is_understood() {
        let found = read_files(&[("usr/share/qemu/firmware/40-a.json", DEBIAN)]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].path, Path::new("/usr/share/qemu/firmware/40-a.json"));
        assert_eq!(found[0].code, Path::new("/usr/share/OVMF/OVMF_CODE_4M.ms.fd"));
        assert_eq!(found[0].machines, ["pc-q35-*"]);
        assert_eq!(found[0].features, [Feature::EnrolledKeys, Feature::RequiresSmm, Feature::SecureBoot]);
    }

    #[test]
    fn earlier_folders_override_by_name_an_empty_file_masks_and_names_give_the_order() {
        let found = read_files(&[
            ("usr/share/qemu/firmware/40-masked.json", DEBIAN),
            ("etc/qemu/firmware/40-masked.json", ""),
            ("usr/share/qemu/firmware/50-overridden.json", DEBIAN),
            ("home/u/.config/qemu/firmware/50-overridden.json", DEBIAN),
            ("home/u/.config/qemu/firmware/60-last.json", DEBIAN),
            ("etc/qemu/firmware/10-first.json", DEBIAN),
            ("etc/qemu/firmware/README", DEBIAN),
        ]);
        let paths: Vec<_> = found.iter().map(|d| d.path.to_str().unwrap()).collect();
        assert_eq!(
            paths,
            [
                "/etc/qemu/firmware/10-first.json",
                "/home/u/.config/qemu/firmware/50-overridden.json",
                "/home/u/.config/qemu/firmware/60-last.json"
            ]
        );
    }

    #[test]
    fn what_is_no_split_uefi_flash_for_x86_64_is_passed_over() {
        let deep = "[".repeat(100_000);
        let other = |from: &str, to: &str| DEBIAN.replace(from, to);
        let found = read_files(&[
            ("etc/qemu/firmware/1.json", &other("\"uefi\"", "\"bios\"")),
            ("etc/qemu/firmware/2.json", &other("\"flash\",", "\"flash\", \"mode\": \"stateless\",")),
            ("etc/qemu/firmware/3.json", &other("x86_64\", \"m", "aarch64\", \"m")),
            ("etc/qemu/firmware/4.json", &other("\"raw\"", "\"vmdk\"")),
            ("etc/qemu/firmware/5.json", "{\"mapping\": "),
            ("etc/qemu/firmware/6.json", &deep),
            (
                "etc/qemu/firmware/7.json",
                r#"{"interface-types": ["uefi"], "mapping": {"device": "memory", "filename": "/x"}, "targets": []}"#,
            ),
            ("etc/qemu/firmware/8.json", &other("\"flash\",", "\"flash\", \"mode\": \"split\",")),
            ("etc/qemu/firmware/9.json", "\u{0}\u{fffd}"),
        ]);
        assert_eq!(found.iter().map(|d| d.path.clone()).collect::<Vec<_>>(), [Path::new("/etc/qemu/firmware/8.json")]);
    }
}
