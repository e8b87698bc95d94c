//! Drivers, modules and consoles taken from the host and put back, below a root where a thread acts as the kernel does:
//! wherever the launcher dies, undoing from the journal alone restores the host.

#[path = "handover/host.rs"]
mod host;
#[path = "handover/recorded.rs"]
mod recorded;

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use host::{BOOT_DRIVER, BOOT_SCREEN, CURE, FAILS, FUNCTIONS, GPU, Host, PCI, PORT, SOUND, VFIO_NODE};
use proptest::prelude::*;
use vfio_run::change::{
    BindDriver, Bound, Change, ChangeError, FoundModule, FunctionError, HideCard, LeaveConsole, Own, ReleaseBootScreen,
    RemoveModule, Revive, Rung, Step as _, StopUserUnit, Undone, Write, unattended,
};
use vfio_run::host::pci::Node;
use vfio_run::journal::{Journal, Record};

fn bind(address: &str, driver: Option<&str>) -> Change {
    BindDriver { address: address.parse().unwrap(), driver: driver.map(str::to_owned) }.into()
}

fn stop_mixer() -> Change {
    StopUserUnit { uid: 1000, unit: "mixer.service".to_owned() }.into()
}

fn hide() -> Change {
    let node = Node { path: "/dev/dri/card1".into(), major: 226, minor: 1, subsystem: "drm".to_owned() };
    HideCard { address: GPU.parse().unwrap(), node }.into()
}

fn control(address: &str, set_by: Option<&str>) -> Change {
    let path = format!("/{PCI}/devices/{address}/power/control").into();
    Write { path, value: "on".to_owned(), set_by: set_by.map(str::to_owned) }.into()
}

fn leave_console() -> Change {
    LeaveConsole { name: "vtcon1".to_owned() }.into()
}

fn remove_module() -> Change {
    RemoveModule { module: "bochs".to_owned() }.into()
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let all = vec![
        control(GPU, None),
        stop_mixer(),
        hide(),
        leave_console(),
        remove_module(),
        bind(GPU, None),
        bind(GPU, Some("vfio-pci")),
        bind(SOUND, Some("vfio-pci")),
        control(SOUND, None),
    ];
    proptest::sample::subsequence(all.clone(), 1..=all.len()).prop_shuffle()
}

/// What may be in `driver_override` of the card and of its sound function before anything is done.
fn overrides() -> impl Strategy<Value = (&'static str, &'static str)> {
    // The card's must let the module bind it when it is loaded again.
    (proptest::sample::select(&["(null)", "bochs-drm"]), proptest::sample::select(&["(null)", "snd_hda_intel", "x"]))
}

/// Makes the changes and dies within one of them, before or after it touched the host; then recovers.
fn die_and_recover(host: &Host, changes: &[Change], dies_at: usize, applied: bool) {
    let root = host.root();
    let mut journal = host.journal();
    for change in &changes[..dies_at] {
        journal.make(&root, change, &unattended).unwrap();
    }
    let change = &changes[dies_at];
    let found = change.capture(&root).unwrap();
    let seq = dies_at as u32 + 1;
    journal.append(Record::Intent { seq, change: change.clone(), before: found.clone() }).unwrap();
    if applied {
        change.apply(&root, &found, &unattended).unwrap();
    }
    drop(journal);
    host.recover();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn a_death_at_any_step_is_recovered_from(changes in changes(), (gpu, sound) in overrides()) {
        for dies_at in 0..changes.len() {
            for applied in [false, true] {
                let host = Host::with_overrides(gpu, sound);
                let before = host.state();
                die_and_recover(&host, &changes, dies_at, applied);
                prop_assert_eq!(host.state(), before, "{} of {:?}", dies_at, changes);
            }
        }
    }
}

