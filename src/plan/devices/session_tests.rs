//! What a handover does to sessions: which units are stopped, who outlives them, and where the launcher goes.

use super::tests::{at, changes, details, function, holder, host, plan};
use crate::host::pci::{Holder, Node};
use crate::host::{Host, InstalledUnit};
use crate::host::{Manager, Session};
use crate::plan::{Cgroup, Move, Plan, Verdict};

fn session(id: &str, kind: &str, seat: Option<&str>) -> Session {
    Session {
        id: id.to_owned(),
        uid: 1000,
        kind: Some(kind.to_owned()),
        seat: seat.map(str::to_owned),
        ..Session::default()
    }
}

fn of_alice(comm: &str, unit: &str) -> Holder {
    Holder { manager: Some(1000), manager_name: Some("alice".to_owned()), ..holder(comm, unit) }
}

/// The host of the other tests with alice logged in at its screen, and vfio-run started by root in this cgroup.
fn desktop(cgroup: &str) -> Host {
    let mut host = host();
    host.process.cgroup = Some(cgroup.to_owned());
    let id = cgroup.split('/').find_map(|part| part.strip_prefix("session-")?.strip_suffix(".scope"));
    host.process.session = id.map(str::to_owned);
    let screen = &mut host.pci.as_mut().unwrap().screen;
    screen.sessions = vec![session("3", "wayland", Some("seat0")), session("5", "tty", None)];
    screen.managers = vec![Manager { uid: 1000, name: Some("alice".to_owned()), lingers: false }];
    host
}

const SESSION: &str = "/user.slice/user-1000.slice/session-3.scope";
const TERMINAL: &str = "/user.slice/user-1000.slice/user@1000.service/app.slice/vte-spawn-1.scope";
const CARD: &str = r#"pci: ["01:00.*"]"#;

fn moves(more: &str, host: &Host) -> Option<Move> {
    plan(more, host).moves
}

fn stops(plan: &Plan) -> Vec<String> {
    changes(plan).into_iter().filter(|change| change.starts_with("stop")).collect()
}

fn held(plan: &Plan) -> Vec<String> {
    let held = plan.findings.iter().filter(|f| f.key.ends_with(".held") && f.ok == Verdict::No);
    held.map(|f| format!("{} > {}", f.detail, f.remedy.as_deref().unwrap_or_default())).collect()
}

#[test]
fn it_leaves_the_session_that_it_is_about_to_end_and_no_other() {
    let end = format!("{CARD}, handover: (display_manager: None, holders: End)");
    let stop = |unit: &str| format!("{CARD}, handover: (display_manager: None, units: [\"{unit}\"])");
    let (scope, manager) = (stop("session-5.scope"), stop("user@1000.service"));
    let user = format!("{CARD}, handover: (display_manager: None, user_units: [\"vte-spawn-1.scope\"])");
    let none = format!("{CARD}, handover: (display_manager: None)");
    let rows = [
        (CARD, SESSION, Some("session 3, in which vfio-run was started, ends with gdm.service")),
        (CARD, "/user.slice/user-1000.slice/session-99.scope", Some("session 99, in which")),
        (CARD, TERMINAL, Some("the session of user 1000, in which vfio-run was started, ends with gdm.service")),
        // Over ssh, on a text console, in a unit of its own.
        (CARD, "/user.slice/user-1000.slice/session-5.scope", None),
        (CARD, "/system.slice/vfio-run-test.service", None),
        (CARD, "/system.slice/cron.service", None),
        (&none, SESSION, None),
        (&scope, "/user.slice/user-1000.slice/session-5.scope", Some("in session-5.scope, which it stops")),
        (&manager, TERMINAL, Some("in user@1000.service, which it stops")),
        (&user, TERMINAL, Some("in vte-spawn-1.scope, which it stops")),
        (&end, TERMINAL, Some("vfio-run ends kwin_wayland (process 812, plasma.service of user alice)")),
        (&end, "/user.slice/user-1000.slice/session-5.scope", None),
    ];
    for (more, cgroup, expected) in rows {
        let mut host = desktop(cgroup);
        details(at(&mut host, "01:00.0")).holders.push(of_alice("kwin_wayland", "plasma.service"));
        let found = moves(more, &host);
        let why = found.as_ref().map(|moves| moves.why.as_str());
        assert!(
            why.is_some() == expected.is_some() && why.unwrap_or_default().contains(expected.unwrap_or_default()),
            "{more} in {cgroup}: {why:?}"
        );
    }
}

