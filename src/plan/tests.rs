use super::sample::{Shape, host, plan};
use super::{Access, Account, Inherited, Opened, Plan, Verdict};
use crate::change::{Change, Own};
use crate::host::{FileFact, FileKind, ForeignLink, Host};
use crate::units::DiskFormat;

fn file() -> FileFact {
    FileFact {
        kind: Some(FileKind::File),
        uid: 1000,
        gid: 1000,
        mode: 0o600,
        size: 1 << 30,
        format: Some(DiskFormat::Raw),
        direct_io: Some(true),
        ..FileFact::default()
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
fn an_image_in_another_format_is_no_empty_disk() {
    let vmdk = || FileFact { other_format: Some("vmdk".to_owned()), ..file() };
    let plan = with_disk("/d.vmdk", "", vmdk());
    assert_eq!(blocking(&plan), ["disk0.format"]);
    let finding = plan.findings.iter().find(|finding| finding.key == "disk0.format").unwrap();
    let remedy = finding.remedy.as_deref().unwrap();
    assert!(remedy.starts_with("`qemu-img convert -p -f vmdk -O qcow2 /d.vmdk /d.qcow2`"), "{remedy}");
    assert_eq!(blocking(&with_disk("/d.vmdk", "format: Raw", vmdk())), [""; 0]);
}

#[test]
fn o_direct_is_given_up_where_the_file_system_refuses_it() {
    let plan = with_disk("/d.raw", "", FileFact { direct_io: Some(false), ..file() });
    assert!(says(&plan, r#""direct":false"#) && blocking(&plan).is_empty());
    assert!(plan.findings.iter().any(|finding| finding.key == "disk0.direct"));
}

#[test]
fn o_direct_is_given_up_for_a_raw_image_of_an_odd_size() {
    let direct = |size, align, more| {
        let plan = with_disk("/d.raw", more, FileFact { size, direct_align: Some(align), ..file() });
        let said = plan.findings.iter().find(|finding| finding.key == "disk0.direct");
        assert_eq!(said.is_some(), says(&plan, r#""direct":false"#));
        assert!(blocking(&plan).is_empty());
        said.is_none()
    };
    assert!(direct(1 << 20, 4096, ""));
    assert!(!direct((1 << 20) + 512, 4096, ""));
    assert!(direct((1 << 20) + 512, 512, ""));
    // Rounded up to a sector, as QEMU does.
    assert!(direct((1 << 20) + 100, 512, ""));
    assert!(!direct((1 << 20) + 100, 4096, ""));
    assert!(direct((1 << 20) + 100, 4096, "read_only: true"));
}

#[test]
fn an_empty_cd_drive_has_no_image_and_sectors_are_the_devices() {
    let host = host(Shape::simple(4, 1));
    let text = |disk: &str| format!("(guest: Other, memory: (size: \"1 GiB\"), disks: [({disk})])");
    let empty = plan(&text("media: Cd, bus: VirtioScsi"), &host);
    assert!(says(&empty, r#""driver":"scsi-cd","id":"disk0","bus":"scsi0.0","bootindex":1,"scsi-id":0}"#));
    assert!(!says(&empty, "-image") && blocking(&empty).is_empty());
    let sectors = with_disk("/d.raw", "sector: (logical: 4096)", file());
    assert!(says(&sectors, r#""logical_block_size":4096,"physical_block_size":4096"#));
}

#[test]
fn a_scsi_device_is_given_by_its_block_device_or_its_node() {
    let node = |kind, scsi| FileFact { kind: Some(kind), scsi, mode: 0o600, format: None, direct_io: None, ..file() };
    for (path, fact, driver, refused) in [
        ("/dev/sdb", node(FileKind::Block, Some(true)), "scsi-block", vec![]),
        ("/dev/sg3", node(FileKind::Character, Some(true)), "scsi-generic", vec![]),
        ("/dev/sdb1", node(FileKind::Block, Some(false)), "scsi-block", vec!["disk0.scsi"]),
        ("/dev/null", node(FileKind::Character, Some(false)), "scsi-generic", vec!["disk0.scsi"]),
        ("/srv/disk.raw", file(), "scsi-block", vec!["disk0.scsi"]),
        ("/dev/dm-0", node(FileKind::Block, None), "scsi-block", vec![]),
    ] {
        let plan = with_disk(path, "media: Lun", fact);
        assert!(says(&plan, &format!(r#""driver":"{driver}""#)) && says(&plan, r#""driver":"host_device""#), "{path}");
        assert!(!says(&plan, "write-cache") && !says(&plan, r#""discard":"unmap""#), "{path}");
        assert_eq!(blocking(&plan), refused, "{path}");
    }
    let mounted = FileFact { mounted: vec!["/home".to_owned()], ..node(FileKind::Character, Some(true)) };
    assert_eq!(blocking(&with_disk("/dev/sg3", "media: Lun", mounted)), ["disk0.mounted"]);
}

#[test]
fn root_s_machines_have_a_user_of_their_own_who_gets_descriptors_of_their_disks() {
    let mut root = with_file("/d.raw", file());
    (root.process.uid, root.process.gid, root.kvm.group) = (0, 0, Some(104));
    root.accounts.insert("vm".to_owned(), (1000, 1001));
    let text = |user: &str| format!("(guest: Other, memory: (size: \"1 GiB\"), disks: [(file: \"/d.raw\")], {user})");
    let own = plan(&text(""), &root);
    let Some(Account { uid, gid, groups }) = own.account.clone() else { panic!("{:?}", own.account) };
    assert!((61184..=65519).contains(&uid) && gid == uid && groups == [104]);
    let opened = Opened { path: "/d.raw".into(), access: Access::Write, direct: true };
    let disk = own.descriptors.iter().find(|descriptor| descriptor.what == Inherited::File(opened.clone())).unwrap();
    assert!(says(&own, &format!("fd={0},set={0},opaque=/d.raw", disk.fd)));
    assert!(says(&own, &format!(r#""filename":"/dev/fdset/{}""#, disk.fd)) && blocking(&own).is_empty());

    // A service has it.
    root.process.dynamic_uids = vec![uid];
    let other = plan(&text(""), &root).account.unwrap().uid;
    assert!(other != uid && (61184..=65519).contains(&other));

    let as_root = plan(&text("user: \"root\""), &root);
    assert_eq!(as_root.account, None);
    assert!(
        as_root.findings.iter().any(|found| found.key == "account.root" && found.ok == Verdict::No && !found.blocks())
    );
    let named = plan(&text("user: \"vm\""), &root);
    assert_eq!(named.account, Some(Account { uid: 1000, gid: 1001, groups: vec![104] }));
    for plan in [&own, &named] {
        assert!(plan.changes.iter().all(|planned| !matches!(planned.change, Change::Own(_))));
    }
    assert_eq!(blocking(&plan(&text("user: \"nobody-here\""), &root)), ["account"]);

    let closed = FileFact { closed_folder: Some(("/home/me".into(), 1000)), ..file() };
    root.files.insert("/d.raw".into(), closed);
    assert_eq!(blocking(&plan(&text(""), &root)), [""; 0]);
    let node = FileFact { kind: Some(FileKind::Character), scsi: Some(true), ..file() };
    root.files.insert("/dev/sg3".into(), node);
    let node = plan(&text("").replace("/d.raw\"", "/dev/sg3\", media: Lun"), &root);
    let Some(Account { uid, gid, .. }) = node.account else { panic!("no account") };
    let change = Change::from(Own { path: "/dev/sg3".into(), uid, gid });
    assert_eq!(node.changes.iter().filter(|planned| planned.change == change).count(), 1);
}

#[test]
fn a_link_by_which_another_user_leads_root_to_a_file_is_refused() {
    let link = ForeignLink { link: "/home/mal/d.raw".into(), by: 1001, to: 0 };
    let mut host = with_file("/home/mal/d.raw", FileFact { uid: 0, foreign: Some(link), ..file() });
    let text = "(guest: Other, memory: (size: \"1 GiB\"), disks: [(file: \"/home/mal/d.raw\")])";
    (host.process.uid, host.process.gid) = (0, 0);
    let refused = plan(text, &host);
    assert_eq!(blocking(&refused), ["disk0.access"]);
    let words = "the link /home/mal/d.raw, which belongs to user 1001, leads to the image, a file of user 0; root does not follow it";
    assert!(refused.findings.iter().any(|finding| finding.detail == words));
}

#[test]
fn a_file_that_not_even_root_can_open_is_named() {
    let said = |fact: FileFact, more: &str| {
        let mut host = with_file("/d.raw", fact);
        (host.process.uid, host.process.gid) = (0, 0);
        let text = format!("(guest: Other, memory: (size: \"1 GiB\"), disks: [(file: \"/d.raw\"{more})])");
        let plan = plan(&text, &host);
        let blocking = plan.findings.iter().filter(|finding| finding.blocks());
        blocking.map(|finding| finding.detail.clone()).collect::<Vec<_>>()
    };
    let denied = || Some("Permission denied".to_owned());
    let squashed = FileFact { unreadable: denied(), unwritable: denied(), ..file() };
    assert_eq!(said(squashed, ""), ["not even root can read the image /d.raw: Permission denied"]);
    let mounted = || FileFact { unwritable: Some("Read-only file system".to_owned()), ..file() };
    assert_eq!(said(mounted(), ""), ["not even root can write the image /d.raw: Read-only file system"]);
    assert_eq!(said(mounted(), ", read_only: true"), [""; 0]);
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
fn a_clock_that_guests_cannot_read_by_themselves_is_told_where_kvm_runs_them() {
    let mut here = host(Shape::simple(8, 2));
    let told = |here: &Host, more: &str| {
        let plan = plan(&format!("(guest: Linux, memory: (size: \"1 GiB\"), firmware: Bios{more})"), here);
        plan.findings.iter().any(|finding| finding.key == "kvm.clock" && !finding.blocks() && finding.remedy.is_some())
    };
    for (clock, expected) in [("tsc", false), ("hpet", true), ("acpi_pm", true), ("kvm-clock", false)] {
        here.kvm.clocksource = Some(clock.to_owned());
        assert_eq!((told(&here, ""), told(&here, ", accelerator: Tcg")), (expected, false), "{clock}");
    }
    here.kvm.clocksource = None;
    assert!(!told(&here, ""));
}

#[test]
fn what_is_missing_is_named() {
    let here = host(Shape::simple(8, 2));
    let plan = plan("(guest: Windows11, memory: (size: \"100 GiB\"))", &here);
    assert_eq!(blocking(&plan), ["firmware.found", "memory.fits", "tpm.swtpm"]);
    assert!(plan.findings.iter().filter(|finding| finding.blocks()).all(|finding| finding.remedy.is_some()));
}

#[test]
fn of_what_is_missing_only_a_disk_can_be_made() {
    for (file, made) in [("/vm/a.qcow2", Some("qemu-img create -f qcow2 /vm/a.qcow2 64G")), ("/vm/setup.iso", None)] {
        let plan = with_disk(file, "", FileFact::default());
        let finding = plan.findings.iter().find(|finding| finding.key == "disk0.exists").unwrap();
        let remedy = finding.remedy.as_deref().unwrap();
        assert!(remedy.contains("correct it") && made.is_none_or(|words| remedy.contains(words)), "{remedy}");
        assert_eq!(remedy.contains("create the file"), made.is_some(), "{remedy}");
    }
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

#[test]
fn a_window_of_roots_is_told_that_no_desktop_shows_it() {
    let mut host = host(Shape::simple(4, 1));
    let verdict = |text: &str, host: &Host| {
        plan(text, host).findings.into_iter().find(|f| f.key == "display.desktop").map(|f| f.ok)
    };
    let (window, owned) = ("display: Gtk()", "display: Gtk(), user: \"0\"");
    let machine = |rest: &str| format!("(guest: Linux, memory: (size: \"1 GiB\"), firmware: Bios, {rest})");
    assert_eq!(verdict(&machine(window), &host), None);
    host.process.uid = 0;
    assert_eq!(verdict(&machine(window), &host), Some(Verdict::No));
    assert_eq!(verdict(&machine(owned), &host), Some(Verdict::No));
    assert_eq!(verdict(&machine("display: Gtk(), user: \"1000\""), &host), Some(Verdict::Unknown));
    assert_eq!(verdict(&machine("display: Vnc()"), &host), None);
}

/// The value of `-cpu`.
fn cpu_of(text: &str, host: &Host) -> String {
    let plan = plan(text, host);
    let option = plan.command.options.iter().find(|option| option.name == "-cpu").unwrap();
    option.value.written().unwrap().to_string()
}

#[test]
fn windows_gets_nested_virtualization_only_when_asked_for() {
    let mut host = host(Shape::simple(4, 1));
    let machine =
        |guest: &str, cpu: &str| format!("(guest: {guest}, memory: (size: \"1 GiB\"), firmware: Bios, cpu: ({cpu}))");
    assert!(cpu_of(&machine("Windows10", ""), &host).contains("svm=off"));
    assert!(!cpu_of(&machine("Windows10", "nested: true"), &host).contains("svm"));
    assert!(!cpu_of(&machine("Linux", ""), &host).contains("svm"));
    assert!(cpu_of(&machine("Linux", "nested: false"), &host).contains("svm=off"));
    host.kvm.parameters.insert("kvm_amd.nested".to_owned(), "0".to_owned());
    let findings = plan(&machine("Windows10", "nested: true"), &host).findings;
    assert!(findings.iter().any(|f| f.key == "cpu.nested" && f.ok == Verdict::No));
}

#[test]
fn what_kvm_offers_of_hyper_v_decides_over_the_kernels_release() {
    let mut host = host(Shape::simple(4, 1));
    let machine = "(guest: Windows10, memory: (size: \"1 GiB\"), firmware: Bios)";
    host.kernel = "5.10.0".to_owned();
    let unknown = cpu_of(machine, &host);
    assert!(unknown.contains("hv-relaxed=on") && !unknown.contains("hv-xmm-input"), "{unknown}");
    host.kvm.hyperv = Some(["hv-relaxed", "hv-xmm-input"].map(str::to_owned).into());
    let asked = cpu_of(machine, &host);
    assert!(asked.contains("hv-relaxed=on") && asked.contains("hv-xmm-input=on"), "{asked}");
    assert!(!asked.contains("hv-vapic") && !asked.contains("hv-time"), "{asked}");
    assert!(asked.contains("hv-no-nonarch-coresharing") && asked.contains("hv-vendor-id"), "{asked}");
}

#[test]
fn a_variable_store_of_another_firmware_is_noticed() {
    let mut host = host(Shape::simple(4, 1));
    let machine = "(name: \"win\", guest: Linux, memory: (size: \"1 GiB\"), \
                   firmware: Uefi(code: \"/fw/CODE.fd\", vars: \"/fw/VARS.fd\"))";
    let state = host.process.state_dir.join("win");
    let mut put = |path: &std::path::Path, size: u64| host.files.insert(path.to_owned(), FileFact { size, ..file() });
    put(std::path::Path::new("/fw/CODE.fd"), 3_653_632);
    put(std::path::Path::new("/fw/VARS.fd"), 540_672);
    let store = |host: &Host| {
        let plan = plan(machine, host);
        plan.findings.into_iter().find(|f| f.key == "firmware.store").map(|f| f.blocks())
    };
    assert_eq!(store(&host), None);
    host.files.insert(state.join("vars.fd"), FileFact { size: 540_672, ..file() });
    assert_eq!(store(&host), None);
    host.files.insert(state.join("vars.fd"), FileFact { size: 131_072, ..file() });
    assert_eq!(store(&host), Some(true));
    host.files.remove(&state.join("vars.fd"));
    host.files.insert(state.join("vars.qcow2"), FileFact { size: 131_072, ..file() });
    assert_eq!(store(&host), Some(false));
}

#[test]
fn the_hosts_own_disk_is_not_to_be_made_readable() {
    let disk =
        FileFact { kind: Some(FileKind::Block), uid: 0, gid: 6, mode: 0o600, mounted: vec!["/".to_owned()], ..file() };
    let plan = with_disk("/dev/vda", "", disk);
    assert_eq!(blocking(&plan), ["disk0.mounted"]);
    let remedy = plan.findings.iter().find(|f| f.key == "disk0.mounted").and_then(|f| f.remedy.as_deref());
    assert_eq!(remedy, Some("this host itself runs from it: name another disk"));
}