#[test]
fn a_console_that_goes_with_the_cards_framebuffer_is_bound_again() {
    let own = Own { path: format!("/{VFIO_NODE}").into(), uid: id(61184, true), gid: id(61184, false) };
    for by in [remove_module(), bind(GPU, None)] {
        let changes = [leave_console(), by, bind(GPU, Some("vfio-pci")), own.clone().into()];
        for dies_at in 0..changes.len() {
            for applied in [false, true] {
                let host = Host::new();
                host.lose_console_with_card();
                let before = host.state();
                die_and_recover(&host, &changes, dies_at, applied);
                assert_eq!(host.state(), before, "{dies_at} {applied}");
            }
        }
    }
}

/// A user other than root cannot change a file's owner to another id than its own.
fn id(wanted: u32, is_user: bool) -> u32 {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    match uid.is_root() {
        true => wanted,
        false if is_user => uid.as_raw(),
        false => gid.as_raw(),
    }
}

/// A host whose card is bound to vfio-pci and whose VFIO node has our owner.
fn owned_node() -> (Host, Journal) {
    let host = Host::new();
    let mut journal = host.journal();
    let own = Own { path: format!("/{VFIO_NODE}").into(), uid: id(61184, true), gid: id(61184, false) };
    for change in [bind(GPU, Some("vfio-pci")), own.into()] {
        journal.make(&host.root(), &change, &unattended).unwrap();
    }
    (host, journal)
}

#[test]
fn an_owner_that_udev_has_set_meanwhile_is_left_alone() {
    let (host, mut journal) = owned_node();
    // A rule of the administrator's, for which udev saw an event.
    host.udev_event(VFIO_NODE, id(0, true), id(61000, false));
    let how = journal.undo_all(&host.root()).remove(0).result.unwrap();
    if nix::unistd::geteuid().is_root() {
        assert_eq!(how, Undone::NotOurs { found: "user 0, group 61000".to_owned() });
    } else {
        assert_eq!(how, Undone::AlreadyBack, "a user's own ids are all that there is");
    }
    let (host, mut journal) = owned_node();
    host.udev_event(VFIO_NODE, id(0, true), id(0, false));
    assert_eq!(journal.undo_all(&host.root()).remove(0).result.unwrap(), Undone::AlreadyBack);
}

#[test]
fn another_node_of_the_same_name_keeps_its_owner() {
    let (host, mut journal) = owned_node();
    // Kept, so that its number is not given to the new one.
    fs::rename(host.path(VFIO_NODE), host.path("dev/vfio/old")).unwrap();
    host.put(VFIO_NODE, "");
    // Another machine's run has given it the same account.
    host.udev_event(VFIO_NODE, id(61184, true), id(61184, false));
    let how = journal.undo_all(&host.root()).remove(0).result.unwrap();
    assert_eq!(how, Undone::NotOurs { found: "another file of the same name".to_owned() });
}

#[test]
fn the_firmwares_framebuffer_is_bound_again_if_it_is_still_there() {
    let host = Host::new();
    let link = host.path(BOOT_DRIVER).join(BOOT_SCREEN);
    let driver = BOOT_DRIVER.rsplit('/').next().unwrap().to_owned();
    let change = ReleaseBootScreen { driver, device: BOOT_SCREEN.to_owned() }.into();
    let mut journal = host.journal();
    journal.make(&host.root(), &change, &unattended).unwrap();
    assert!(!link.is_symlink());
    // Made twice: the second finds nothing to do, and has nothing to put back.
    journal.make(&host.root(), &change, &unattended).unwrap();
    let results: Vec<_> = journal.undo_all(&host.root()).into_iter().map(|report| report.result.unwrap()).collect();
    assert_eq!(results, [Undone::AlreadyBack, Undone::Restored]);
    // A real kernel acts before the write returns; the thread of this one acts some time later.
    let deadline = Instant::now() + Duration::from_secs(10);
    while !link.is_symlink() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(link.is_symlink());
    journal.make(&host.root(), &change, &unattended).unwrap();
    // The card's own driver took the card's memory over, and the framebuffer's device with its driver's files is gone.
    fs::remove_file(host.path(BOOT_DRIVER).join("bind")).unwrap();
    assert_eq!(
        journal.undo_all(&host.root()).remove(0).result.unwrap(),
        Undone::NotOurs { found: "the card's own driver has the screen".to_owned() }
    );
}

