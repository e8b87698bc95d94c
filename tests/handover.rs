//! Drivers, modules and consoles given away and taken back, under a root where a thread plays the kernel: wherever the
//! launcher dies, undoing from the journal alone gives the host back.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use proptest::prelude::*;
use vfio_run::change::{Change, ChangeError, Undone, unattended};
use vfio_run::host::Root;
use vfio_run::host::pci::Node;
use vfio_run::journal::{Journal, Record};

const GPU: &str = "0000:01:00.0";
const SOUND: &str = "0000:01:00.1";
/// Each function with the driver that knows it.
const FUNCTIONS: [(&str, &str); 2] = [(GPU, "bochs-drm"), (SOUND, "snd_hda_intel")];
const DRIVERS: [&str; 3] = ["bochs-drm", "snd_hda_intel", "vfio-pci"];
const PCI: &str = "sys/bus/pci";

/// A host with two functions. Files that make the kernel act are FIFOs that a thread reads.
struct Host {
    folder: tempfile::TempDir,
    off: Arc<AtomicBool>,
    kernel: Option<JoinHandle<()>>,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        let put = |path: &str, text: &str| {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), text).unwrap();
        };
        for driver in DRIVERS {
            put(&format!("{PCI}/drivers/{driver}/module/x"), "");
        }
        for (address, driver) in FUNCTIONS {
            put(&format!("{PCI}/devices/{address}/driver_override"), "(null)\n");
            put(&format!("{PCI}/devices/{address}/config"), "\u{34}\u{12}");
            put(&format!("{PCI}/devices/{address}/power/control"), "auto\n");
            symlink(format!("../../drivers/{driver}"), root.join(format!("{PCI}/devices/{address}/driver"))).unwrap();
        }
        put("sys/class/vtconsole/vtcon1/bind", "1\n");
        put("sys/module/bochs/refcnt", "0\n");
        // What modprobe does to what shows.
        put(
            "sbin/modprobe",
            "#!/bin/sh\ncd \"${0%/*}/../sys/module\"\nif [ $1 = -r ]; then rm -r $3; else mkdir $2; echo 0 >$2/refcnt; fi\n",
        );
        // What a user's service manager does, and its socket, by which it is known to live.
        put(
            "bin/systemctl",
            "#!/bin/sh\nf=${0%/*}/../mixer; case $2 in show) cat $f;; stop) echo inactive >$f;; start) echo active >$f;; esac\n",
        );
        put("mixer", "active\n");
        put("run/user/1000/systemd/private", "");
        put(&format!("{PCI}/devices/{GPU}/drm/card1/uevent"), "add");
        for program in ["sbin/modprobe", "bin/systemctl"] {
            fs::set_permissions(root.join(program), fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::create_dir(folder.path().join("run")).unwrap();
        let off = Arc::new(AtomicBool::new(false));
        let kernel = Some(kernel(root, off.clone()));
        Self { folder, off, kernel }
    }

    fn root(&self) -> Root {
        Root::new(self.folder.path().join("root"))
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root().path(path)
    }

    fn journal(&self) -> Journal {
        Journal::open(&self.folder.path().join("run")).unwrap()
    }

    /// What a user of the host would see.
    fn state(&self) -> BTreeMap<String, String> {
        let mut state = BTreeMap::new();
        let text = |path: &str| fs::read_to_string(self.path(path)).unwrap_or_default().trim().replace("(null)", "");
        for (address, _) in FUNCTIONS {
            let folder = format!("{PCI}/devices/{address}");
            let driver = fs::read_link(self.path(&format!("{folder}/driver"))).unwrap_or_default();
            state.insert(format!("{address} driver"), driver.display().to_string());
            for name in ["driver_override", "power/control"] {
                state.insert(format!("{address} {name}"), text(&format!("{folder}/{name}")));
            }
        }
        state.insert("console".to_owned(), text("sys/class/vtconsole/vtcon1/bind"));
        state.insert("mixer".to_owned(), text("mixer"));
        state.insert("card".to_owned(), text(&format!("{PCI}/devices/{GPU}/drm/card1/uevent")));
        state.insert("module".to_owned(), self.path("sys/module/bochs").exists().to_string());
        state
    }

    fn recover(&self) {
        let mut journal = self.journal();
        for report in journal.undo_all(&self.root()) {
            report.result.unwrap();
        }
        assert!(journal.close().unwrap());
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.off.store(true, Ordering::Relaxed);
        let _ = self.kernel.take().map(JoinHandle::join);
    }
}