#[test]
fn a_terminal_of_run0_ends_with_its_users_session() {
    for group in
        ["/user.slice/user-0.slice/session-c12.scope", "/system.slice/run-p7-i8.service", "/user.slice/run-u9.service"]
    {
        let mut host = desktop(group);
        host.pci.as_mut().unwrap().screen.sessions.push(session("c12", "tty", None));
        assert_eq!(moves(CARD, &host), None, "{group}");
        host.process.became = Some(1000);
        let why = moves(CARD, &host).unwrap().why;
        assert_eq!(why, "the session of user 1000, in which vfio-run was started, ends with gdm.service", "{group}");
        // Over ssh.
        host.pci.as_mut().unwrap().screen.sessions.retain(|session| !session.is_graphical());
        host.pci.as_mut().unwrap().screen.sessions[0].uid = 1000;
        assert_eq!(moves(CARD, &host), None, "{group}");
        let none = format!("{CARD}, handover: (display_manager: None)");
        assert_eq!(moves(&none, &host), None, "{group}");
    }
    // sudo stays in the session: over ssh it goes on.
    let mut host = desktop("/user.slice/user-1000.slice/session-5.scope");
    host.process.became = Some(1000);
    assert_eq!(moves(CARD, &host), None);
}

#[test]
fn a_user_never_moves_nor_does_who_is_not_under_systemd() {
    let mut host = desktop(SESSION);
    host.process.uid = 1000;
    assert_eq!(moves(CARD, &host), None);
    let mut host = desktop(SESSION);
    host.process.systemd = false;
    let plan = plan(CARD, &host);
    assert_eq!(plan.moves, None);
    assert!(plan.findings.iter().any(|f| f.key == "handover.systemd" && f.blocks()));
}

#[test]
fn the_unit_is_the_installed_one_or_clashes_with_none() {
    let mut host = desktop(SESSION);
    let chosen = |host: &Host| moves(CARD, host).map(|moves| (moves.unit, moves.installed)).unwrap();
    assert_eq!(chosen(&host), ("vfio-run-test.service".to_owned(), false));
    let path = "/etc/systemd/system/vfio-run-test.service".into();
    host.installed_unit = Some(InstalledUnit { path, instance: None, is_ours: true });
    assert_eq!(chosen(&host), ("vfio-run-test.service".to_owned(), true));
    host.installed_unit.as_mut().unwrap().instance = Some("vfio-run@test.service".to_owned());
    assert_eq!(chosen(&host), ("vfio-run@test.service".to_owned(), true));
    host.installed_unit.as_mut().unwrap().is_ours = false;
    assert_eq!(chosen(&host), ("vfio-run-test:session.service".to_owned(), false));
}

#[test]
fn the_plan_is_that_of_the_launcher_in_its_unit() {
    let from_session = plan(CARD, &desktop(SESSION));
    let mut there = desktop("/system.slice/vfio-run-test.service");
    there.process.unit = Some("vfio-run-test.service".to_owned());
    let there = plan(CARD, &there);
    assert_eq!(from_session.cgroup, Cgroup::Made("/sys/fs/cgroup/system.slice/vfio-run-test.service/guest".into()));
    assert_eq!(Plan { moves: None, ..from_session }, there);
}

#[test]
fn a_users_unit_is_named_where_it_holds_a_device() {
    let mut host = desktop("/system.slice/ssh.service");
    let screen = &mut host.pci.as_mut().unwrap().screen;
    screen.display_manager_runs = false;
    details(at(&mut host, "01:00.0")).holders.clear();
    let sound = details(at(&mut host, "01:00.1"));
    sound.nodes = vec![Node { path: "/dev/snd/pcmC1D3p".into(), major: 116, minor: 7, subsystem: "sound".to_owned() }];
    sound.holders = vec![of_alice("wireplumber", "wireplumber.service"), of_alice("pipewire", "pipewire.service")];
    assert_eq!(
        held(&plan(CARD, &host)),
        ["0000:01:00.1 is open in wireplumber (process 812, wireplumber.service of user alice), \
          pipewire (process 812, pipewire.service of user alice) > write \
          `handover: (user_units: [\"pipewire.service\", \"pipewire.socket\", \"wireplumber.service\"])` to stop them for the \
          run"]
    );
    let written =
        r#"handover: (user_units: ["pipewire.socket", "pipewire.service", "wireplumber.service", "typo.service"])"#;
    host.pci.as_mut().unwrap().screen.user_units =
        ["pipewire.socket", "pipewire.service", "wireplumber.service"].map(str::to_owned).to_vec();
    let plan = plan(&format!("{CARD}, {written}"), &host);
    assert_eq!(held(&plan), [""; 0]);
    assert_eq!(stops(&plan).len(), 4);
    assert_eq!(stops(&plan)[0], "stop pipewire.socket of user 1000");
    let unknown: Vec<&str> = plan
        .findings
        .iter()
        .filter(|f| f.key.starts_with("handover.user_units") && f.ok == Verdict::No)
        .map(|f| f.detail.as_str())
        .collect();
    assert_eq!(unknown, ["systemd's folders for units of users have no typo.service"]);
}

