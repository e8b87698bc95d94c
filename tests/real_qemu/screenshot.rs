//! A picture of the emulated screen.

use std::os::unix::fs::MetadataExt as _;

use super::launcher::wait_for;
use super::talk::Serial;
use super::world::{World, each, each_as_root};

/// How large a PNG is, and how many colours it has.
fn looked_at(bytes: &[u8]) -> (u32, u32, usize) {
    let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
    let mut points = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut points).unwrap();
    let colours: std::collections::BTreeSet<&[u8]> = points[..info.buffer_size()].chunks(3).collect();
    (info.width, info.height, colours.len())
}

/// How many files for a picture QEMU has open.
fn pictures_that_qemu_has_open(world: &World) -> usize {
    let files = std::fs::read_dir(format!("/proc/{}/fd", world.pid("qemu"))).unwrap();
    let links = files.filter_map(|file| std::fs::read_link(file.unwrap().path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("/memfd:screen")).count()
}

fn shows_the_screen(world: &World) {
    let name = world.name.as_str();
    let launcher = world.run(&world.machine("display: Vnc(), video: Std"));
    let mut guest = Serial::of(world);
    guest.says("HELLO");
    // The firmware's words, white on black.
    wait_for("a picture with the firmware's words", || {
        let taken = world.done(&["screenshot", name, "screen.png", "--force", "--json"]).with(0).json();
        let (width, height, colours) = looked_at(&std::fs::read(world.path("screen.png")).unwrap());
        assert_eq!((&taken["width"], &taken["height"]), (&width.into(), &height.into()));
        (colours > 1).then_some(())
    });
    let file = world.path("screen.png");
    let us = std::fs::metadata(world.path("guest")).unwrap();
    if !world.is_root() {
        assert_eq!(std::fs::metadata(&file).unwrap().uid(), std::fs::metadata(world.path("run")).unwrap().uid());
    }
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777 & !us.mode(), 0);
    let before = std::fs::read(&file).unwrap();
    let refused = world.done(&["screenshot", name, "screen.png"]).with(1);
    assert!(refused.err.contains("screen.png is there already; `--force` replaces it"), "{refused:?}");
    assert_eq!(std::fs::read(&file).unwrap(), before);
    let refused = world.done(&["screenshot", name, "missing/screen.png"]).with(1);
    assert!(refused.err.contains("cannot write missing/screen.png"), "{refused:?}");
    world.done(&["screenshot", name, "second.png"]).with(0);
    // A paused guest has a screen too, and the next pictures are new descriptors.
    world.done(&["pause", name]).with(0);
    world.done(&["screenshot", name, "paused.png"]).with(0);
    world.done(&["resume", name]).with(0);
    // While the guest stood still, QEMU 7.2 closed nothing. Nobody asks it: it closes what it has kept when a monitor's client leaves.
    wait_for("QEMU to close the descriptors", || (pictures_that_qemu_has_open(world) == 0).then_some(()));
    guest.type_in("q");
    launcher.ended().with(0);
}

#[test]
fn a_picture_of_the_screen_is_a_file_of_who_asks() {
    each(shows_the_screen);
}

#[test]
#[ignore = "must be root, whose QEMU is another user in a sandbox"]
fn a_picture_comes_out_of_a_qemu_in_its_sandbox() {
    each_as_root(shows_the_screen);
}

#[test]
fn a_guest_without_a_screen_has_no_picture() {
    each(|world| {
        let launcher = world.run(&world.machine("guest: Other"));
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        let refused = wait_for("the launcher", || {
            let refused = world.done(&["screenshot", &world.name, "screen.png"]).with(1);
            (!refused.err.contains("no guest runs now")).then_some(refused)
        });
        assert!(refused.err.contains("has no emulated screen: `display: Spice`"), "{refused:?}");
        assert!(!world.path("screen.png").exists());
        guest.type_in("q");
        launcher.ended().with(0);
    });
}
