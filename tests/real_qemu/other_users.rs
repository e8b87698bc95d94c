//! Other users of the host, who were there first, and root's own umask.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use super::world::{NOBODY, each_as_root, each_of_nobody};

/// A user who has nothing to do with the machine.
const OTHER: u32 = NOBODY - 1;

#[test]
#[ignore = "needs root"]
fn what_another_user_made_in_the_folder_for_temporary_files_is_not_obeyed() {
    each_of_nobody(|world| {
        let theirs = Path::new("/tmp").join(format!("vfio-run-{NOBODY}"));
        assert!(!Path::new("/run/user").join(NOBODY.to_string()).exists() && !theirs.exists());
        let run = theirs.join("run").join(&world.name);
        std::fs::create_dir_all(&run).unwrap();
        std::fs::write(run.join("journal"), "{\"hooks\":{\"stage\":\"before\"}}\n").unwrap();
        for path in [&theirs, &theirs.join("run")] {
            chown(path, Some(OTHER), Some(OTHER)).unwrap();
        }
        // The last ones may well be ours: the other user can exchange them.
        for path in [&run, &run.join("journal")] {
            chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
        }
        let machine = world.machine("serial: Socket");
        let said = |arguments: &[&str]| {
            let mut command = world.command(arguments);
            for name in ["HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CACHE_HOME"] {
                command.env_remove(name);
            }
            world.start(command).ended()
        };
        let words = format!("{} belongs to user {OTHER}, who could exchange what is there", theirs.display());
        for (verb, argument, code) in [
            ("check", machine.to_str().unwrap(), 3),
            ("run", machine.to_str().unwrap(), 3),
            ("recover", &world.name, 1),
            ("status", &world.name, 0),
            ("stop", &world.name, 1),
        ] {
            let ended = said(&[verb, argument]).with(code);
            assert!((ended.out.clone() + &ended.err).contains(&words), "{ended:?}");
        }
        assert!(run.join("journal").exists());
        std::fs::remove_dir_all(&theirs).unwrap();
        // Without a home nothing of QEMU's answers is kept, where somebody else could have kept others.
        said(&["check", machine.to_str().unwrap()]).with(0);
        assert!(!theirs.exists());
    });
}

#[test]
#[ignore = "needs root"]
fn a_umask_that_takes_others_rights_takes_nothing_from_qemu() {
    each_as_root(|world| {
        let narrow = ["sh", "-c", "umask 077; exec \"$@\"", "sh"];
        let machine = world.machine("display: Vnc(), tpm: V2");
        // As an earlier version left it.
        std::fs::create_dir_all("/run/vfio-run-display").unwrap();
        std::fs::set_permissions("/run/vfio-run-display", std::fs::Permissions::from_mode(0o700)).unwrap();
        let mut launcher = world.start(world.wrapped(&narrow, &["run", machine.to_str().unwrap()]));
        launcher.tells(" runs (");
        let open = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(open(Path::new("/run/vfio-run-display")), 0o755);
        assert_eq!(open(world.state_dir().parent().unwrap()) & 0o755, 0o755);
        assert_eq!(open(&world.state_dir()), 0o711);
        assert!(world.display_dir().join("vnc.sock").exists());
        world.done(&["stop", "--force", &world.name]).with(0);
        launcher.ended().with(4);
    });
}
