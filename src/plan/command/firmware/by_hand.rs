//! A pair of code and variable store that the user names: whether it makes a flash, and what the build wants, as far as it can
//! be told.

use std::path::Path;

use crate::host::{Feature, Volume};
use crate::plan::Severity::{Hard, Soft};
use crate::plan::draft::Draft;
use crate::units::DiskFormat;

/// Sizes of flash are multiples of this (`FLASH_SECTOR_SIZE` in QEMU's `hw/i386/pc_sysfw.c`).
const SECTOR: u64 = 4096;
/// How large both may be (the machine's property `max-fw-size`).
const MAX: u64 = 8 << 20;
/// Words in the names of builds that do Secure Boot in system management mode (Debian, Fedora, Arch, Ubuntu).
const SECURE: [&str; 4] = ["secboot", "secure", "smm", ".ms."];

/// A part of the pair.
pub(super) struct Part<'a> {
    /// The field that names it.
    pub field: &'a str,
    /// The file.
    pub path: &'a Path,
    /// Its format.
    pub format: DiskFormat,
}

/// Whether each file is what it is named for, and both fit.
pub(super) fn check(draft: &mut Draft, code: &Part, vars: &Part) {
    let mut total = 0;
    for (part, wrong, is, other) in [
        (code, Volume::Variables, "begins with a variable store", "the build's code alone, such as OVMF_CODE_4M.fd"),
        (vars, Volume::Code, "is code and no variable store", "the build's variable store, such as OVMF_VARS_4M.fd"),
    ] {
        let Some(file) = draft.host.files.get(part.path).cloned().filter(|_| part.format == DiskFormat::Raw) else {
            continue;
        };
        if file.kind.is_none() {
            continue;
        }
        let shown = part.path.display();
        let (key, remedy) = (part.field, format!("name {other} in `{}`", part.field));
        total += file.size;
        if file.size == 0 || !file.size.is_multiple_of(SECTOR) {
            let detail = format!(
                "{shown} has {} bytes, of which no flash can be made: QEMU takes multiples of {SECTOR}",
                file.size
            );
            draft.no(&format!("{key}.size"), Hard, detail, &remedy);
            draft.about(part.field);
        }
        if file.volume == Some(wrong) {
            draft.no(&format!("{key}.content"), Hard, format!("{shown} {is}"), &remedy);
            draft.about(part.field);
        }
    }
    if total > MAX {
        let detail = format!("the firmware's code and variable store have {total} bytes, and QEMU takes {MAX}");
        draft.no("firmware.size", Hard, detail, "name smaller builds in `firmware: Uefi(code: …, vars: …)`");
        draft.about("firmware.code");
    }
}

/// Whether system management mode must be on for this code. `secure`: Secure Boot is meant to be on; `written`: the machine
/// file says so.
pub(super) fn needs_smm(draft: &mut Draft, code: &Path, secure: bool, written: bool) -> bool {
    let shown = code.display();
    let known = draft.host.firmware.iter().find(|descriptor| descriptor.code == code);
    let Some(features) = known.map(|descriptor| descriptor.features.clone()) else {
        let name = code.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if secure && !SECURE.iter().any(|word| name.contains(word)) {
            let detail = format!(
                "nothing says that {shown} was built for Secure Boot: if it does not use system management mode, the guest \
                 starts and can store no UEFI variable"
            );
            let remedy = "name a build such as OVMF_CODE_4M.secboot.fd, or write `secure_boot: false`";
            draft.no("firmware.smm", Soft, detail, remedy);
            draft.about("firmware.code");
        }
        return secure;
    };
    let smm = features.contains(&Feature::RequiresSmm);
    if secure && !features.contains(&Feature::SecureBoot) {
        let severity = if written { Hard } else { Soft };
        let detail = format!("the firmware {shown} has no Secure Boot");
        draft.no("firmware.secure_boot", severity, detail, "name another build, or write `secure_boot: false`");
        draft.about("firmware.code");
    } else if secure && !smm {
        let detail = format!(
            "the firmware {shown} does not use system management mode, so the guest can change its Secure Boot keys"
        );
        draft.no("firmware.smm", Soft, detail, "name a build such as OVMF_CODE_4M.secboot.fd");
        draft.about("firmware.code");
    }
    smm
}

