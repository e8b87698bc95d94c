//! ACPI tables beside QEMU's own: the user's files, the host's licence for Windows, a battery.

use std::path::Path;

use super::super::Content;
use super::super::Severity::{Hard, Soft};
use super::super::draft::Draft;
use crate::host::{AcpiTable, FileKind};
use crate::machine::Licence;
use crate::plan::process::account;
use crate::qemu::command::QemuOption;

/// Tables of which a guest has one, which QEMU makes.
const MADE_BY_QEMU: [&str; 8] = ["APIC", "DSDT", "FACP", "FACS", "MCFG", "RSDT", "WAET", "XSDT"];

/// `-acpitable`, once for each table.
pub(super) fn write(draft: &mut Draft) {
    for (i, path) in draft.machine.acpi_tables.0.iter().enumerate() {
        file(draft, &format!("acpi_tables[{i}]"), path);
    }
    if draft.machine.licence == Licence::Host {
        licence(draft);
    }
    if draft.machine.battery {
        table(draft, Content::Battery, "battery");
    }
}

fn table(draft: &mut Draft, content: Content, field: &str) {
    let file = draft.content(content);
    draft.push(QemuOption::keys("-acpitable", None, draft.file(field)).with("file", file));
}

/// A file of the user's, which the launcher reads: QEMU's account needs no right to it.
fn file(draft: &mut Draft, field: &str, path: &Path) {
    let shown = path.display();
    let Some(fact) = account::exists(draft, field, field, "the ACPI table", path) else { return };
    let key = format!("{field}.table");
    let remedy = "name a file with one whole table, as `iasl` and `acpidump -b` write it";
    match draft.host.acpi_tables.get(path).cloned() {
        None => draft.unknown(&key, Hard, format!("vfio-run did not read the ACPI table {shown}")),
        Some(_) if fact.kind != Some(FileKind::File) => {
            draft.no(&key, Hard, format!("{shown} is no regular file"), remedy);
            draft.about(field);
        }
        Some(None) => {
            let detail = format!("vfio-run cannot read the ACPI table {shown}, or it has more than 1 MiB");
            draft.no(&key, Hard, detail, &format!("change the file's owner or mode, or correct `{field}`"));
            draft.about(field);
        }
        Some(Some(found)) => header(draft, &key, field, path, &found, remedy),
    }
    table(draft, Content::AcpiTable(path.to_owned()), field);
}

/// QEMU corrects length and checksum without a word, so that a table that was cut off would reach the guest.
fn header(draft: &mut Draft, key: &str, field: &str, path: &Path, found: &AcpiTable, remedy: &str) {
    let shown = path.display();
    let Some(signature) = &found.signature else {
        draft.no(key, Hard, format!("{shown} does not begin with the header of an ACPI table"), remedy);
        return draft.about(field);
    };
    if MADE_BY_QEMU.contains(&signature.as_str()) {
        let detail = format!("{shown} is a table {signature}, of which the guest has QEMU's own");
        draft.no(key, Hard, detail, "add what the guest lacks in a table SSDT");
        return draft.about(field);
    }
    if u64::from(found.length) != found.size {
        let detail = format!("{shown} has {} bytes, but its header says {}", found.size, found.length);
        draft.no(key, Hard, detail, remedy);
        return draft.about(field);
    }
    if !found.sums_up {
        let detail = format!("the checksum of {shown} is wrong, which QEMU corrects: the file may be damaged");
        draft.no(key, Soft, detail, "compare it with its source");
        return draft.about(field);
    }
    draft.yes(key, Hard, format!("{shown} is a table {signature} of {} bytes", found.size));
}