/// Plays the kernel's part of `drivers_probe` and `unbind`.
fn kernel(root: PathBuf, off: Arc<AtomicBool>) -> JoinHandle<()> {
    let names = DRIVERS.map(|driver| format!("{PCI}/drivers/{driver}/unbind"));
    let mut files: Vec<(String, fs::File)> = Vec::new();
    for name in names.into_iter().chain([format!("{PCI}/drivers_probe")]) {
        nix::unistd::mkfifo(&root.join(&name), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let open = fs::OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(root.join(&name));
        files.push((name, open.unwrap()));
    }
    std::thread::spawn(move || {
        while !off.load(Ordering::Relaxed) {
            for (name, file) in &mut files {
                let mut address = [0; GPU.len()];
                if file.read_exact(&mut address).is_ok() {
                    act(&root, name, std::str::from_utf8(&address).unwrap());
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    })
}

fn act(root: &Path, file: &str, address: &str) {
    let folder = root.join(PCI).join("devices").join(address);
    let link = folder.join("driver");
    if file.ends_with("/unbind") {
        let driver = file.trim_end_matches("/unbind").rsplit('/').next().unwrap();
        if fs::read_link(&link).is_ok_and(|target| target.ends_with(driver)) {
            fs::remove_file(link).unwrap();
        }
    } else if !link.exists() {
        let wanted = fs::read_to_string(folder.join("driver_override")).unwrap().trim().replace("(null)", "");
        let known = FUNCTIONS.iter().find(|(its, _)| *its == address).unwrap().1;
        let driver = if wanted.is_empty() { known } else { &wanted };
        symlink(format!("../../drivers/{driver}"), link).unwrap();
    }
}

fn bind(address: &str, driver: Option<&str>) -> Change {
    Change::BindDriver { address: address.parse().unwrap(), driver: driver.map(str::to_owned) }
}

fn stop_mixer() -> Change {
    Change::StopUserUnit { uid: 1000, unit: "mixer.service".to_owned() }
}

fn hide() -> Change {
    let node = Node { path: "/dev/dri/card1".into(), major: 226, minor: 1, subsystem: "drm".to_owned() };
    Change::HideCard { address: GPU.parse().unwrap(), node }
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let control = |address: &str| Change::Write {
        path: format!("/{PCI}/devices/{address}/power/control").into(),
        value: "on".to_owned(),
    };
    let all = vec![
        control(GPU),
        stop_mixer(),
        hide(),
        Change::LeaveConsole { name: "vtcon1".to_owned() },
        Change::RemoveModule { module: "bochs".to_owned() },
        bind(GPU, None),
        bind(GPU, Some("vfio-pci")),
        bind(SOUND, Some("vfio-pci")),
        control(SOUND),
    ];
    proptest::sample::subsequence(all.clone(), 1..=all.len()).prop_shuffle()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn a_death_at_any_step_is_recovered_from(changes in changes()) {
        for dies_at in 0..changes.len() {
            for applied in [false, true] {
                let host = Host::new();
                let (before, root) = (host.state(), host.root());
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
                prop_assert_eq!(host.state(), before, "{} of {:?}", seq, changes);
            }
        }
    }
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
fn a_dead_card_gets_no_host_driver_and_the_rest_goes_on() {
    let host = Host::new();
    let mut journal = host.journal();
    for address in [SOUND, GPU] {
        journal.make(&host.root(), &bind(address, Some("vfio-pci")), &unattended).unwrap();
    }
    let config = host.path(&format!("{PCI}/devices/{GPU}/config"));
    fs::write(&config, [0xff; 64]).unwrap();
    let reports = journal.undo_all(&host.root());
    assert!(matches!(reports[0].result, Err(ChangeError::Dead { .. })), "{:?}", reports[0].result);
    assert_eq!(*reports[1].result.as_ref().unwrap(), Undone::Restored);
    drop(journal);
    // It woke up, and somebody tries again.
    fs::write(&config, [0x34, 0x12]).unwrap();
    host.recover();
    assert_eq!(host.state()[&format!("{GPU} driver")], "../../drivers/bochs-drm");
}

#[test]
fn what_somebody_else_bound_is_left_alone() {
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
fn a_unit_of_a_user_who_has_left_is_not_missed() {
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
