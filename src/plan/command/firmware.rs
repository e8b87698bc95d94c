//! Which firmware the guest starts with: a UEFI build by what its descriptor says, or QEMU's SeaBIOS.

mod by_hand;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::super::Severity::{Hard, Soft};
use super::super::draft::{Draft, by_default, by_fact};
use super::super::{Access, Keep, Opened};
use super::certificates;
use crate::host::{Descriptor, Feature, FileKind};
use crate::machine::{self, Guest, Uefi};
use crate::plan::process::account::{self, Use};
use crate::qemu::command::QemuOption;
use crate::units::{DiskFormat, Origin};

/// Block nodes of the code and of the variable store.
const CODE: &str = "firmware-code";
const VARS: &str = "firmware-vars";

/// The firmware, chosen.
#[derive(Debug)]
pub(super) enum Firmware {
    /// QEMU's own; nothing to write.
    Bios,
    /// A build in flash.
    Flash(Flash),
}

/// A build in flash and the machine's own variable store.
#[derive(Debug)]
pub(super) struct Flash {
    code: PathBuf,
    code_format: DiskFormat,
    template: PathBuf,
    vars: PathBuf,
    vars_format: DiskFormat,
    smm: bool,
    origin: Origin,
}

impl Firmware {
    /// Whether system management mode must be on.
    pub fn needs_smm(&self) -> bool {
        matches!(self, Self::Flash(flash) if flash.smm)
    }

    /// The machine's members that name the flash chips' block nodes.
    pub fn flash(&self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Bios => &[],
            Self::Flash(_) => &[("pflash0", CODE), ("pflash1", VARS)],
        }
    }

    /// Why it was chosen.
    pub fn origin(&self) -> Origin {
        match self {
            Self::Bios => by_default("QEMU's own SeaBIOS"),
            Self::Flash(flash) => flash.origin.clone(),
        }
    }
}

/// Chooses by the machine file and the descriptors, in the order of their priority.
pub(super) fn choose(draft: &mut Draft) -> Firmware {
    let guest = draft.machine.guest;
    let Some(asked) = draft.machine.uefi() else { return Firmware::Bios };
    let (secure, enrolled) = keys(guest, &asked);
    if let (Some(code), Some(template)) = (&asked.code, &asked.vars) {
        let (key, what) = ("firmware.code", "the firmware's code");
        if let Some(file) = account::opened(draft, key, key, what, code, Use::Read) {
            account::is_file(draft, key, key, what, code, &file);
        }
        let (key, what) = ("firmware.vars", "the variable store's template");
        if let Some(file) = account::exists(draft, key, key, what, template) {
            account::is_file(draft, key, key, what, template, &file);
        }
        let (code_format, vars_format) = (image_format(draft, code), image_format(draft, template));
        let part = |field, path, format| by_hand::Part { field, path, format };
        by_hand::check(draft, &part("firmware.code", code, code_format), &part("firmware.vars", template, vars_format));
        let smm = by_hand::needs_smm(draft, code, secure, asked.secure_boot.is_some());
        let origin = draft.file("firmware.code");
        let (code, template) = (code.clone(), template.clone());
        return Firmware::Flash(flash(draft, code, code_format, template, vars_format, smm, origin));
    }
    let kind = draft.machine.machine_type();
    let fits = |descriptor: &&Descriptor| {
        let has = |feature| descriptor.features.contains(&feature);
        descriptor.machines.iter().any(|pattern| covers(pattern, kind))
            && has(Feature::SecureBoot) == secure
            && has(Feature::EnrolledKeys) == enrolled
    };
    let chosen = draft.host.firmware.iter().find(fits).or_else(|| {
        // A build that could do Secure Boot and has no keys behaves as one that can't.
        let unkeyed = |descriptor: &&Descriptor| {
            descriptor.machines.iter().any(|pattern| covers(pattern, kind))
                && !descriptor.features.contains(&Feature::EnrolledKeys)
        };
        (!secure && !enrolled).then(|| draft.host.firmware.iter().find(unkeyed)).flatten()
    });
    let wanted = match (secure, enrolled) {
        (true, true) => "with Secure Boot and Microsoft's keys",
        (true, false) => "with Secure Boot and no keys",
        (false, _) => "without Secure Boot",
    };
    let Some(chosen) = chosen else {
        let detail =
            format!("no UEFI build {wanted} for {kind} among {} firmware descriptors", draft.host.firmware.len());
        let remedy = "install one (Debian: package `ovmf`; Fedora, Arch: `edk2-ovmf`), or name `code` and `vars` in `firmware: Uefi(…)`";
        draft.no("firmware.found", Hard, detail, remedy);
        draft.about("firmware");
        return Firmware::Bios;
    };
    draft.yes("firmware.found", Hard, format!("UEFI {wanted}: {}", chosen.code.display()));
    let origin = by_fact(format!("{} describes UEFI {wanted}", chosen.path.display()));
    let smm = chosen.features.contains(&Feature::RequiresSmm);
    let Descriptor { code, code_format, vars, vars_format, .. } = chosen.clone();
    Firmware::Flash(flash(draft, code, code_format, vars, vars_format, smm, origin))
}

/// Whether Secure Boot is wanted, and keys in the store.
fn keys(guest: Guest, asked: &Uefi) -> (bool, bool) {
    let secure = asked.secure_boot.unwrap_or(guest == Guest::Windows11);
    (secure, asked.enrolled_keys.unwrap_or(secure))
}

