//! Machines with more than a kernel: TPM, UEFI, screens, every kind of disk.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::launcher::wait_for;
use super::talk::{Qmp, Serial};
use super::world::{World, each, each_as_root};

#[test]
fn a_tpm_comes_with_swtpm_and_goes_with_it() {
    each(|world| {
        let launcher = world.run(&world.machine("tpm: V2"));
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        let tpm = Qmp::of(world).ask("query-tpm");
        assert_eq!(tpm[0]["model"], "tpm-crb", "{tpm}");
        let swtpm = world.pid("swtpm");
        assert!(world.processes().iter().any(|(pid, arguments)| *pid == swtpm && arguments.contains("swtpm")));
        let state = world.state_dir().join("tpm");
        assert_eq!(std::fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
        guest.type_in("q");
        launcher.ended().with(0);
        world.is_clean();
        let kept = || std::fs::metadata(state.join("tpm2-00.permall")).unwrap().ino();
        kept();
        // The state is there for the next run.
        let launcher = world.run(&world.machine("tpm: V2"));
        let mut guest = Serial::of(world);
        guest.says("HELLO").type_in("q");
        launcher.ended().with(0);
        kept();
    });
}

/// Pieces of a TPM's state that look random, such as the seeds of its keys.
fn random_pieces(state: &[u8]) -> std::collections::BTreeSet<&[u8]> {
    let looks_random = |piece: &&[u8]| piece.iter().collect::<std::collections::BTreeSet<_>>().len() > 24;
    state.windows(32).filter(looks_random).collect()
}

fn takes_over_the_state_of_a_tpm(world: &World) {
    const STATE: &str = "tpm2-00.permall";
    let (kept, before) = (world.state_dir().join("tpm"), world.path("libvirt"));
    let other = |name: &str, state: &Path| {
        let text = format!(
            "(name: \"other\", guest: Other, memory: (size: \"64 MiB\"), accelerator: Tcg, tpm: V2(state: \"{}\"))",
            state.display()
        );
        world.done(&["check", world.file(name, text).to_str().unwrap()])
    };
    let launcher = world.run(&world.machine("tpm: V2"));
    let mut guest = Serial::of(world);
    guest.says("HELLO");
    let said = other("in-use.ron", &kept).with(3).out;
    assert!(said.contains("a swtpm that runs uses the state in it"), "{said}");
    guest.type_in("q");
    launcher.ended().with(0);
    // As libvirt leaves it, with an owner of its own.
    std::fs::rename(&kept, &before).unwrap();
    let original = std::fs::read(before.join(STATE)).unwrap();
    let owner = |path: &Path| std::fs::metadata(path).unwrap().uid();
    if world.is_root() {
        for path in [&before, &before.join(STATE)] {
            std::os::unix::fs::chown(path, Some(61_000), Some(61_000)).unwrap();
        }
    }
    let machine = world.machine(&format!("tpm: V2(state: \"{}\")", before.display()));
    let launcher = world.run(&machine);
    let mut guest = Serial::of(world);
    guest.says("HELLO").type_in("q");
    let ended = launcher.ended().with(0);
    assert!(ended.err.contains("copied once from the TPM's state in"), "{ended:?}");
    let copy = std::fs::read(kept.join(STATE)).unwrap();
    assert!(!random_pieces(&original).is_disjoint(&random_pieces(&copy)), "the guest has the TPM that it had");
    assert_eq!(owner(&kept.join(STATE)), owner(&kept));
    assert_eq!(std::fs::read(before.join(STATE)).unwrap(), original);
    if world.is_root() {
        assert_eq!(owner(&before.join(STATE)), 61_000);
    }
    // From now on it is the machine's own, whatever becomes of the folder.
    std::fs::remove_dir_all(&before).unwrap();
    let launcher = world.run(&machine);
    let mut guest = Serial::of(world);
    guest.says("HELLO").type_in("q");
    let ended = launcher.ended().with(0);
    assert!(!ended.err.contains("copied once"), "{ended:?}");
    let missing = other("missing.ron", &before).with(3).out;
    assert!(missing.contains("cannot be copied: it does not exist"), "{missing}");
    // Another machine's TPM is another one.
    std::fs::remove_dir_all(&kept).unwrap();
    let launcher = world.run(&world.machine("tpm: V2"));
    let mut guest = Serial::of(world);
    guest.says("HELLO").type_in("q");
    launcher.ended().with(0);
    let fresh = std::fs::read(kept.join(STATE)).unwrap();
    let shared: Vec<_> = random_pieces(&original).intersection(&random_pieces(&copy)).copied().collect();
    assert!(shared.iter().any(|piece| !random_pieces(&fresh).contains(piece)), "what they share is no constant");
    // One that was cut off would be of no use to swtpm, and one that leads nowhere a new TPM's without a word.
    std::fs::OpenOptions::new().write(true).open(kept.join(STATE)).unwrap().set_len(100).unwrap();
    let check = || world.done(&["check", machine.to_str().unwrap()]).with(3).out;
    let said = check();
    assert!(
        said.contains("is cut off: it has 100 of ") && said.contains(&format!("remove {}", kept.display())),
        "{said}"
    );
    std::fs::remove_file(kept.join(STATE)).unwrap();
    std::os::unix::fs::symlink("nowhere", kept.join(STATE)).unwrap();
    let said = check();
    assert!(said.contains("is no regular file"), "{said}");
}

#[test]
fn the_state_of_a_tpm_is_taken_over_once() {
    each(takes_over_the_state_of_a_tpm);
}

#[test]
#[ignore = "runs QEMU as an account of its own, so it needs root: scripts/test runs it"]
fn the_state_of_a_tpm_of_another_account_is_taken_over() {
    each_as_root(takes_over_the_state_of_a_tpm);
}

#[test]
fn a_helper_that_ends_at_its_start_is_a_refusal_in_its_own_words() {
    each(|world| {
        let folder = world.path("bin");
        std::fs::create_dir(&folder).unwrap();
        let program = world.file("bin/swtpm", "#!/bin/sh\necho the state is locked >&2\nexit 7\n");
        std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let machine = world.machine("tpm: V2");
        let mut command = world.command(&["run", machine.to_str().unwrap()]);
        command.env("PATH", format!("{}:{}", folder.display(), std::env::var("PATH").unwrap()));
        let ended = world.start(command).ended().with(1);
        assert!(ended.err.contains("swtpm ended before the guest ran (exit status: 7)"), "{ended:?}");
        assert!(ended.err.contains("the state is locked"), "{ended:?}");
    });
}

#[test]
fn a_helper_that_dies_is_told() {
    each(|world| {
        let mut launcher = world.run(&world.machine("tpm: V2"));
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        launcher.tells(" runs (");
        kill(Pid::from_raw(world.pid("swtpm")), Signal::SIGKILL).unwrap();
        launcher.tells("swtpm exited while the guest runs");
        guest.type_in("?").says("HERE").type_in("q");
        launcher.ended().with(0);
    });
}

/// Runs a machine without kernel until its firmware runs.
fn runs_firmware(world: &World, fields: &str) {
    let mut launcher = world.run(&world.machine(&format!("{fields}, kernel: None")));
    launcher.tells(" runs (");
    assert_eq!(Qmp::of(world).ask("query-status")["running"], true);
    world.done(&["stop", "--force", &world.name]).with(0);
    launcher.ended().with(4);
}

#[test]
fn secure_boot_has_a_variable_store_that_is_copied_once() {
    assert!(Path::new("/usr/share/qemu/firmware").is_dir(), "there is no UEFI firmware (Debian: package ovmf)");
    each(|world| {
        let fields = "guest: Windows11, memory: (size: \"128 MiB\")";
        runs_firmware(world, fields);
        world.is_clean();
        let entries = std::fs::read_dir(world.state_dir()).unwrap().flatten();
        let store = entries.map(|e| e.path()).find(|p| p.is_file()).expect("a variable store");
        assert_eq!(std::fs::metadata(&store).unwrap().permissions().mode() & 0o777, 0o600);
        // A mark at the very end, where the firmware has its spare block, stands for what the guest wrote.
        let mut marked = std::fs::read(&store).unwrap();
        assert!(marked.len() > 100_000);
        *marked.last_mut().unwrap() ^= 0x55;
        let mark = *marked.last().unwrap();
        std::fs::write(&store, &marked).unwrap();
        let inode = std::fs::metadata(&store).unwrap().ino();
        runs_firmware(world, fields);
        assert_eq!(std::fs::metadata(&store).unwrap().ino(), inode);
        assert_eq!(std::fs::read(&store).unwrap().last(), Some(&mark));
    });
}

#[test]
fn screens_are_sockets_of_the_user_alone() {
    each(|world| {
        let mut launcher = world.run(&world.machine("display: Vnc()"));
        launcher.tells(" runs (");
        let socket = world.display_dir().join("vnc.sock");
        let folder = std::fs::metadata(world.display_dir()).unwrap().permissions().mode() & 0o777;
        let mode = std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777;
        assert_eq!((folder, mode & 0o077), (0o700, 0), "{mode:o}");
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        let mut greeting = [0; 4];
        std::io::Read::read_exact(&mut stream, &mut greeting).unwrap();
        assert_eq!(&greeting, b"RFB ");
        Serial::of_running(world).leave_with("q");
        launcher.ended().with(0);
        world.is_clean();

        // A QEMU that is killed leaves its sockets; after a launcher that is killed, `recover` removes them.
        let mut launcher = world.run(&world.machine("display: Vnc()"));
        launcher.tells(" runs (");
        launcher.signal(Signal::SIGKILL);
        launcher.ended();
        kill(Pid::from_raw(world.pid("qemu")), Signal::SIGKILL).unwrap();
        world.guest_has_ended();
        assert!(socket.exists());
        world.done(&["recover", &world.name]).with(0);
    });
}

#[test]
fn every_kind_of_disk_is_taken() {
    each(|world| {
        let mut disks = String::new();
        let mut number = 0;
        for bus in ["VirtioBlk", "VirtioScsi", "Sata", "Nvme"] {
            for format in ["raw", "qcow2"] {
                let name = format!("d{number}.{format}");
                match format {
                    "raw" => drop(world.file(&name, vec![0; 1 << 20])),
                    _ => image(world, &name),
                }
                disks.push_str(&format!("(file: \"{name}\", bus: {bus}, serial: \"s{number}\"),"));
                number += 1;
            }
        }
        world.file("a.iso", vec![0; 1 << 20]);
        world.file("b.iso", vec![0; 1 << 20]);
        disks.push_str("(file: \"a.iso\"), (file: \"b.iso\", bus: VirtioScsi), ");
        for (cache, aio) in [
            ("None", "Native"),
            ("None", "IoUring"),
            ("Writethrough", "Threads"),
            ("Directsync", "Native"),
            ("Unsafe", "Threads"),
        ] {
            let name = format!("d{number}.raw");
            world.file(&name, vec![0; 1 << 20]);
            disks.push_str(&format!("(file: \"{name}\", cache: {cache}, aio: {aio}, discard: Ignore),"));
            number += 1;
        }
        let launcher = world.run(&world.machine(&format!("serial: Socket, disks: [{disks}]")));
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        let blocks = Qmp::of(world).ask("query-block");
        assert_eq!(blocks.as_array().unwrap().len(), number + 2, "{blocks}");
        guest.type_in("q");
        launcher.ended().with(0);
    });
}

fn image(world: &World, name: &str) {
    let mut command = Command::new("qemu-img");
    world.environment(&mut command);
    let status = command.args(["create", "-q", "-f", "qcow2"]).arg(world.path(name)).arg("1M").status().unwrap();
    assert!(status.success());
}

#[test]
fn a_serial_port_can_be_a_file() {
    each(|world| {
        let launcher = world.run(&world.machine("serial: File(\"serial.txt\")"));
        wait_for("HELLO", || {
            std::fs::read_to_string(world.path("serial.txt")).is_ok_and(|t| t.contains("HELLO")).then_some(())
        });
        world.done(&["stop", &world.name]).with(0);
        launcher.ended().with(0);
    });
}
