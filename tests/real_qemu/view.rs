//! The screen is opened by a viewer of the user's, never by root's.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::unistd::Uid;

use super::launcher::Ended;
use super::port;
use super::talk::Serial;
use super::world::{NOBODY, World, each, each_as_root};

/// Programs of these names, which say how they were called, in a folder that is the PATH; on a desktop, unless the command
/// says otherwise.
fn with_viewers(world: &World, programs: &[&str], mut command: Command) -> Ended {
    let folder = world.path("bin");
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir(&folder).unwrap();
    for program in programs {
        let path = world.file(&format!("bin/{program}"), "#!/bin/sh\necho \"${0##*/} $*\"\n");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    command.env("PATH", folder);
    if !command.get_envs().any(|(name, _)| name == "DISPLAY") {
        command.env("DISPLAY", ":9");
    }
    world.start(command).ended()
}

#[test]
fn the_viewer_that_fits_and_is_there_is_started() {
    // As the user whom the others run as; root's own is below.
    each(|world| {
        let name = world.name.as_str();
        for (display, socket, viewers, called) in [
            ("Vnc()", "vnc.sock", ["remote-viewer", "xtigervncviewer"], "xtigervncviewer "),
            ("Spice()", "spice.sock", ["remote-viewer", "vncviewer"], "remote-viewer spice+unix://"),
        ] {
            let mut launcher = world.run(&world.machine(&format!("display: {display}")));
            launcher.tells(" runs (");
            let line = format!("{called}{}\n", world.display_dir().join(socket).display());
            let viewed = with_viewers(world, &viewers, world.command(&["view", name])).with(0);
            assert_eq!(viewed.out, line);
            let mut away = world.command(&["view", name]);
            away.env("DISPLAY", "");
            let away = with_viewers(world, &viewers, away).with(1);
            assert!(away.err.contains("no desktop") && away.err.contains(line.trim()), "{away:?}");
            let printed = with_viewers(world, &viewers, world.command(&["view", "--print", name])).with(0);
            assert_eq!(printed.out, line);
            let none = with_viewers(world, &[], world.command(&["view", name])).with(1);
            assert!(none.err.contains("no program that shows this screen is in PATH; install"), "{none:?}");
            let json = with_viewers(world, &[], world.command(&["view", name, "--json"])).with(0).json();
            assert_eq!(json["installed"], false);
            Serial::of(world).leave_with("q");
            launcher.ended().with(0);
            world.is_clean();
        }
        let mut launcher = world.run(&world.machine("guest: Other"));
        launcher.tells(" runs (");
        let none = world.done(&["view", name]).with(1);
        assert!(none.err.contains("has no emulated screen: `display: Spice`"), "{none:?}");
        Serial::of(world).leave_with("q");
        launcher.ended().with(0);
    });
}

#[test]
#[ignore = "must be root, who gives a screen to another user"]
fn a_screen_of_roots_machine_is_opened_by_the_user_whose_it_is() {
    each_as_root(|world| {
        let name = world.name.as_str();
        let mut launcher = world.run(&world.machine(&format!("display: Vnc(for_user: \"{NOBODY}\")")));
        launcher.tells(" runs (");
        let line = format!("vncviewer {}\n", world.display_dir().join("vnc.sock").display());
        let of = |uid: u32| {
            let mut command = world.command(&["view", name]);
            // Its own folders are not root's.
            command.uid(uid).gid(uid).env("XDG_RUNTIME_DIR", "/nonexistent").env("HOME", "/nonexistent");
            with_viewers(world, &["vncviewer"], command)
        };
        assert_eq!(of(NOBODY).with(0).out, line);
        let other = of(NOBODY - 1).with(1);
        assert!(other.err.contains("is another user's; `for_user`"), "{other:?}");
        assert!(Uid::effective().is_root());
        let root = with_viewers(world, &["vncviewer"], world.command(&["view", name])).with(1);
        assert!(root.err.contains("is not started as root") && root.err.contains(line.trim()), "{root:?}");
        assert_eq!(with_viewers(world, &[], world.command(&["view", name, "--print"])).with(0).out, line);
        Serial::of(world).leave_with("q");
        launcher.ended().with(0);

        // Which port it is only root knows.
        let port = port::free();
        let mut launcher = world.run(&world.machine(&format!("display: Vnc(port: {port})")));
        launcher.tells(" runs (");
        let print = format!("`sudo vfio-run view --print {name}`");
        let user = of(NOBODY).with(1);
        assert!(user.err.contains(&print), "{user:?}");
        let line = format!("vncviewer 127.0.0.1::{port}\n");
        assert_eq!(with_viewers(world, &["vncviewer"], world.command(&["view", name, "--print"])).with(0).out, line);
        Serial::of(world).leave_with("q");
        launcher.ended().with(0);
    });
}
