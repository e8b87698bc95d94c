//! A machine with all at once that a desk needs, but for the devices that a host must have for it: what its launcher costs
//! while the guest idles, and that nothing is left of it, at whatever point a launcher dies or fails.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use super::crash::{ALONE, Series};
use super::launcher::{LIMIT, wait_for};
use super::nat::{self, Spaces};
use super::talk::Serial;
use super::world::{World, each, each_as_root, own};
use super::{shared_memory, shares};

const DESK: &str = "guest: Linux, firmware: Bios, tpm: V2, watchdog: (), panic_device: (), battery: true, boot_menu: 1, \
    smbios: Fields(system: (manufacturer: \"ACME\")), second_serial: Socket, display: Spice(usb_redirection: 2), \
    shares: [(tag: \"data\", folder: \"data\")], looking_glass: (width: 640, height: 480), scream: true, audio: Auto, \
    usb: [\"dead:beef\", \"99-1\"], input: [(keyboard: \"/dev/input/by-id/none-event-kbd\")]";

/// How long the launcher must sleep without a break.
const SLEEP: Duration = Duration::from_secs(30);

fn data(world: &World) {
    let folder = world.path("data");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    own(&folder);
}

/// A number in `/proc/PID/status`.
fn status(pid: i32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_else(|| panic!("{field}: {status}"));
    line.trim_matches([':', '\t', ' ']).parse().unwrap()
}

#[test]
fn the_launcher_of_an_idle_guest_sleeps() {
    each(|world| {
        let _alone = shared_memory::alone();
        data(world);
        let machine = world.machine(&format!("{DESK}, networks: [()]"));
        let mut launcher = world.start(shares::command(world, &["run", machine.to_str().unwrap()]));
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        launcher.tells(" runs (");
        // It looks at QEMU's threads in the guest's first second; from then on nothing wakes it.
        let pid = launcher.pid();
        let (mut awake, mut since) = (status(pid, "voluntary_ctxt_switches"), Instant::now());
        let begun = since;
        while since.elapsed() < SLEEP {
            std::thread::sleep(Duration::from_millis(100));
            let now = status(pid, "voluntary_ctxt_switches");
            if now != awake {
                (awake, since) = (now, Instant::now());
            }
            assert!(begun.elapsed() < LIMIT, "the launcher wakes again and again");
        }
        assert_eq!(status(pid, "Threads"), 1);
        guest.type_in("?").says("HERE").type_in("q");
        launcher.ended().with(0);
    });
}

/// What there is of a machine, or of what machines share, in the folders in which the program makes something.
fn traces(world: &World) -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["/dev/shm", "/dev/vfio-run", "/run/vfio-run", "/run/vfio-run-display"] {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if name.contains(&world.name) || entry.path() == Path::new(shared_memory::FILE) || name == ".nat" {
                found.push(format!("{folder}/{name}"));
            }
        }
    }
    found
}

/// Has a series run in a network namespace that stands for the host.
fn disturbed(least: usize, points: &dyn Fn(&Series) -> usize) {
    // Both or none are held, by whoever needs both.
    let _alone = (shared_memory::alone(), nat::alone());
    each_as_root(|world| {
        data(world);
        let disk = world.file("disk.raw", vec![0; 1 << 20]);
        let spaces = Spaces::new(world);
        let machine = world.machine(&format!(
            "{DESK}, {ALONE}, disks: [(file: \"disk.raw\", cache: Writeback, aio: Threads)], networks: [(), \
             (backend: Nat, subnet: \"10.77.0.0/24\"), (backend: Macvtap(interface: \"up0\"))]"
        ));
        let host = || {
            let owner = std::fs::metadata(&disk).unwrap();
            (owner.uid(), owner.gid(), owner.mode(), spaces.state())
        };
        let before = host();
        let is_back = || {
            assert_eq!(traces(world), [""; 0]);
            wait_for("the interfaces' end", || (host() == before).then_some(()));
        };
        let path = format!("PATH={}", shares::path().unwrap_or_else(|| std::env::var("PATH").unwrap()));
        let below = ["ip", "netns", "exec", &spaces.host, "env", &path];
        let every = if thorough() { 1 } else { 5 };
        let tried = points(&Series { world, machine: &machine, below: &below, every, is_back: &is_back });
        assert!(tried * every >= least, "only {tried} points");
    });
}

fn thorough() -> bool {
    std::env::var_os("VFIO_RUN_LAB_THOROUGH").is_some()
}

#[test]
#[ignore = "needs root, passt, dnsmasq, nft, and a kernel with bridges, macvtap and network namespaces"]
fn a_launcher_killed_at_any_record_leaves_nothing_of_a_desk() {
    disturbed(15, &|series| series.die_at_every("fdatasync"));
}

#[test]
#[ignore = "needs root, passt, dnsmasq, nft, and a kernel with bridges, macvtap and network namespaces"]
fn a_record_that_cannot_be_kept_leaves_nothing_of_a_desk() {
    disturbed(15, &|series| series.fail_at_every("fdatasync"));
}

#[test]
#[ignore = "needs root, passt, dnsmasq, nft, and a kernel with bridges, macvtap and network namespaces"]
fn deaths_at_random_moments_leave_nothing_of_a_desk() {
    disturbed(1, &|series| series.die_at_random(if thorough() { 40 } else { 10 }));
}