/// Looks at the variable store of an earlier run. A build finds its variables at a fixed distance from its code, so one
/// of another size is useless to it; one of another format would be left behind without a word.
fn store_fits(draft: &mut Draft, template: &Path, store: &Path, format: DiskFormat, other: &Path) {
    let size = |draft: &Draft, path: &Path| {
        let file = draft.host.files.get(path)?;
        (file.kind == Some(FileKind::File)).then_some(file.size)
    };
    let keep = "name the earlier build in `firmware: Uefi(code: …, vars: …)`";
    let lost = "which loses boot entries and enrolled keys, and Windows may ask for BitLocker's recovery key";
    match (size(draft, store), size(draft, template), size(draft, other)) {
        // The size of a qcow2 image says nothing of what is in it.
        (Some(own), Some(needed), _) if own != needed && format == DiskFormat::Raw => {
            let detail = format!(
                "the machine's UEFI variables in {} ({own} bytes) are not for this firmware, whose template {} has {needed}",
                store.display(),
                template.display()
            );
            let remedy = format!("{keep}, or move the store away to start with a fresh one, {lost}");
            draft.no("firmware.store", Hard, detail, &remedy);
            draft.about("firmware");
        }
        (None, _, Some(_)) => {
            let detail = format!(
                "this firmware keeps its variables in {}; the machine's own so far are in {}",
                store.display(),
                other.display()
            );
            let remedy = format!("{keep}; else a fresh store is made, {lost}");
            draft.no("firmware.store", Soft, detail, &remedy);
            draft.about("firmware");
        }
        _ => {}
    }
}

fn flash(
    draft: &mut Draft,
    code: PathBuf,
    code_format: DiskFormat,
    template: PathBuf,
    vars_format: DiskFormat,
    smm: bool,
    origin: Origin,
) -> Flash {
    let [raw, qcow2] = machine::Firmware::STORES.map(|name| draft.paths.state.join(name));
    let (vars, other) = if vars_format == DiskFormat::Qcow2 { (qcow2, raw) } else { (raw, qcow2) };
    store_fits(draft, &template, &vars, vars_format, &other);
    Flash { code, code_format, template, vars, vars_format, smm, origin }
}

/// The format of a file that no descriptor describes.
fn image_format(draft: &Draft, path: &Path) -> DiskFormat {
    let named = path.extension().is_some_and(|extension| extension == "qcow2");
    let seen = draft.host.files.get(path).and_then(|file| file.format);
    seen.unwrap_or(if named { DiskFormat::Qcow2 } else { DiskFormat::Raw })
}

/// The flash chips' block nodes, and the machine's copy of the variable store.
pub(super) fn write(draft: &mut Draft, firmware: &Firmware) {
    let Firmware::Flash(flash) = firmware else { return };
    if draft.machine.uefi().is_some_and(|uefi| keys(draft.machine.guest, &uefi).1) {
        certificates::check(draft, &flash.vars, &flash.template);
    }
    draft.keep.push(Keep::Copy { from: flash.template.clone(), to: flash.vars.clone() });
    if flash.smm {
        let origin = by_fact("the firmware requires system management mode");
        // Only code in system management mode may write the variables, else Secure Boot is for show.
        draft.push(QemuOption::global("cfi.pflash01", "secure", "on", origin));
    }
    let copy = by_default("the machine's own variable store, copied once");
    let images = [
        (CODE, &flash.code, flash.code_format, true, flash.origin.clone()),
        (VARS, &flash.vars, flash.vars_format, false, copy),
    ];
    for (name, path, format, read_only, origin) in images {
        let bytes = format!("{name}-file");
        let access = if read_only { Access::Read } else { Access::Write };
        let set = draft.opened(Opened { path: path.clone(), access, direct: false }, origin.clone());
        let node = |driver: &str, name: &str, key: &str, value: String| {
            Map::from_iter([
                ("driver".to_owned(), Value::from(driver)),
                ("node-name".to_owned(), name.into()),
                ("read-only".to_owned(), read_only.into()),
                (key.to_owned(), value.into()),
            ])
        };
        let file = node("file", &bytes, "filename", set);
        draft.push(QemuOption::json("-blockdev", file, origin.clone()));
        draft.push(QemuOption::json("-blockdev", node(format.name(), name, "file", bytes), origin));
    }
}

/// Whether a descriptor's pattern (`pc-q35-*`) covers a machine type. The alias stands for its newest version.
fn covers(pattern: &str, kind: &str) -> bool {
    glob(pattern, if kind == "q35" { "pc-q35-0" } else { kind })
}

/// `*` stands for any text; descriptors use no other sign.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text
            .strip_prefix(start)
            .is_some_and(|text| (0..=text.len()).filter(|i| text.is_char_boundary(*i)).any(|i| glob(rest, &text[i..]))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_descriptors_cover_versions_and_aliases() {
        assert!(covers("pc-q35-*", "q35") && covers("pc-q35-*", "pc-q35-7.2") && covers("*", "q35"));
        assert!(!covers("pc-i440fx-*", "q35") && !covers("microvm", "q35"));
        assert!(covers("pc-*-7.2", "pc-q35-7.2") && !covers("pc-*-7.1", "pc-q35-7.2"));
    }
}
