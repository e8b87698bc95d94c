//! The host of these tests: a root below which a thread and a script act as the kernel, its drivers and udev do.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use vfio_run::host::Root;
use vfio_run::journal::Journal;

pub const GPU: &str = "0000:01:00.0";
pub const SOUND: &str = "0000:01:00.1";
/// Each function with the driver that knows it.
pub const FUNCTIONS: [(&str, &str); 2] = [(GPU, "bochs-drm"), (SOUND, "snd_hda_intel")];
pub const DRIVERS: [&str; 3] = ["bochs-drm", "snd_hda_intel", "vfio-pci"];
pub const PCI: &str = "sys/bus/pci";

/// The driver of the firmware's framebuffer, and its device.
pub const BOOT_DRIVER: &str = "sys/bus/platform/drivers/efi-framebuffer";
pub const BOOT_SCREEN: &str = "efi-framebuffer.0";
/// The console on the card's framebuffer.
pub const CONSOLE: &str = "sys/class/vtconsole/vtcon1";
/// The node of the card's IOMMU group, there while vfio-pci is bound to the card.
pub const VFIO_NODE: &str = "dev/vfio/1";
/// Below the root: while it is there, the console goes and comes with the card's framebuffer, as that of a real card does.
const LOSES_CONSOLE: &str = "loses-console";
pub const PORT: &str = "0000:00:01.0";
/// Below the root: the file that names what wakes a dead card in this host.
pub const CURE: &str = "cure";
/// Below the root: while it is there, the card's driver fails to start the card.
pub const FAILS: &str = "fails";
/// What modprobe, and the driver in the module, do to what shows.
const MODPROBE: &str = r#"#!/bin/sh
cd "${0%/*}/../sys/module"
card=../bus/pci/devices/0000:01:00.0
if [ $1 = -r ]; then
    rm -r $3
    if [ "$(readlink $card/driver)" = ../../drivers/bochs-drm ]; then
        rm $card/driver
        [ ! -e ../../loses-console ] || rm -r ../class/vtconsole/vtcon1
    fi
else
    mkdir $2
    echo 0 >$2/refcnt
    if [ ! -e ../../fails ] && [ ! -L $card/driver ] && ! grep -q vfio $card/driver_override; then
        ln -s ../../drivers/bochs-drm $card/driver
        [ ! -e ../../loses-console ] || { mkdir ../class/vtconsole/vtcon1; echo 1 >../class/vtconsole/vtcon1/bind; }
    fi
fi
"#;

/// A host with two functions. Files that make the kernel act are FIFOs that a thread reads.
pub struct Host {
    pub folder: tempfile::TempDir,
    off: Arc<AtomicBool>,
    kernel: Option<JoinHandle<()>>,
}

impl Host {
    /// Without overrides, as most hosts are.
    pub fn new() -> Self {
        Self::with_overrides("(null)", "(null)")
    }

