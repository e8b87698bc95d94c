//! Folders of the host for the guest: who serves them, and that they go with QEMU. That files cross is for a guest with
//! drivers, in the lab.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::launcher::wait_for;
use super::talk::Serial;
use super::world::{World, each, each_as_root, own};

/// A user who owns a folder.
const OWNER: u32 = 61000;

/// The program, with the newer virtiofsd (of `scripts/virtiofsd`) in its PATH, if it is here.
pub fn command(world: &World, arguments: &[&str]) -> Command {
    let mut command = world.command(arguments);
    if let Some(path) = path() {
        command.env("PATH", path);
    }
    command
}

/// A PATH with the newer virtiofsd in it.
pub fn path() -> Option<String> {
    let folder = std::env::var("VFIO_RUN_VIRTIOFSD").ok()?;
    Some(format!("{folder}:{}", std::env::var("PATH").unwrap()))
}

/// A folder in the world's.
fn folder(world: &World, name: &str) -> std::path::PathBuf {
    let path = world.path(name);
    std::fs::create_dir(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn uid(pid: i32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Whether QEMU, which runs its guest, was given a device of this driver.
fn has(world: &World, driver: &str) -> bool {
    let words = std::fs::read(format!("/proc/{}/cmdline", world.pid("qemu"))).unwrap();
    String::from_utf8_lossy(&words).contains(&format!("\"driver\":\"{driver}\""))
}

#[test]
fn a_user_shares_folders() {
    each(|world| {
        own(&folder(world, "data"));
        own(&folder(world, "old"));
        let machine = world.machine(
            "guest: Linux, firmware: Bios, shares: [(tag: \"data\", folder: \"data\"), (tag: \"old\", folder: \"old\", kind: NineP)]",
        );
        let modern = std::env::var_os("VFIO_RUN_VIRTIOFSD").is_some();
        let mut launcher = world.start(command(world, &["run", machine.to_str().unwrap()]));
        launcher.tells(" runs (");
        assert!(has(world, "virtio-9p-pci"));
        assert_eq!(has(world, "vhost-user-fs-pci"), modern);
        if modern {
            let served = world.pid("virtiofsd-data");
            kill(Pid::from_raw(served), Signal::SIGKILL).unwrap();
            launcher.tells("virtiofsd-data exited while the guest runs");
        }
        Serial::of_running(world).leave_with("q");
        launcher.ended().with(0);
    });
}

#[test]
fn a_virtiofsd_that_cannot_serve_is_a_refusal_in_its_own_words() {
    each(|world| {
        own(&folder(world, "data"));
        own(&folder(world, "bin"));
        let script =
            "#!/bin/sh\ncase $1 in --help) echo --fd --shared-dir ;; *) echo no namespaces here >&2; exit 4 ;; esac\n";
        let program = world.file("bin/virtiofsd", script);
        std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let machine = world.machine("guest: Linux, firmware: Bios, shares: [(tag: \"data\", folder: \"data\")]");
        let mut command = world.command(&["run", machine.to_str().unwrap()]);
        command.env("PATH", format!("{}:{}", world.path("bin").display(), std::env::var("PATH").unwrap()));
        let ended = world.start(command).ended().with(1);
        assert!(ended.err.contains("virtiofsd-data ended before the guest ran (exit status: 4)"), "{ended:?}");
        assert!(ended.err.contains("no namespaces here"), "{ended:?}");
    });
}

#[test]
#[ignore = "needs root"]
fn the_owner_of_a_folder_serves_it_and_goes_with_a_guest_that_lost_its_launcher() {
    each_as_root(|world| {
        let data = folder(world, "data");
        chown(&data, Some(OWNER), Some(OWNER)).unwrap();
        let fields = "guest: Linux, firmware: Bios, shares: [(tag: \"data\", folder: \"data\"), (tag: \"all\", folder: \"data\", owner: Guest)]";
        let machine = world.machine(fields);
        let launcher = world.start(command(world, &["run", machine.to_str().unwrap()]));
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        assert!(has(world, "vhost-user-fs-pci"));
        assert!((61184..=65519).contains(&uid(world.pid("qemu"))));
        // QEMU's own of before 8.0 serves root only.
        let modern = std::env::var_os("VFIO_RUN_VIRTIOFSD").is_some();
        let namespaces = Path::new("/proc/sys/user/max_user_namespaces");
        let namespaces = std::fs::read_to_string(namespaces).is_ok_and(|most| most.trim() != "0");
        assert_eq!(uid(world.pid("virtiofsd-data")), if modern && namespaces { OWNER } else { 0 });
        assert_eq!(uid(world.pid("virtiofsd-all")), 0);
        launcher.signal(Signal::SIGKILL);
        launcher.ended();
        guest.type_in("?").says("HERE");
        // Killed, so that it says goodbye to nobody.
        kill(Pid::from_raw(world.pid("qemu")), Signal::SIGKILL).unwrap();
        world.guest_has_ended();
        world.done(&["recover", &world.name]).with(0);
        wait_for("its helpers' end", || world.processes().is_empty().then_some(()));
        assert_eq!(std::fs::metadata(&data).unwrap().permissions().mode() & 0o7777, 0o755);
    });
}