#[test]
fn a_death_between_two_drivers_is_recovered_from() {
    for step in 0..3 {
        let host = Host::new();
        let before = host.state();
        let change = bind(GPU, Some("vfio-pci"));
        let found = change.capture(&host.root()).unwrap();
        host.journal().append(Record::Intent { seq: 1, change, before: found }).unwrap();
        let folder = host.path(&format!("{PCI}/devices/{GPU}"));
        fs::write(folder.join("driver_override"), "vfio-pci\n").unwrap();
        if step > 0 {
            fs::remove_file(folder.join("driver")).unwrap();
        }
        if step > 1 {
            symlink("../../drivers/vfio-pci", folder.join("driver")).unwrap();
        }
        host.recover();
        assert_eq!(host.state(), before, "step {step}");
    }
}

#[test]
fn a_dead_card_gets_no_host_driver_and_the_rest_is_undone() {
    let host = Host::new();
    let mut journal = host.journal();
    for address in [SOUND, GPU] {
        journal.make(&host.root(), &bind(address, Some("vfio-pci")), &unattended).unwrap();
    }
    let config = host.path(&format!("{PCI}/devices/{GPU}/config"));
    fs::write(&config, [0xff; 64]).unwrap();
    let reports = journal.undo_all(&host.root());
    assert!(
        matches!(reports[0].result, Err(ChangeError::Function(FunctionError::Dead { .. }))),
        "{:?}",
        reports[0].result
    );
    assert_eq!(*reports[1].result.as_ref().unwrap(), Undone::Restored);
    drop(journal);
    // It woke up, and a user tries again.
    fs::write(&config, [0x34, 0x12]).unwrap();
    host.recover();
    assert_eq!(host.state()[&format!("{GPU} driver")], "../../drivers/bochs-drm");
}

#[test]
fn a_module_whose_driver_would_be_bound_to_a_dead_card_is_not_loaded() {
    let host = Host::new();
    let before = host.state();
    let mut journal = host.journal();
    for change in [remove_module(), bind(GPU, Some("vfio-pci"))] {
        journal.make(&host.root(), &change, &unattended).unwrap();
    }
    let config = host.path(&format!("{PCI}/devices/{GPU}/config"));
    fs::write(&config, [0xff; 64]).unwrap();
    for report in journal.undo_all(&host.root()) {
        assert!(matches!(report.result, Err(ChangeError::Function(FunctionError::Dead { .. }))), "{report:?}");
    }
    assert_eq!(host.state()["module"], "false");
    // If another program loads the module now, its driver is not bound to the card either.
    assert_eq!(host.state()[&format!("{GPU} driver_override")], "vfio-pci");
    drop(journal);
    fs::write(&config, [0x34, 0x12]).unwrap();
    host.recover();
    assert_eq!(host.state(), before);
}

#[test]
fn a_module_that_comes_back_without_its_card_is_an_error_and_the_next_try_probes_the_card() {
    let host = Host::new();
    let before = host.state();
    let mut journal = host.journal();
    for change in [remove_module(), bind(GPU, Some("vfio-pci"))] {
        journal.make(&host.root(), &change, &unattended).unwrap();
    }
    fs::write(host.path(FAILS), "").unwrap();
    let reports = journal.undo_all(&host.root());
    let words = reports[1].result.as_ref().unwrap_err().to_string();
    assert_eq!(words, "0000:01:00.0 is bound to no driver, not to bochs-drm; `dmesg` may say why");
    drop(journal);
    fs::remove_file(host.path(FAILS)).unwrap();
    host.recover();
    assert_eq!(host.state(), before);
}

