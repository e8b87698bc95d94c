//! A Linux guest that obeys the test: Debian's kernel and a busybox, made by `scripts/demo-guest`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::launcher::Launcher;
use super::talk::Serial;
use super::world::World;

/// What it has drivers for, beside what is built into its kernel.
const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "virtio_scsi",
    "ahci",
    "sd_mod",
    "sr_mod",
    "xhci-pci",
    "usb-storage",
    "nvme",
    "ac",
    "battery",
    "button",
    "i6300esb",
    "lpc_ich",
    "iTCO_wdt",
    "pvpanic-mmio",
    "virtio_console",
    "virtio_net",
    "ext4",
    "crc32c_generic",
];

/// A guest that runs.
pub struct Linux {
    /// The program that runs it.
    pub launcher: Launcher,
    serial: Serial,
}

/// Makes the guest once; its folder.
fn made() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("linux-guest");
        let mut command = Command::new(root.join("scripts/demo-guest"));
        command.arg(&folder).arg(root.join("tests/real_qemu/linux/init")).args(MODULES);
        let made = command.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        folder
    })
}

/// Debian's guest agent with its libraries, as an archive for a kernel.
fn guest_agent() -> Vec<u8> {
    let made = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/guest-agent")).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::fs::read(String::from_utf8(made.stdout).unwrap().trim_end()).unwrap()
}

/// How often a guest is started of which QEMU, without KVM, loses a processor's timer at boot. It stands still for good then.
const TRIES: u32 = 3;
/// What its kernel says of that.
const LOST_TIMER: &str = "detected stalls on CPUs";

impl Linux {
    /// Starts a machine with these fields, and waits until the guest obeys.
    pub fn start(world: &World, fields: &str) -> Self {
        Self::boot(world, Vec::new, fields)
    }

    /// The same with qemu-ga in /sbin. It does not run.
    pub fn with_guest_agent(world: &World, fields: &str) -> Self {
        Self::boot(world, guest_agent, fields)
    }

    /// The kernel unpacks one archive after the other.
    fn boot(world: &World, more: impl Fn() -> Vec<u8>, fields: &str) -> Self {
        if !world.path("vmlinuz").exists() {
            let read = |name| std::fs::read(made().join(name)).unwrap();
            world.file("vmlinuz", read("vmlinuz"));
            world.file("initrd", [read("initrd"), more()].concat());
        }
        // An emulated timer that comes late on a busy host is no broken one.
        let kernel =
            "kernel: (image: \"vmlinuz\", initrd: \"initrd\", cmdline: \"console=ttyS0 quiet no_timer_check\")";
        let machine =
            world.machine(&format!("guest: Other, serial: Socket, memory: (size: \"256 MiB\"), {kernel}, {fields}"));
        let mut again = 1..TRIES;
        loop {
            let launcher = world.run(&machine);
            let mut serial = Serial::of(world);
            if again.next().is_none() {
                serial.says_late("READY");
            } else if !serial.says_late_or("READY", LOST_TIMER) {
                world.done(&["stop", "--force", &world.name]).with(0);
                launcher.ended();
                continue;
            }
            return Self { launcher, serial };
        }
    }

    /// What a command prints; it must succeed.
    pub fn ask(&mut self, command: &str) -> String {
        self.serial.type_in(&format!("{command}\n"));
        let answer = self.serial.says_late(">>");
        let (output, code) = answer.rsplit_once("<<").unwrap_or_else(|| panic!("{command}: {answer:?}"));
        assert_eq!(code, "0", "{command}: {output}");
        output.to_owned()
    }

    /// Has the guest do something and go on without an answer.
    fn tell(&mut self, command: &str) {
        self.serial.type_in(&format!("{command}\n"));
    }

    /// Waits until the guest has started again.
    pub fn starts_again(&mut self) {
        self.serial.says_late("READY");
    }

    /// Powers it off.
    pub fn power_off(mut self) {
        self.tell("poweroff -f");
        self.launcher.ended().with(0);
    }

    /// Has its kernel panic. What that prints must be read, or QEMU's port would hold the guest up before it tells of it.
    pub fn panic(&mut self) {
        self.tell("echo c >/proc/sysrq-trigger");
        self.serial.says_late("</TASK>\r");
    }
}
