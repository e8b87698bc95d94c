use crate::host::{FileFact, FileKind, Host, Virtiofsd};
use crate::plan::sample::{Shape, host, plan};
use crate::plan::{HelperAccount, Plan, Severity, Verdict};

const RUST: &[&str] = &["--fd", "--shared-dir", "--translate-uid", "--translate-gid", "--readonly", "--modcaps"];
const C: &[&str] = &["--fd", "--socket-path"];

/// A folder of user 1000's, and a virtiofsd with these options, on a host of this user's.
fn here(us: u32, options: &[&str], namespaces: bool) -> Host {
    let mut host = host(Shape::simple(4, 1));
    (host.process.uid, host.process.gid) = (us, us);
    let folder = FileFact { kind: Some(FileKind::Folder), uid: 1000, gid: 1000, mode: 0o755, ..FileFact::default() };
    host.files.insert("/srv/data".into(), folder);
    let options = options.iter().map(|option| (*option).to_owned()).collect();
    let program = "/usr/libexec/virtiofsd".into();
    host.virtiofsd = Some(Virtiofsd { program, options, user_namespaces: Some(namespaces) });
    host
}

fn with(host: &Host, guest: &str, more: &str) -> Plan {
    let shares = format!("shares: [(tag: \"data\", folder: \"/srv/data\"{more})]");
    plan(&format!("(guest: {guest}, memory: (size: \"1 GiB\"), {shares})"), host)
}

/// The verdict of a finding, and whether it forbids the start.
fn found(plan: &Plan, key: &str) -> Option<(Verdict, Severity)> {
    plan.findings.iter().find(|finding| finding.key == key).map(|finding| (finding.ok, finding.severity))
}

fn has(plan: &Plan, words: &str) -> bool {
    plan.command.argv().join(" ").contains(words)
}

const NO: Option<(Verdict, Severity)> = Some((Verdict::No, Severity::Hard));
const UNWISE: Option<(Verdict, Severity)> = Some((Verdict::No, Severity::Soft));