#[test]
fn a_module_is_recorded_with_the_cards_of_the_modules_that_it_needs() {
    let host = Host::new();
    fs::create_dir_all(host.path("sys/module/bochs/holders/bochs_drm")).unwrap();
    fs::create_dir_all(host.path("sys/module/bochs_drm")).unwrap();
    let capture = |module: &str| RemoveModule { module: module.to_owned() }.capture(&host.root()).unwrap();
    let card = Bound { address: GPU.parse().unwrap(), driver: "bochs-drm".to_owned(), screen: true };
    assert_eq!(capture("bochs-drm"), FoundModule::Module { loaded: true, functions: vec![card] });
    assert_eq!(capture("nvidia"), FoundModule::Module { loaded: false, functions: vec![] });
}

#[test]
fn records_of_older_versions_are_undone() {
    let host = Host::new();
    let before = host.state();
    host.journal().make(&host.root(), &remove_module(), &unattended).unwrap();
    let old = concat!(
        r#"{"intent":{"seq":1,"change":{"remove_module":{"module":"bochs"}},"before":{"exists":true}}}"#,
        "\n",
        r#"{"intent":{"seq":2,"change":{"bind_driver":{"address":"0000:01:00.0","driver":"vfio-pci"}},"#,
        r#""before":{"driver":{"driver":null,"module":null,"driver_override":null}}}}"#,
        "\n",
    );
    fs::write(host.folder.path().join("run").join(Journal::FILE), old).unwrap();
    host.recover();
    assert_eq!(host.state(), before);
}

#[test]
fn a_card_that_comes_back_without_its_screen_is_named() {
    let host = Host::new();
    let mut journal = host.journal();
    journal.make(&host.root(), &bind(GPU, Some("vfio-pci")), &unattended).unwrap();
    fs::remove_dir_all(host.path(&format!("{PCI}/devices/{GPU}/drm"))).unwrap();
    let words = journal.undo_all(&host.root())[0].result.as_ref().unwrap_err().to_string();
    assert!(
        words.starts_with("0000:01:00.0 is bound to bochs-drm again and has no screen (`/dev/dri/card…`)"),
        "{words}"
    );
    drop(journal);
    // The error was reported once; nothing else can be done.
    host.recover();
}

#[test]
fn a_device_that_is_stuck_in_the_kernel_is_named_and_the_rest_is_undone() {
    let host = Host::new();
    let mut journal = host.journal();
    for change in [leave_console(), control(GPU, None), bind(SOUND, Some("vfio-pci")), bind(GPU, Some("vfio-pci"))] {
        journal.make(&host.root(), &change, &unattended).unwrap();
    }
    // A read that never ends, as that of an attribute whose lock an unbind holds that never ends.
    let file = host.path(&format!("{PCI}/devices/{GPU}/driver_override"));
    fs::remove_file(&file).unwrap();
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let results: Vec<_> = journal.undo_all(&host.root()).into_iter().map(|report| report.result).collect();
    let [gpu, sound, awake, console] = results.as_slice() else { panic!("{results:?}") };
    for stuck in [gpu, awake] {
        assert!(matches!(stuck, Err(ChangeError::File(error)) if error.is_stuck()), "{stuck:?}");
    }
    for back in [sound, console] {
        assert_eq!(*back.as_ref().unwrap(), Undone::Restored);
    }
}

#[test]
fn a_driver_that_another_program_bound_is_left_alone() {
    let host = Host::new();
    let mut journal = host.journal();
    journal.make(&host.root(), &bind(SOUND, Some("vfio-pci")), &unattended).unwrap();
    let link = host.path(&format!("{PCI}/devices/{SOUND}/driver"));
    fs::remove_file(&link).unwrap();
    symlink("../../drivers/bochs-drm", &link).unwrap();
    let reports = journal.undo_all(&host.root());
    assert_eq!(*reports[0].result.as_ref().unwrap(), Undone::NotOurs { found: "bochs-drm".to_owned() });
}

