//! Whether a guest with Secure Boot trusts what Microsoft signs with its certificates of 2023: those of 2011 expired in 2026.

use std::path::Path;

use crate::host::Certificate;
use crate::plan::Severity::Soft;
use crate::plan::draft::Draft;

/// Looks into the machine's variable store or, before its first start, into the template that it will be a copy of.
pub(super) fn check(draft: &mut Draft, store: &Path, template: &Path) {
    const KEY: &str = "firmware.certificates";
    let known = |path: &Path| draft.host.files.get(path).and_then(|file| file.certificates.clone());
    let is_there = draft.host.files.get(store).is_some_and(|file| file.kind.is_some());
    let path = if is_there { store } else { template };
    let Some(known) = known(path) else { return };
    let (old, new, whose) = if draft.machine.guest.is_windows() {
        (Certificate::Windows2011, Certificate::Windows2023, "Windows")
    } else {
        (Certificate::Others2011, Certificate::Others2023, "boot loaders of others than Windows")
    };
    let shown = path.display();
    if known.contains(&new) {
        return draft.yes(KEY, Soft, format!("{shown} trusts Microsoft's certificate of 2023 for {whose}"));
    }
    // Keys of somebody else's: nothing of Microsoft's is to be started.
    if !known.contains(&old) {
        return;
    }
    let detail = format!(
        "{shown} trusts Microsoft's certificate of 2011 for {whose}, which expired in 2026, and not that of 2023: what is \
         there goes on to boot, and media that are signed with the new one alone do not"
    );
    let remedy = if is_there {
        "note BitLocker's recovery key, or suspend BitLocker, since Windows may ask for it when the certificates change; then let \
         Windows Update add them, or while the guest is off `virt-fw-vars` (Debian: python3-virt-firmware)"
    } else {
        "install a newer UEFI build (Debian: package `ovmf`) before the first start: each machine has a copy of this file"
    };
    draft.no(KEY, Soft, detail, remedy);
    draft.about("firmware");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{FileFact, FileKind};
    use crate::plan::sample::{Shape, host, plan};

    #[test]
    fn a_store_that_knows_the_certificates_of_2011_alone_is_told_with_what_to_do() {
        let template = Path::new("/vars.fd");
        let told = |known: &[Certificate], of_machine: Option<&[Certificate]>, guest: &str| {
            let mut host = host(Shape::simple(8, 2));
            let fact = |known: &[Certificate]| FileFact {
                kind: Some(FileKind::File),
                certificates: Some(known.to_vec()),
                ..FileFact::default()
            };
            host.files.insert(template.into(), fact(known));
            let text = format!(
                "(name: \"m\", guest: {guest}, memory: (size: \"4 GiB\"), firmware: Uefi(code: \"/code.fd\", vars: \"/vars.fd\", \
                 secure_boot: true))"
            );
            let store = plan(&text, &host).paths.state.join("vars.fd");
            if let Some(known) = of_machine {
                host.files.insert(store, fact(known));
            }
            let found = plan(&text, &host).findings.into_iter().find(|f| f.key == "firmware.certificates");
            found.map(|f| (f.ok == crate::plan::Verdict::Yes, f.remedy.unwrap_or_default()))
        };
        use Certificate::{Others2011, Others2023, Windows2011, Windows2023};
        let (old, new) = ([Windows2011, Others2011], [Windows2011, Windows2023, Others2011]);
        let first = told(&old, None, "Windows11").unwrap();
        assert!(!first.0 && first.1.starts_with("install a newer UEFI build"), "{first:?}");
        let later = told(&new, Some(&old), "Windows11").unwrap();
        assert!(!later.0 && later.1.contains("BitLocker's recovery key"), "{later:?}");
        assert_eq!(told(&old, Some(&new), "Windows11"), Some((true, String::new())));
        assert!(!told(&new, None, "Linux").unwrap().0);
        assert!(told(&[Others2023], None, "Linux").unwrap().0);
        assert_eq!(told(&[], None, "Windows11"), None);
    }
}