/// The host's tables MSDM and SLIC, those of them that there are.
fn licence(draft: &mut Draft) {
    const KEY: &str = "licence.tables";
    let known: Vec<_> = Licence::TABLES.iter().map(|path| draft.host.files.get(Path::new(path)).cloned()).collect();
    let there: Vec<&str> = Licence::TABLES
        .into_iter()
        .zip(&known)
        .filter(|(_, file)| file.as_ref().is_some_and(|file| file.kind.is_some()))
        .map(|(path, _)| path)
        .collect();
    let readable = |path: &&str| draft.host.acpi_tables.get(Path::new(path)).is_some_and(Option::is_some);
    if known.iter().all(Option::is_none) {
        return draft.unknown(KEY, Hard, "vfio-run did not look for a licence in the host's ACPI tables");
    }
    if there.is_empty() {
        let detail = "the host's firmware holds no licence for Windows: it has no ACPI table MSDM or SLIC";
        draft.no(KEY, Hard, detail, "leave `licence` out");
        return draft.about("licence");
    }
    if !there.iter().all(readable) {
        let detail = format!("vfio-run cannot read {}: only root may", there.join(" and "));
        draft.no(KEY, Hard, detail, "start as root, or leave `licence` out");
        return draft.about("licence");
    }
    draft.yes(KEY, Hard, format!("the guest gets the host's licence for Windows: {}", there.join(", ")));
    for path in there {
        table(draft, Content::AcpiTable(path.into()), "licence");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::FileFact;
    use crate::plan::sample::{Shape, host, plan};
    use crate::plan::{Descriptor, Inherited, Plan, Severity, Verdict};

    fn with(fields: &str, tables: &[(&str, Option<FileKind>, Option<AcpiTable>)]) -> Plan {
        let mut host = host(Shape::simple(4, 1));
        for (path, kind, found) in tables {
            host.files.insert(path.into(), FileFact { kind: *kind, mode: 0o400, ..FileFact::default() });
            host.acpi_tables.insert(path.into(), found.clone());
        }
        plan(&format!("(guest: Other, memory: (size: \"1 GiB\"), {fields})"), &host)
    }

    fn table(signature: &str) -> AcpiTable {
        AcpiTable { signature: Some(signature.to_owned()), length: 64, size: 64, sums_up: true }
    }

    fn verdict(plan: &Plan, key: &str) -> (Verdict, Severity) {
        let finding = plan.findings.iter().find(|finding| finding.key == key);
        let finding = finding.unwrap_or_else(|| panic!("no {key} in {:?}", plan.findings));
        (finding.ok, finding.severity)
    }

    fn contents(plan: &Plan) -> Vec<&Content> {
        let content = |descriptor| match descriptor {
            &Descriptor { what: Inherited::Content(ref content), .. } => Some(content),
            _ => None,
        };
        plan.descriptors.iter().filter_map(content).collect()
    }

    #[test]
    fn a_table_of_the_users_is_judged_by_its_header() {
        let file = Some(FileKind::File);
        for (kind, found, expected) in [
            (file, Some(table("SLIC")), (Verdict::Yes, Hard)),
            (file, Some(AcpiTable { sums_up: false, ..table("SSDT") }), (Verdict::No, Soft)),
            (file, Some(AcpiTable { size: 63, ..table("SSDT") }), (Verdict::No, Hard)),
            (file, Some(AcpiTable { signature: None, ..table("") }), (Verdict::No, Hard)),
            (file, Some(table("DSDT")), (Verdict::No, Hard)),
            (file, None, (Verdict::No, Hard)),
            (Some(FileKind::Other), None, (Verdict::No, Hard)),
        ] {
            let plan = with("acpi_tables: [\"/t.aml\"]", &[("/t.aml", kind, found.clone())]);
            assert_eq!(verdict(&plan, "acpi_tables[0].table"), expected, "{found:?}");
            assert_eq!(contents(&plan), [&Content::AcpiTable("/t.aml".into())]);
            let argv = plan.command.argv().join(" ");
            assert!(argv.contains(" -acpitable file=/proc/self/fd/"), "{argv}");
        }
        let missing = with("acpi_tables: [\"/t.aml\"]", &[("/t.aml", None, None)]);
        assert_eq!(verdict(&missing, "acpi_tables[0].exists"), (Verdict::No, Hard));
    }

    #[test]
    fn the_licence_is_what_tables_of_it_the_host_has() {
        let [msdm, slic] = Licence::TABLES;
        let file = Some(FileKind::File);
        for (tables, expected, given) in [
            (&[(msdm, file, Some(table("MSDM"))), (slic, None, None)][..], Verdict::Yes, vec![msdm]),
            (&[(msdm, file, Some(table("MSDM"))), (slic, file, Some(table("SLIC")))], Verdict::Yes, vec![msdm, slic]),
            (&[(msdm, file, None), (slic, None, None)], Verdict::No, vec![]),
            (&[(msdm, None, None), (slic, None, None)], Verdict::No, vec![]),
            (&[], Verdict::Unknown, vec![]),
        ] {
            let plan = with("licence: Host", tables);
            assert_eq!(verdict(&plan, "licence.tables").0, expected, "{tables:?}");
            let given: Vec<_> = given.into_iter().map(|path| Content::AcpiTable(path.into())).collect();
            assert_eq!(contents(&plan), given.iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_battery_is_a_table_of_our_own() {
        assert_eq!(contents(&with("battery: true", &[])), [&Content::Battery]);
        assert!(contents(&with("battery: false", &[])).is_empty());
    }
}