#[test]
fn a_card_that_its_driver_made_anew_is_not_announced_twice() {
    let host = Host::new();
    let mut journal = host.journal();
    journal.make(&host.root(), &hide(), &unattended).unwrap();
    let card = host.path(&format!("{PCI}/devices/{GPU}/drm/card1"));
    assert_eq!(fs::read_to_string(card.join("uevent")).unwrap(), "remove");
    // Kept, so that its number is not given to the new one.
    fs::rename(&card, card.with_file_name("old")).unwrap();
    fs::create_dir(&card).unwrap();
    fs::write(card.join("uevent"), "by the kernel").unwrap();
    assert_eq!(*journal.undo_all(&host.root())[0].result.as_ref().unwrap(), Undone::AlreadyBack);
    assert_eq!(fs::read_to_string(card.join("uevent")).unwrap(), "by the kernel");
}

#[test]
fn a_unit_of_a_user_who_has_logged_out_is_not_started() {
    let host = Host::new();
    let mut journal = host.journal();
    journal.make(&host.root(), &stop_mixer(), &unattended).unwrap();
    assert_eq!(host.state()["mixer"], "inactive");
    fs::remove_file(host.path("run/user/1000/systemd/private")).unwrap();
    assert_eq!(*journal.undo_all(&host.root())[0].result.as_ref().unwrap(), Undone::AlreadyBack);
}

#[test]
fn a_unit_that_does_not_stop_is_an_error() {
    let host = Host::new();
    fs::write(host.path("bin/systemctl"), "#!/bin/sh\n[ $2 != stop ] && echo active || { echo no >&2; exit 1; }\n")
        .unwrap();
    let error = host.journal().make(&host.root(), &stop_mixer(), &unattended).unwrap_err();
    assert_eq!(error.to_string(), "mixer.service of user 1000: no");
}

fn revive(rungs: &[Rung]) -> Change {
    Revive {
        functions: vec![GPU.parse().unwrap(), SOUND.parse().unwrap()],
        port: Some(PORT.parse().unwrap()),
        rungs: rungs.to_vec(),
        note: "/revived".into(),
    }
    .into()
}

/// A host whose functions are both bound to vfio-pci and dead.
fn dead_host(rungs: &[Rung], cure: &str) -> Host {
    let host = Host::new();
    fs::write(host.path(CURE), cure).unwrap();
    let mut journal = host.journal();
    for change in [bind(SOUND, Some("vfio-pci")), bind(GPU, Some("vfio-pci")), revive(rungs)] {
        journal.make(&host.root(), &change, &unattended).unwrap();
    }
    for (address, _) in FUNCTIONS {
        fs::write(host.path(&format!("{PCI}/devices/{address}/config")), [0xff; 64]).unwrap();
    }
    host
}

fn tried(host: &Host) -> Vec<String> {
    let tried = fs::read_to_string(host.path("tried")).unwrap_or_default();
    fs::remove_file(host.path("tried")).ok();
    tried.lines().map(str::to_owned).collect()
}

#[test]
fn a_dead_card_is_woken_before_it_goes_back_and_what_helped_is_tried_first_next_time() {
    let host = dead_host(&[Rung::Reset, Rung::Bus], "reset_subordinate");
    host.recover();
    assert_eq!(tried(&host), ["reset", "reset", "reset_subordinate"]);
    for (address, driver) in FUNCTIONS {
        assert_eq!(host.state()[&format!("{address} driver")], format!("../../drivers/{driver}"));
    }
    let mut journal = host.journal();
    for change in [bind(SOUND, Some("vfio-pci")), bind(GPU, Some("vfio-pci")), revive(&[Rung::Reset, Rung::Bus])] {
        journal.make(&host.root(), &change, &unattended).unwrap();
    }
    fs::write(host.path(&format!("{PCI}/devices/{GPU}/config")), [0xff; 64]).unwrap();
    drop(journal);
    host.recover();
    assert_eq!(tried(&host), ["reset_subordinate"]);
}

