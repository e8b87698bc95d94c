//! The setups of `machines/` on hosts with stand-ins for their computers' devices: each file is the base of an overlay in
//! `tests/lab/setups/`, which says no more than what only that computer has. The host is prepared, the guest sees the devices,
//! and the host is as before, also when the launcher dies.

use anyhow::{Context as _, Result, ensure};

use super::crash::{Desk, FILE, RUN_DIR, Rests, SOON};
use super::desk::PLUGGED_ANEW;
use crate::kit::lab::Lab;
use crate::kit::stuck::is_stuck;

/// One of them.
struct Setup {
    /// Its file in `machines/`, and the overlay's.
    name: &'static str,
    machine: &'static str,
    stand_ins: &'static str,
    /// What it finds on its computer, in bash.
    computer: &'static str,
    /// What is so while its guest runs, and is not before: commands in bash, and what they print.
    prepared: &'static [(&'static str, &'static str)],
    /// What the guest finds on its PCI buses.
    has: &'static [&'static str],
}

macro_rules! setup {
    ($name:literal, $($field:ident: $value:expr),+ $(,)?) => {
        Setup {
            name: $name,
            machine: include_str!(concat!("../../../machines/", $name, ".ron")),
            stand_ins: include_str!(concat!("../setups/", $name, ".ron")),
            $($field: $value),+
        }
    };
}

const DRIVER_OF_THE_ONLY_CARD: &str = "basename $(readlink /sys/bus/pci/devices/0000:01:00.0/driver)";
const DRIVER_OF_THE_SECOND_CARD: &str = "basename $(readlink /sys/bus/pci/devices/0000:02:00.0/driver)";
const SCREEN: &str = "systemctl is-active display-manager; true";
const GOVERNORS: &str = "cat /sys/devices/system/cpu/cpufreq/policy*/scaling_governor | sort -u";
const CPUS_OF_A_PROGRAM: &str = "awk '/^Cpus_allowed_list/ { print $2 }' /proc/$(pgrep -o -x systemd-journal)/status";
const VCPUS: &str = "for thread in /proc/$(pgrep -x qemu-system-x86)/task/*; do case $(<$thread/comm) in CPU*) \
                     awk '/^Cpus_allowed_list/ { print $2 }' $thread/status;; esac; done";
/// Of QEMU's memory, in pages of this size.
const HUGE: &str = "awk '/^Private_Hugetlb|^Shared_Hugetlb/ { sum += $2 } END { print sum / 1024 }' /proc/$(pgrep -x qemu-system-x86)/smaps";
const EVENT_DEVICES: &str = "ls -l /proc/$(pgrep -x qemu-system-x86)/fd | grep -c /dev/vfio-run/only/";
const THINGS_ON_USB_OF_PROGRAMS: &str = "ls /sys/bus/usb/drivers/usbfs | grep -c :";
const IMAGES: &str = "mkdir -p /var/lib/vm /srv/shared && truncate -s 64M /var/lib/vm/{win10,win11,games}.img";

const ONLY_CARD: [Setup; 2] = [
    setup!(
        "i7-13700k-rtx4090",
        computer: IMAGES,
        prepared: &[
            (SCREEN, "inactive"),
            (DRIVER_OF_THE_ONLY_CARD, "vfio-pci"),
            (GOVERNORS, "performance"),
            (VCPUS, "6\n7"),
            ("cat /sys/fs/cgroup/cpuset.cpus.effective", "0-5"),
            ("cat /proc/irq/default_smp_affinity", "3f"),
            (HUGE, "64"),
            ("ls /sys/class/net | grep -c vfio-nat", "1"),
            (THINGS_ON_USB_OF_PROGRAMS, "1"),
        ],
        has: &["1234:1111"],
    ),
    setup!(
        "ryzen-1600af-rtx2060",
        computer: IMAGES,
        prepared: &[
            (SCREEN, "inactive"),
            (DRIVER_OF_THE_ONLY_CARD, "vfio-pci"),
            (GOVERNORS, "performance"),
            (VCPUS, "4\n5\n6\n7"),
            (HUGE, "64"),
        ],
        has: &["1234:1111"],
    ),
];

