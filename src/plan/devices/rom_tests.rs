//! Which ROM files are told, and which are refused.

use super::tests::{against, fields, host, plan};
use crate::host::Host;
use crate::host::pci::{Image, Rom};
use crate::plan::{Severity, Verdict, sample};

/// A host with a ROM in `/rom`.
fn host_with(rom: Rom) -> Host {
    let mut host = host();
    host.pci.as_mut().unwrap().roms.insert("/rom".into(), Some(rom));
    let file = crate::host::FileFact { kind: Some(crate::host::FileKind::File), mode: 0o644, ..Default::default() };
    host.files.insert("/rom".into(), file);
    host
}

#[test]
fn a_rom_must_be_one_for_the_card() {
    let image = |ids: &str, code_type| Image { ids: ids.parse().unwrap(), code_type };
    let rows: [(Rom, &str); 6] = [
        (
            Rom { length: 4, offset: None, images: vec![], ..Rom::default() },
            "!/rom is not a ROM: it has no image (55 AA, PCIR)",
        ),
        (
            Rom { length: 9, offset: Some(512), images: vec![image("10de:2684", 3)], ..Rom::default() },
            "!/rom has 512 bytes before the ROM",
        ),
        (
            Rom { length: 9, offset: Some(0), images: vec![image("1002:73bf", 3)], ..Rom::default() },
            "!/rom is for 1002:73bf, and 0000:01:00.0 is 10de:2684",
        ),
        (
            Rom { length: 9, offset: Some(0), images: vec![image("10de:2704", 3)], ..Rom::default() },
            "/rom is for 10de:2704, and 0000:01:00.0 is 10de:2684",
        ),
        (
            Rom { length: 9, offset: Some(0), images: vec![image("10de:2684", 3)], missing: 424, unended: false },
            "!/rom is cut off: its images go on for 424 bytes",
        ),
        (
            Rom { length: 9, offset: Some(0), images: vec![image("10de:2684", 3)], missing: 0, unended: true },
            "/rom ends before the image that its headers call the last",
        ),
    ];
    for (rom, expected) in rows {
        let plan = plan(r#"pci: [(address: "01:00.*", rom: "/rom")]"#, &host_with(rom));
        assert_eq!((against(&plan), fields(&plan)), (vec![expected.to_owned()], vec!["pci[0].rom".to_owned()]));
    }
}

#[test]
fn a_rom_without_an_image_for_uefi_is_told_to_a_machine_that_boots_with_it() {
    let judged = |head: &str| {
        let images = vec![Image { ids: "10de:2684".parse().unwrap(), code_type: 0 }];
        let host = host_with(Rom { length: 9, offset: Some(0), images, ..Rom::default() });
        let text = format!(r#"({head}, memory: (size: "4 GiB"), pci: [(address: "01:00.*", rom: "/rom")])"#);
        let plan = sample::plan(&text, &host);
        let finding = plan.findings.into_iter().find(|f| f.key == "pci.0000:01:00.0.rom.sane").unwrap();
        (finding.ok, finding.severity, finding.detail)
    };
    let words = "/rom has no image for UEFI, so the screen stays black until the guest's driver runs".to_owned();
    let told = (Verdict::No, Severity::Soft, words);
    assert_eq!(judged("guest: Linux"), told);
    assert_eq!(judged("guest: Other, firmware: Uefi()"), told);
    for seabios in ["guest: Linux, firmware: Bios", "guest: Other"] {
        assert_eq!(judged(seabios).0, Verdict::Yes, "{seabios}");
    }
}