#[test]
fn who_outlives_the_display_manager_is_named() {
    let mut host = desktop("/system.slice/ssh.service");
    details(at(&mut host, "01:00.0")).holders.push(of_alice("plasmashell", "plasma-plasmashell.service"));
    // Her manager stays for the session over ssh.
    assert_eq!(held(&plan(CARD, &host)).len(), 1);
    host.pci.as_mut().unwrap().screen.sessions.pop();
    assert_eq!(held(&plan(CARD, &host)), [""; 0]);
    host.pci.as_mut().unwrap().screen.managers[0].lingers = true;
    assert_eq!(held(&plan(CARD, &host)).len(), 1);
}

#[test]
fn who_holds_a_card_for_a_session_is_neither_named_nor_ended() {
    let mut host = desktop("/system.slice/ssh.service");
    let broker = |pid, comm: &str, unit: &str| Holder { pid, uid: Some(0), ..holder(comm, unit) };
    let brokers = [broker(1, "systemd", "init.scope"), broker(272, "systemd-logind", "systemd-logind.service")];
    details(at(&mut host, "01:00.0")).holders.extend(brokers);
    assert_eq!(held(&plan(CARD, &host)), [""; 0]);
    let ends = format!("{CARD}, handover: (holders: End)");
    assert_eq!(held(&plan(&ends, &host)), [""; 0]);
    // Another of root's is.
    details(at(&mut host, "01:00.0")).holders.push(broker(300, "fbtest", "fbtest.service"));
    let held = held(&plan(CARD, &host));
    assert!(held.len() == 1 && held[0].starts_with("0000:01:00.0 is open in fbtest (process 300, "), "{held:?}");
}

/// What makes another host of it.
type Spoil = fn(&mut Host);

/// A second card, which the compositor on the first has opened too.
fn two_cards() -> Host {
    let mut host = desktop(SESSION);
    let mut second = function("02:00.0", "1002:73bf", 0x03_0000, "amdgpu", 3);
    let node = |n: u32, name: &str| Node {
        path: format!("/dev/dri/{name}").into(),
        major: 226,
        minor: n,
        subsystem: "drm".into(),
    };
    details(&mut second).boot_vga = Some(false);
    details(&mut second).nodes = vec![node(1, "card1"), node(129, "renderD129")];
    let compositor = Holder { nodes: vec!["/dev/dri/card1".into()], ..of_alice("kwin_wayland", "plasma.service") };
    details(&mut second).holders = vec![compositor];
    host.pci.as_mut().unwrap().functions.push(second);
    host
}

#[test]
fn a_session_does_without_a_card_that_it_does_not_show_on() {
    let second = r#"pci: ["02:00.0"]"#;
    let given = plan(second, &two_cards());
    let hides = "have compositors close /dev/dri/card1 (0000:02:00.0)";
    let order: Vec<String> = changes(&given).into_iter().filter(|c| c.contains("dri") || c.contains("stop")).collect();
    assert_eq!(order, [hides, "see that no program holds /dev/dri/card1, /dev/dri/renderD129"]);
    assert_eq!((held(&given), given.moves), (vec![], None));
    let cases: [(&str, Spoil); 4] = [
        // The session shows on it.
        (second, |host| details(at(host, "02:00.0")).boot_vga = Some(true)),
        (second, |host| {
            host.pci.as_mut().unwrap().screen.framebuffers = vec![("fb0".into(), Some("02:00.0".parse().unwrap()))]
        }),
        // There is no other.
        (second, |host| at(host, "01:00.0").driver = None),
        (r#"pci: ["02:00.0"], handover: (display_manager: Unit("gdm.service"))"#, |_| ()),
    ];
    for (more, change) in cases {
        let mut host = two_cards();
        change(&mut host);
        let plan = plan(more, &host);
        assert_eq!(stops(&plan), ["stop gdm.service"]);
        assert!(!changes(&plan).contains(&hides.to_owned()));
    }
}