const SECOND_CARD: [Setup; 3] = [
    setup!(
        "ryzen-3900x-rtx3080",
        computer: "true",
        prepared: &[
            (SCREEN, "active"),
            (DRIVER_OF_THE_SECOND_CARD, "vfio-pci"),
            ("basename $(readlink /sys/bus/pci/devices/0000:04:00.0/driver)", "vfio-pci"),
            (GOVERNORS, "performance"),
            (VCPUS, "2\n3"),
            (HUGE, "64"),
            ("ls /sys/class/net | grep -c vfio-nat", "1"),
            (THINGS_ON_USB_OF_PROGRAMS, "1"),
        ],
        has: &["1234:1111", "1b36:0010"],
    ),
    setup!(
        "ryzen-3700x-rx6900xt",
        computer: IMAGES,
        prepared: &[
            (SCREEN, "active"),
            (DRIVER_OF_THE_SECOND_CARD, "vfio-pci"),
            ("basename $(readlink /sys/bus/pci/devices/0000:03:00.0/driver)", "vfio-pci"),
            (GOVERNORS, "performance"),
            (VCPUS, "2\n3"),
            (HUGE, "64"),
            (CPUS_OF_A_PROGRAM, "0-1"),
            ("cat /proc/irq/default_smp_affinity", "3"),
            ("cat /sys/module/kvm/parameters/ignore_msrs", "Y"),
            ("pgrep -c -x virtiofsd", "2"),
        ],
        has: &["1234:1111", "1b36:000d", "1af4:1042"],
    ),
    setup!(
        "i7-8700k-gtx1070",
        computer: "ip link add br0 type bridge && ip link set br0 up; mkdir -p /etc/qemu && echo 'allow br0' >/etc/qemu/bridge.conf",
        prepared: &[
            (SCREEN, "active"),
            (DRIVER_OF_THE_SECOND_CARD, "vfio-pci"),
            (VCPUS, "2\n3"),
            (HUGE, "1024"),
            ("cat /sys/module/kvm/parameters/ignore_msrs", "Y"),
            ("cat /sys/module/kvm/parameters/report_ignored_msrs", "N"),
            ("ls /sys/class/net/br0/brif | wc -l", "1"),
            ("pgrep -c -x swtpm", "1"),
            (EVENT_DEVICES, "2"),
        ],
        has: &["1234:1111", "1af4:1048"],
    ),
];

/// A machine that has nothing, for a desk to begin with.
const LEAST: &str = "(guest: Other, memory: (size: \"64 MiB\"), networks: [])";

const RESTS: Rests = Rests {
    // What is on a USB controller that came back is found one after the other.
    when: "ls /dev/input/by-id/*event-kbd /dev/input/by-id/*event-mouse /dev/disk/by-id/usb-*LABSTICK* >/dev/null 2>&1 && \
           { [ ! -e /sys/bus/pci/devices/0000:04:00.0 ] || head -c 1 /dev/nvme0n1 >/dev/null 2>&1; } && udevadm settle",
    // Modules that a network needs stay; the others are named after a number that the kernel counts up with each plugging.
    except: &["module ", PLUGGED_ANEW[0], PLUGGED_ANEW[1]],
};

#[test]
fn setups_with_one_card_run_from_start_to_end() -> Result<()> {
    in_turn(&ONLY_CARD, || Lab::variant("numa", "debian13").usb().start())
}

#[test]
fn setups_with_two_cards_run_from_start_to_end() -> Result<()> {
    in_turn(&SECOND_CARD, || Lab::variant("workstation", "debian13").nvme().usb().start())
}

/// How many hosts they may use up.
const MOST_HOSTS: u32 = 3;

/// Plays each, on one host if the emulator loses none.
fn in_turn(setups: &[Setup], host: impl Fn() -> Result<Lab>) -> Result<()> {
    let (mut left, mut hosts) = (setups, 0);
    while !left.is_empty() {
        let lab = host()?;
        hosts += 1;
        lab.sh("modprobe acpi-cpufreq")?;
        let mut desk = Desk::on(lab, LEAST, RESTS)?;
        while let [setup, others @ ..] = left {
            desk.lab.install_machine(setup.name, setup.machine)?;
            desk.lab.sh(setup.computer)?;
            desk = desk.with_machine(setup.stand_ins).context(setup.name)?;
            match runs_from_start_to_end(&desk, setup).context(setup.name) {
                Err(error) if hosts < MOST_HOSTS && is_stuck(&desk.lab) => {
                    eprintln!("an emulated processor is stuck, so once more: {error:#}");
                    break;
                }
                result => result?,
            }
            left = others;
        }
        if left.is_empty() {
            desk.lab.finish()?;
        }
    }
    Ok(())
}

fn runs_from_start_to_end(desk: &Desk, setup: &Setup) -> Result<()> {
    for (what, so) in setup.prepared {
        let before = desk.lab.run(what)?.stdout;
        ensure!(before.trim() != *so || [SCREEN].contains(what), "`{what}` prints {so} without the guest too");
    }
    let job = desk.start(FILE)?;
    for (what, so) in setup.prepared {
        let found = desk.lab.sh(what)?;
        ensure!(found == *so, "while the guest runs `{what}` prints {found:?}, not {so:?}");
    }
    let guest = desk.lab.sh("cat /run/lab/guest.log")?;
    for device in setup.has {
        ensure!(guest.contains(device), "the guest has no {device}:\n{guest}");
    }
    desk.lab.sh("/lab/bin/vfio-run stop only")?;
    let ended = job.wait(SOON)?;
    ensure!(ended.status == 0, "{ended}");
    desk.is_as_before("a run", &ended)?;

    let job = desk.start(FILE)?;
    desk.lab.kill("vfio-run", "KILL")?;
    ensure!(job.wait(SOON)?.status == 137, "the launcher was killed");
    desk.lab.sh("pkill -KILL -x qemu-system-x86")?;
    desk.lab.wait_until("! pgrep -x qemu-system-x86", SOON)?;
    desk.recover("its launcher was killed")?;
    ensure!(desk.lab.run(&format!("[ -e {RUN_DIR} ]"))?.status != 0, "the run directory is still there");
    Ok(())
}
