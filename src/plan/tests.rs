use super::sample::{Shape, host, plan};
use super::{Account, Plan};
use crate::change::Change;
use crate::host::{FileFact, FileKind, Host};
use crate::machine::DiskFormat;

fn file() -> FileFact {
    FileFact {
        kind: Some(FileKind::File),
        uid: 1000,
        gid: 1000,
        mode: 0o600,
        size: 1 << 30,
        format: Some(DiskFormat::Raw),
        direct_io: Some(true),
        mounted: vec![],
        closed_folder: None,
        near: None,
    }
}

fn with_file(path: &str, file: FileFact) -> Host {
    let mut host = host(Shape::simple(8, 2));
    host.files.insert(path.into(), file);
    host
}

fn with_disk(path: &str, more: &str, file: FileFact) -> Plan {
    let machine = format!("(guest: Other, memory: (size: \"1 GiB\"), disks: [(file: {path:?}, {more})])");
    plan(&machine, &with_file(path, file))
}

fn blocking(plan: &Plan) -> Vec<&str> {
    plan.findings.iter().filter(|finding| finding.blocks()).map(|finding| finding.key.as_str()).collect()
}

fn says(plan: &Plan, part: &str) -> bool {
    plan.command.argv().iter().any(|word| word.contains(part))
}

#[test]
fn a_raw_image_that_a_guest_made_look_like_qcow2_is_not_believed() {
    let qcow2 = || FileFact { format: Some(DiskFormat::Qcow2), ..file() };
    assert_eq!(blocking(&with_disk("/d.img", "", qcow2())), ["disk0.format"]);
    assert_eq!(blocking(&with_disk("/d.img", "format: Qcow2", qcow2())), [""; 0]);
    let raw = with_disk("/d.img", "format: Raw", qcow2());
    assert!(blocking(&raw).is_empty() && !says(&raw, "qcow2"));
    assert!(says(&with_disk("/d.QCOW2", "", qcow2()), r#""driver":"qcow2""#));
}

#[test]
fn o_direct_is_given_up_where_the_file_system_refuses_it() {
    let plan = with_disk("/d.raw", "", FileFact { direct_io: Some(false), ..file() });
    assert!(says(&plan, r#""direct":false"#) && blocking(&plan).is_empty());
    assert!(plan.findings.iter().any(|finding| finding.key == "disk0.direct"));
}

#[test]
fn root_s_machines_have_a_user_of_their_own_and_their_disks_become_its() {
    let mut root = with_file("/d.raw", file());
    (root.process.uid, root.process.gid, root.kvm.group) = (0, 0, Some(104));
    root.accounts.insert("vm".to_owned(), (1000, 1001));
    let text = |user: &str| format!("(guest: Other, memory: (size: \"1 GiB\"), disks: [(file: \"/d.raw\")], {user})");
    let own = plan(&text(""), &root);
    let Some(Account { uid, gid, groups }) = own.account.clone() else { panic!("{:?}", own.account) };
    assert!((61184..=65519).contains(&uid) && gid == uid && groups == [104]);
    let change = Change::Own { path: "/d.raw".into(), uid, gid };
    assert_eq!(own.changes.iter().filter(|planned| planned.change == change).count(), 1);

    assert_eq!(plan(&text("user: \"root\""), &root).account, None);
    let named = plan(&text("user: \"vm\""), &root);
    assert_eq!(named.account, Some(Account { uid: 1000, gid: 1001, groups: vec![104] }));
    assert!(named.changes.iter().all(|planned| !matches!(planned.change, Change::Own { .. })));
    assert_eq!(blocking(&plan(&text("user: \"nobody-here\""), &root)), ["account"]);

    let closed = FileFact { closed_folder: Some(("/home/me".into(), 1000)), ..file() };
    root.files.insert("/d.raw".into(), closed);
    assert_eq!(blocking(&plan(&text(""), &root)), ["disk0.access"]);
}

#[test]
fn kvm_that_does_not_work_is_emulation_or_a_refusal() {
    let mut none = host(Shape::simple(8, 2));
    none.kvm.exists = false;
    let auto = plan("(guest: Windows10, memory: (size: \"1 GiB\"), firmware: Bios)", &none);
    assert!(blocking(&auto).is_empty() && says(&auto, "tcg") && !says(&auto, "hv-"));
    let must = plan("(guest: Other, accelerator: Kvm, memory: (size: \"1 GiB\"))", &none);
    assert_eq!(blocking(&must), ["kvm.works"]);
}

#[test]
fn what_is_missing_is_named() {
    let here = host(Shape::simple(8, 2));
    let plan = plan("(guest: Windows11, memory: (size: \"100 GiB\"))", &here);
    assert_eq!(blocking(&plan), ["firmware.found", "memory.fits", "tpm.swtpm"]);
    assert!(plan.findings.iter().filter(|finding| finding.blocks()).all(|finding| finding.remedy.is_some()));
}

#[test]
fn a_mac_address_stays_and_differs_by_card() {
    let text = "(guest: Other, memory: (size: \"1 GiB\"), networks: [(), ()])";
    let here = host(Shape::simple(8, 2));
    let macs = |plan: &Plan| -> Vec<String> {
        let words = plan.command.argv();
        words.iter().filter_map(|word| Some(word.split_once("\"mac\":\"")?.1[..17].to_owned())).collect()
    };
    let first = macs(&plan(text, &here));
    assert_eq!(first, macs(&plan(text, &here)));
    assert!(first.len() == 2 && first[0] != first[1] && first[0].starts_with("52:54:00:"));
}