#[test]
fn a_card_that_nothing_wakes_gets_no_driver_and_the_words_say_what_was_tried() {
    let host = dead_host(&[Rung::Reset, Rung::Bus, Rung::Suspend], "nothing");
    let mut journal = host.journal();
    let reports = journal.undo_all(&host.root());
    assert!(reports.iter().all(|report| report.result.is_err()), "{reports:?}");
    let words = reports[0].result.as_ref().unwrap_err().to_string();
    assert!(
        words.contains("Tried in vain: a reset, a reset of its bus, suspending the host (this host cannot)."),
        "{words}"
    );
    assert_eq!(host.state()[&format!("{GPU} driver")], "../../drivers/vfio-pci");
    drop(journal);
    // A user finds what helps, and a new process goes on.
    fs::write(host.path(CURE), "reset").unwrap();
    tried(&host);
    host.recover();
    assert_eq!(tried(&host), ["reset", "reset"]);
    assert_eq!(host.state()[&format!("{GPU} driver")], "../../drivers/bochs-drm");
}

#[test]
fn a_bus_that_the_host_uses_is_not_reset() {
    let host = dead_host(&[Rung::Bus], "reset_subordinate");
    let link = host.path(&format!("{PCI}/devices/{SOUND}/driver"));
    fs::remove_file(&link).unwrap();
    symlink("../../drivers/snd_hda_intel", &link).unwrap();
    let mut journal = host.journal();
    let reports = journal.undo_all(&host.root());
    let words = reports[0].result.as_ref().unwrap_err().to_string();
    assert!(words.contains("0000:01:00.1 is on the bus too, and snd_hda_intel uses it"), "{words}");
    assert_eq!(tried(&host), [""; 0]);
}

#[test]
fn the_host_is_suspended_only_with_an_alarm_and_if_that_cuts_the_power() {
    let host = dead_host(&[Rung::Suspend], "nothing");
    fs::write(host.path("sys/power/state"), "freeze mem\n").unwrap();
    let undo = |host: &Host| {
        let reports = host.journal().undo_all(&host.root());
        reports[0].result.as_ref().unwrap_err().to_string()
    };
    let words = undo(&host);
    assert!(words.contains("Tried in vain: suspending the host."), "{words}");
    assert_eq!(fs::read_to_string(host.path("sys/class/rtc/rtc0/wakealarm")).unwrap(), "+5");
    assert_eq!(fs::read_to_string(host.path("sys/power/state")).unwrap(), "mem");

    fs::write(host.path("sys/power/state"), "freeze mem\n").unwrap();
    fs::write(host.path("sys/power/mem_sleep"), "[s2idle] deep\n").unwrap();
    let words = undo(&host);
    assert!(words.contains("does not cut the power"), "{words}");
    assert_eq!(fs::read_to_string(host.path("sys/power/state")).unwrap(), "freeze mem\n");
}

#[test]
fn a_card_that_is_dead_before_the_handover_stays_with_its_driver() {
    let host = Host::new();
    fs::write(host.path(&format!("{PCI}/devices/{GPU}/config")), [0xff; 64]).unwrap();
    fs::write(host.path(&format!("{PCI}/devices/{GPU}/power_state")), "D3cold\n").unwrap();
    let before = host.state();
    let mut journal = host.journal();
    let refused = journal.make(&host.root(), &bind(GPU, Some("vfio-pci")), &unattended).unwrap_err().to_string();
    assert!(refused.starts_with("0000:01:00.0 does not answer (power state D3cold): "), "{refused}");
    drop(journal);
    host.recover();
    assert_eq!(host.state(), before);
}

#[test]
fn a_setting_of_one_driver_is_not_restored_for_another() {
    let host = Host::new();
    let path = format!("/{PCI}/devices/{GPU}/power/control");
    let before = fs::read_to_string(host.path(&path[1..])).unwrap();
    for (driver, expected) in [("bochs-drm", before.as_str()), ("vfio-pci", "on")] {
        let mut journal = host.journal();
        journal.make(&host.root(), &control(GPU, Some(driver)), &unattended).unwrap();
        assert!(journal.undo_all(&host.root()).iter().all(|report| report.result.is_ok()));
        assert_eq!(fs::read_to_string(host.path(&path[1..])).unwrap().trim(), expected.trim());
        journal.close().unwrap();
    }
}