#[cfg(test)]
mod tests {
    use crate::host::{Descriptor, Feature, FileFact, FileKind, Volume};
    use crate::plan::sample::{Shape, host, plan};
    use crate::units::DiskFormat;

    fn part(size: u64, volume: Volume) -> FileFact {
        FileFact {
            kind: Some(FileKind::File),
            mode: 0o644,
            size,
            format: Some(DiskFormat::Raw),
            volume: Some(volume),
            ..FileFact::default()
        }
    }

    /// The findings about the firmware, and whether it has flash that only system management mode may write.
    fn planned(
        code: FileFact,
        vars: FileFact,
        features: Option<&[Feature]>,
        more: &str,
    ) -> (Vec<(String, bool)>, bool) {
        let mut host = host(Shape::simple(4, 2));
        host.files.extend([("/f/code.fd".into(), code), ("/f/vars.fd".into(), vars)]);
        host.firmware = features.map_or(vec![], |features| {
            vec![Descriptor {
                path: "/f/1.json".into(),
                description: String::new(),
                code: "/f/code.fd".into(),
                code_format: DiskFormat::Raw,
                vars: "/f/vars.fd".into(),
                vars_format: DiskFormat::Raw,
                machines: vec!["pc-q35-*".to_owned()],
                features: features.to_vec(),
            }]
        });
        let text = format!(
            r#"(guest: Linux, memory: (size: "1 GiB"), firmware: Uefi(code: "/f/code.fd", vars: "/f/vars.fd", {more}))"#
        );
        let plan = plan(&text, &host);
        let no = plan.findings.iter().filter(|f| f.key.starts_with("firmware.") && f.ok == crate::plan::Verdict::No);
        let found = no.map(|finding| (finding.key.clone(), finding.blocks())).collect();
        (found, plan.command.argv().join(" ").contains("cfi.pflash01"))
    }

    const CODE: u64 = 3_653_632;
    const VARS: u64 = 540_672;

    #[test]
    fn a_pair_that_makes_no_flash_is_refused() {
        let said = |code, vars| planned(code, vars, None, "").0;
        let hard = |key: &str| vec![(key.to_owned(), true)];
        let (code, vars) = (|| part(CODE, Volume::Code), || part(VARS, Volume::Variables));
        assert_eq!(said(code(), vars()), []);
        assert_eq!(said(part(CODE - 1, Volume::Code), vars()), hard("firmware.code.size"));
        assert_eq!(said(code(), part(0, Volume::Variables)), hard("firmware.vars.size"));
        assert_eq!(said(part(8 << 20, Volume::Code), vars()), hard("firmware.size"));
        assert_eq!(said(part(CODE, Volume::Variables), vars()), hard("firmware.code.content"));
        assert_eq!(said(code(), part(VARS, Volume::Code)), hard("firmware.vars.content"));
    }

    #[test]
    fn flash_is_locked_only_for_a_build_that_can_unlock_it() {
        use Feature::{RequiresSmm, SecureBoot};
        let made = |features, more| planned(part(CODE, Volume::Code), part(VARS, Volume::Variables), features, more);
        let said = |key: &str, hard: bool| vec![(key.to_owned(), hard)];
        let secure = "secure_boot: true";
        assert_eq!(made(Some(&[SecureBoot, RequiresSmm]), secure), (vec![], true));
        assert_eq!(made(Some(&[SecureBoot, RequiresSmm]), ""), (vec![], true));
        assert_eq!(made(Some(&[SecureBoot]), secure), (said("firmware.smm", false), false));
        assert_eq!(made(Some(&[]), secure), (said("firmware.secure_boot", true), false));
        assert_eq!(made(Some(&[]), ""), (vec![], false));
        assert_eq!(made(None, secure), (said("firmware.smm", false), true));
        assert_eq!(made(None, ""), (vec![], false));
    }
}
