//! What the host holds stands as long as QEMU runs, whatever becomes of the launcher.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use nix::sys::signal::Signal;

use super::talk::Serial;
use super::world::each_as_root;

const NODE: &str = "/dev/cpu_dma_latency";
/// A limit that no other program is likely to ask for.
const LIMIT: i32 = 1234;

/// The strictest limit of all programs, as the kernel has it.
fn limit() -> i32 {
    let mut number = [0; 4];
    File::open(NODE).unwrap().read_exact_at(&mut number, 0).unwrap();
    i32::from_ne_bytes(number)
}

/// Whether a process has the node open.
fn holds(pid: i32) -> bool {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let mut targets = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    targets.any(|target| target == Path::new(NODE))
}

#[test]
#[ignore = "needs root and a kernel with PM QoS"]
fn a_hold_stands_as_long_as_the_guest_also_without_its_launcher() {
    each_as_root(|world| {
        assert_ne!(limit(), LIMIT);
        let mut launcher = world.run(&world.machine(&format!("host: (cpu_latency_us: {LIMIT})")));
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        launcher.tells(" runs (");
        let qemu = world.pid("qemu");
        assert!(holds(qemu) && !holds(launcher.pid()));
        assert_eq!(limit(), LIMIT);
        launcher.signal(Signal::SIGKILL);
        assert_eq!(launcher.ended().code, None);
        guest.type_in("?").says("HERE");
        assert!(holds(qemu));
        assert_eq!(limit(), LIMIT);
        guest.type_in("q");
        world.guest_has_ended();
        assert_ne!(limit(), LIMIT);
        world.done(&["recover", &world.name]).with(0);
    });
}