#[test]
fn the_owner_of_the_folder_serves_it_if_he_can_have_a_sandbox() {
    let of = |host: &Host, more: &str| {
        let plan = with(host, "Linux", more);
        let helper = plan.helpers[0].clone();
        assert_eq!(helper.name, "virtiofsd-data");
        assert!(has(&plan, "memory-backend-memfd") && has(&plan, r#""share":true"#));
        assert!(has(&plan, r#""driver":"vhost-user-fs-pci""#));
        (helper.account, helper.argv.join(" "))
    };
    let (account, argv) = of(&here(0, RUST, true), ", read_only: true");
    assert!(matches!(account, HelperAccount::Other(account) if account.uid == 1000 && account.groups.is_empty()));
    assert!(argv.contains("--sandbox=namespace --translate-uid=squash-guest:0:1000:4294967295"), "{argv}");
    assert!(argv.ends_with(" --readonly") && !argv.contains("modcaps"), "{argv}");

    let (account, argv) = of(&here(0, RUST, false), "");
    assert_eq!(account, HelperAccount::Launcher);
    assert!(argv.contains("squash-guest:0:1000:") && argv.ends_with("--modcaps=-mknod:-setfcap"), "{argv}");

    let (account, argv) = of(&here(0, RUST, true), ", owner: Guest");
    assert_eq!(account, HelperAccount::Launcher);
    assert!(!argv.contains("squash") && argv.ends_with("--modcaps=-mknod:-setfcap"), "{argv}");

    let (account, argv) = of(&here(1000, RUST, false), "");
    assert_eq!(account, HelperAccount::Qemu);
    assert!(argv.contains("--sandbox=none"), "{argv}");

    let mut closed = here(0, RUST, true);
    closed.files.get_mut(std::path::Path::new("/srv/data")).unwrap().closed_folder = Some(("/srv".into(), 0));
    assert_eq!(of(&closed, "").0, HelperAccount::Launcher, "root can enter /srv");
}

#[test]
fn qemus_own_virtiofsd_serves_root_with_the_guests_users() {
    let plan = with(&here(0, C, true), "Linux", "");
    let argv = plan.helpers[0].argv.join(" ");
    assert!(argv.ends_with(" -f --fd=3 -o source=/srv/data -o sandbox=namespace -o modcaps=-mknod:-setfcap"), "{argv}");
    assert_eq!(found(&plan, "share.data.owner"), UNWISE);
}

#[test]
fn what_virtiofsd_cannot_serve_is_shared_by_9p_and_said() {
    let mut none = here(1000, RUST, true);
    none.virtiofsd = None;
    for (host, more) in
        [(&none, ""), (&here(1000, C, true), ""), (&here(1000, &["--fd", "--shared-dir"], true), ", read_only: true")]
    {
        let plan = with(host, "Linux", more);
        assert!(plan.helpers.is_empty() && has(&plan, "-fsdev local,id=share0,path=/srv/data,security_model=none"));
        assert!(has(&plan, r#""driver":"virtio-9p-pci""#) && has(&plan, r#""mount_tag":"data""#));
        assert_eq!(has(&plan, "readonly=on"), !more.is_empty());
        assert!(!has(&plan, "memory-backend-memfd"), "9p needs no shared memory");
        assert_eq!(found(&plan, "share.data.kind"), UNWISE);
        assert_eq!(found(&with(host, "Linux", &format!("{more}, kind: Virtiofs")), "share.data.kind"), NO);
        assert_eq!(found(&with(host, "Windows11", more), "share.data.kind"), NO, "Windows has no 9p");
    }
    assert_eq!(found(&with(&here(0, RUST, true), "Windows11", ", kind: NineP"), "share.data.kind"), NO);
    assert_eq!(
        found(&with(&here(0, RUST, true), "Windows11", ""), "shares.windows"),
        Some((Verdict::Unknown, Severity::Soft))
    );
}

#[test]
fn a_folder_that_cannot_be_served_is_told() {
    let fact = |us: u32, change: &dyn Fn(&mut FileFact)| {
        let mut host = here(us, RUST, true);
        change(host.files.get_mut(std::path::Path::new("/srv/data")).unwrap());
        host
    };
    let absent = with(&fact(0, &|file| file.kind = None), "Linux", "");
    assert_eq!(found(&absent, "share.data.folder"), NO);
    assert_eq!(found(&with(&fact(0, &|file| file.kind = Some(FileKind::File)), "Linux", ""), "share.data.folder"), NO);
    let private = fact(1001, &|file| file.mode = 0o700);
    assert_eq!(found(&with(&private, "Linux", ""), "share.data.access"), NO);
    let readable = fact(1001, &|_| {});
    assert_eq!(found(&with(&readable, "Linux", ""), "share.data.access"), UNWISE);
    assert_eq!(found(&with(&readable, "Linux", ", read_only: true"), "share.data.access"), None);
    let group = fact(1001, &|file| file.mode = 0o750);
    assert_eq!(found(&with(&group, "Linux", ""), "share.data.access"), Some((Verdict::Unknown, Severity::Hard)));
    // QEMU's own user id cannot write to a user's folder, which only matters when it serves it.
    assert_eq!(found(&with(&here(0, RUST, true), "Linux", ""), "share.data.access"), None);
    assert_eq!(found(&with(&here(0, RUST, true), "Linux", ", kind: NineP"), "share.data.access"), UNWISE);
}

#[test]
fn memory_that_helpers_cannot_map_is_refused() {
    let text =
        "(guest: Linux, memory: (size: \"1 GiB\", shared: false), shares: [(tag: \"data\", folder: \"/srv/data\")])";
    assert_eq!(found(&plan(text, &here(0, RUST, true)), "shares.memory"), NO);
}