    /// The card and its sound function with these in `driver_override`.
    pub fn with_overrides(gpu: &str, sound: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        let put = |path: &str, text: &str| {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), text).unwrap();
        };
        for driver in DRIVERS {
            put(&format!("{PCI}/drivers/{driver}/x"), "");
        }
        symlink("../../../../module/bochs", root.join(format!("{PCI}/drivers/bochs-drm/module"))).unwrap();
        for ((address, driver), driver_override) in FUNCTIONS.into_iter().zip([gpu, sound]) {
            put(&format!("{PCI}/devices/{address}/driver_override"), &format!("{driver_override}\n"));
            put(&format!("{PCI}/devices/{address}/config"), "\u{34}\u{12}");
            put(&format!("{PCI}/devices/{address}/power/control"), "auto\n");
            symlink(format!("../../drivers/{driver}"), root.join(format!("{PCI}/devices/{address}/driver"))).unwrap();
        }
        for (address, _) in FUNCTIONS {
            fs::create_dir_all(root.join(format!("{PCI}/devices/{PORT}/{address}"))).unwrap();
            let real = format!("../../../{address}/driver");
            symlink(real, root.join(format!("{PCI}/devices/{PORT}/{address}/driver"))).unwrap();
        }
        fs::create_dir_all(root.join(BOOT_DRIVER)).unwrap();
        symlink("../../devices/efi-framebuffer.0", root.join(BOOT_DRIVER).join(BOOT_SCREEN)).unwrap();
        fs::create_dir_all(root.join("sys/class/rtc/rtc0")).unwrap();
        put("sys/class/rtc/rtc0/wakealarm", "");
        put("sys/power/mem_sleep", "s2idle [deep]\n");
        put(&format!("{CONSOLE}/bind"), "1\n");
        fs::create_dir_all(root.join("dev/vfio")).unwrap();
        put("sys/module/bochs/refcnt", "0\n");
        put("sbin/modprobe", MODPROBE);
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

    pub fn root(&self) -> Root {
        Root::new(self.folder.path().join("root"))
    }

    /// From now on the console goes and comes with the card's framebuffer.
    pub fn lose_console_with_card(&self) {
        self.put(LOSES_CONSOLE, "");
    }

    /// Makes a file, with its folders.
    pub fn put(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// udev applies its rules to a node again, as at each event of its device: it gets the owner and group that they say.
    pub fn udev_event(&self, node: &str, uid: u32, gid: u32) {
        std::os::unix::fs::chown(self.path(node), Some(uid), Some(gid)).unwrap();
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.root().path(path)
    }

    pub fn journal(&self) -> Journal {
        Journal::open(&self.folder.path().join("run")).unwrap()
    }

    /// What a user of the host would see.
    pub fn state(&self) -> BTreeMap<String, String> {
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
        state.insert("console".to_owned(), text(&format!("{CONSOLE}/bind")));
        state.insert("mixer".to_owned(), text("mixer"));
        state.insert("card".to_owned(), text(&format!("{PCI}/devices/{GPU}/drm/card1/uevent")));
        let node = fs::metadata(self.path(VFIO_NODE)).map(|meta| format!("{}:{}", meta.uid(), meta.gid()));
        state.insert("node".to_owned(), node.unwrap_or_default());
        state.insert("module".to_owned(), self.path("sys/module/bochs").exists().to_string());
        state
    }

    pub fn recover(&self) {
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
        drop(self.kernel.take().map(JoinHandle::join));
    }
}

