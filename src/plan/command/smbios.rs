//! The guest's SMBIOS tables: the host's structures, or fields of the machine file.

use std::path::Path;

use super::super::Content;
use super::super::Severity::Hard;
use super::super::draft::{Draft, by_fact};
use super::firmware::Firmware;
use crate::machine::{Smbios, SmbiosFields};
use crate::qemu::command::QemuOption;

/// The structures of the host that a guest gets: BIOS, system, board, chassis, OEM strings. Others (processors, memory,
/// slots, event logs) would tell what the guest does not have.
const OF_HOST: [u8; 5] = [0, 1, 2, 3, 11];
/// The type of the system, which has the UUID.
const SYSTEM: u8 = 1;
/// The type of OEM strings.
const OEM_STRINGS: u8 = 11;

/// `-smbios`, once for each structure.
pub(super) fn write(draft: &mut Draft, firmware: &Firmware) {
    match &draft.machine.smbios {
        Smbios::Qemu => {}
        Smbios::Host => host(draft),
        Smbios::Fields(fields) => written(draft, fields, firmware),
    }
}

/// The launcher reads what QEMU's account may not, and hands over each structure by itself: QEMU takes one a file.
fn host(draft: &mut Draft) {
    if !can_read(draft) {
        return;
    }
    let found = draft.host.smbios.clone().unwrap_or_default();
    for kind in OF_HOST.into_iter().filter(|kind| found.contains(kind)) {
        let uuid = draft.machine.uuid.filter(|_| kind == SYSTEM);
        let file = draft.content(Content::HostSmbios { kind, uuid });
        draft.push(QemuOption::keys("-smbios", None, draft.file("smbios")).with("file", file));
    }
}

fn can_read(draft: &mut Draft) -> bool {
    const KEY: &str = "smbios.host";
    let path = Smbios::TABLES;
    let there = draft.host.files.get(Path::new(path)).map(|file| file.kind.is_some());
    match (there, &draft.host.smbios) {
        (None, _) => draft.unknown(KEY, Hard, format!("vfio-run did not look for {path}")),
        (Some(_), Some(found)) if found.contains(&SYSTEM) => {
            let uuid = if draft.machine.uuid.is_some() { "the UUID of the machine file" } else { "the host's UUID" };
            draft.yes(KEY, Hard, format!("the guest sees the host's maker, model and serial numbers, and {uuid}"));
            return true;
        }
        (Some(true), None) if draft.host.process.uid != 0 => {
            let remedy = "start as root, or write the fields: `smbios: Fields(system: (manufacturer: …))`";
            draft.no(KEY, Hard, format!("only root may read the host's SMBIOS tables, {path}"), remedy);
            draft.about("smbios");
        }
        (Some(_), _) => {
            let detail = format!("this host has no SMBIOS tables with a system in {path}");
            draft.no(KEY, Hard, detail, "write the fields: `smbios: Fields(system: (manufacturer: …))`");
            draft.about("smbios");
        }
    }
    false
}

fn written(draft: &mut Draft, fields: &SmbiosFields, firmware: &Firmware) {
    for (kind, values) in fields.structures() {
        let Some(first) = values.first() else { continue };
        let part = first.field.rsplit_once('.').map_or(first.field.as_str(), |(part, _)| part);
        let mut option = QemuOption::keys("-smbios", None, draft.file(part)).with("type", kind.to_string());
        if kind == 0 && matches!(firmware, Firmware::Flash(_)) {
            // QEMU makes the whole structure then, and the bit is one that guests look at.
            option.set_from("uefi", "on", by_fact("the firmware is UEFI"));
        }
        for value in &values {
            option.set_from(value.key, &*value.value, draft.file(&value.field));
        }
        draft.push(option);
    }
    for (i, string) in fields.oem_strings.iter().enumerate() {
        // QEMU gathers the values of all options of the type.
        let option = QemuOption::keys("-smbios", None, draft.file(&format!("smbios.oem_strings[{i}]")));
        draft.push(option.with("type", OEM_STRINGS.to_string()).with("value", &**string));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::host::{FileFact, FileKind};
    use crate::plan::sample::{Shape, host, plan};
    use crate::plan::{Inherited, Plan, Verdict};

    fn with(smbios: &str, us: u32, there: bool, found: Option<&[u8]>) -> Plan {
        let mut host = host(Shape::simple(4, 1));
        host.process.uid = us;
        let kind = there.then_some(FileKind::File);
        host.files.insert(Smbios::TABLES.into(), FileFact { kind, mode: 0o400, ..FileFact::default() });
        host.smbios = found.map(|found| found.iter().copied().collect::<BTreeSet<_>>());
        plan(&format!("(guest: Other, memory: (size: \"1 GiB\"), {smbios})"), &host)
    }

    fn options(plan: &Plan) -> Vec<String> {
        let options = plan.command.options.iter().filter(|option| option.name == "-smbios");
        options.map(|option| option.value.written().unwrap()).collect()
    }

    #[test]
    fn each_structure_of_the_hosts_is_a_file_in_memory() {
        let uuid: uuid::Uuid = "123e4567-e89b-12d3-a456-426614174000".parse().unwrap();
        for (own, expected) in [(String::new(), None), (format!(", uuid: \"{uuid}\""), Some(uuid))] {
            let plan = with(&format!("smbios: Host{own}"), 0, true, Some(&[0, 1, 3, 4, 17, 127]));
            let contents: Vec<_> =
                plan.descriptors.iter().filter(|d| matches!(d.what, Inherited::Content(_))).collect();
            let content =
                |kind| Inherited::Content(Content::HostSmbios { kind, uuid: expected.filter(|_| kind == SYSTEM) });
            assert_eq!(contents.iter().map(|d| &d.what).collect::<Vec<_>>(), [&content(0), &content(1), &content(3)]);
            let files: Vec<_> = contents.iter().map(|d| format!("file=/proc/self/fd/{}", d.fd)).collect();
            assert_eq!(options(&plan), files);
        }
    }

    #[test]
    fn tables_that_cannot_be_read_are_told() {
        for (us, there, found, verdict, words) in [
            (0, true, Some(&[1][..]), Verdict::Yes, "serial numbers, and the host's UUID"),
            (1000, true, None, Verdict::No, "only root may read"),
            (0, false, None, Verdict::No, "this host has no SMBIOS tables"),
            (0, true, Some(&[0, 127]), Verdict::No, "this host has no SMBIOS tables with a system"),
        ] {
            let plan = with("smbios: Host", us, there, found);
            let finding = plan.findings.iter().find(|finding| finding.key == "smbios.host").unwrap();
            assert_eq!(finding.ok, verdict, "{finding:?}");
            assert!(finding.detail.contains(words), "{finding:?}");
        }
    }

    #[test]
    fn written_fields_are_qemus_keys_with_commas_doubled() {
        let smbios = r#"smbios: Fields(system: (manufacturer: "A, B", sku: "1"), processor: (max_speed: 4800),
            bios: (vendor: "C"), memory: (locator_prefix: "D"), oem_strings: ["x", "y=z"])"#;
        let expected = [
            "type=0,vendor=C",
            "type=1,manufacturer=A,, B,sku=1",
            "type=4,max-speed=4800",
            "type=17,loc_pfx=D",
            "type=11,value=x",
            "type=11,value=y=z",
        ];
        assert_eq!(options(&with(smbios, 1000, true, None)), expected);
    }
}