/// Acts as the kernel does on `drivers_probe`, `unbind` and the resets.
fn kernel(root: PathBuf, off: Arc<AtomicBool>) -> JoinHandle<()> {
    let names = DRIVERS.map(|driver| format!("{PCI}/drivers/{driver}/unbind"));
    let mut files: Vec<(String, fs::File)> = Vec::new();
    let resets = FUNCTIONS.map(|(address, _)| format!("{PCI}/devices/{address}/reset"));
    let removes = FUNCTIONS.map(|(address, _)| format!("{PCI}/devices/{address}/remove"));
    let port = ["reset_subordinate", "rescan"].map(|name| format!("{PCI}/devices/{PORT}/{name}"));
    let names = names.into_iter().chain([format!("{PCI}/drivers_probe")]);
    let boot = ["unbind", "bind"].map(|name| format!("{BOOT_DRIVER}/{name}"));
    for name in names.chain(resets).chain(removes).chain(port).chain(boot) {
        nix::unistd::mkfifo(&root.join(&name), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let open = fs::OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(root.join(&name));
        files.push((name, open.unwrap()));
    }
    std::thread::spawn(move || {
        while !off.load(Ordering::Relaxed) {
            for (name, file) in &mut files {
                let mut written = [0; GPU.len()];
                if name.starts_with(BOOT_DRIVER) {
                    let mut device = [0; BOOT_SCREEN.len()];
                    if file.read_exact(&mut device).is_ok() && device == BOOT_SCREEN.as_bytes() {
                        let link = root.join(BOOT_DRIVER).join(BOOT_SCREEN);
                        match name.ends_with("/unbind") {
                            true => fs::remove_file(link).unwrap(),
                            false => symlink("../../devices/efi-framebuffer.0", link).unwrap(),
                        }
                    }
                } else if name.ends_with("/unbind") || name.ends_with("/drivers_probe") {
                    if file.read_exact(&mut written).is_ok() {
                        act(&root, name, std::str::from_utf8(&written).unwrap());
                    }
                } else if file.read(&mut written).is_ok_and(|length| length > 0) {
                    treat(&root, name);
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    })
}

/// Wakes what is dead, if this is what helps; the test has noted what does.
fn treat(root: &Path, file: &str) {
    let name = file.rsplit('/').next().unwrap();
    let mut log = fs::OpenOptions::new().append(true).create(true).open(root.join("tried")).unwrap();
    std::io::Write::write_all(&mut log, format!("{name}\n").as_bytes()).unwrap();
    if fs::read_to_string(root.join(CURE)).is_ok_and(|cure| cure == name) {
        // The reset of a function is that of no other.
        for (address, _) in FUNCTIONS.iter().filter(|(address, _)| name != "reset" || file.contains(address)) {
            fs::write(root.join(format!("{PCI}/devices/{address}/config")), [0x34, 0x12]).unwrap();
        }
    }
}

fn act(root: &Path, file: &str, address: &str) {
    let folder = root.join(PCI).join("devices").join(address);
    let link = folder.join("driver");
    if file.ends_with("/unbind") {
        let driver = file.trim_end_matches("/unbind").rsplit('/').next().unwrap();
        if fs::read_link(&link).is_ok_and(|target| target.ends_with(driver)) {
            if address == GPU {
                lose(root, driver);
            }
            // The function stays awake from then on (`vfio_pci_core_unregister_device()`).
            if driver == "vfio-pci" {
                fs::write(folder.join("power/control"), "on\n").unwrap();
            }
            fs::remove_file(link).unwrap();
        }
    } else if !link.exists() && !root.join(FAILS).exists() {
        let wanted = fs::read_to_string(folder.join("driver_override")).unwrap().trim().replace("(null)", "");
        let known = FUNCTIONS.iter().find(|(its, _)| *its == address).unwrap().1;
        let driver = if wanted.is_empty() { known } else { &wanted };
        if driver == "vfio-pci" {
            fs::write(folder.join("power/control"), "auto\n").unwrap();
        }
        symlink(format!("../../drivers/{driver}"), link).unwrap();
        if address == GPU {
            show(root, driver);
        }
    }
}

/// What the card's driver takes with it.
fn lose(root: &Path, driver: &str) {
    match driver {
        // A test may have bound it by hand.
        "vfio-pci" => drop(fs::remove_file(root.join(VFIO_NODE))),
        "bochs-drm" if root.join(LOSES_CONSOLE).exists() => fs::remove_dir_all(root.join(CONSOLE)).unwrap(),
        _ => {}
    }
}

/// What the card's driver brings: the console comes some time after it, bound.
fn show(root: &Path, driver: &str) {
    match driver {
        // With the owner that devtmpfs gives it.
        "vfio-pci" => fs::write(root.join(VFIO_NODE), "").unwrap(),
        "bochs-drm" if root.join(LOSES_CONSOLE).exists() => {
            std::thread::sleep(Duration::from_millis(20));
            fs::create_dir_all(root.join(CONSOLE)).unwrap();
            fs::write(root.join(CONSOLE).join("bind.new"), "1\n").unwrap();
            fs::rename(root.join(CONSOLE).join("bind.new"), root.join(CONSOLE).join("bind")).unwrap();
        }
        _ => {}
    }
}
