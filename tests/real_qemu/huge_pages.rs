//! Huge pages of the real host: reserved, used, given back. Few of them, and only as root.

use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use nix::unistd::Uid;

use super::launcher::wait_for;
use super::talk::Serial;
use super::world::each_as_root;

const POOL: &str = "/sys/devices/system/node/node0/hugepages/hugepages-2048kB";

/// Persistent, surplus and free pages of 2 MiB on node 0; none if the kernel has no such pool.
pub fn pool() -> Option<[u64; 3]> {
    let number = |name: &str| std::fs::read_to_string(Path::new(POOL).join(name)).ok()?.trim().parse::<u64>().ok();
    let (all, surplus) = (number("nr_hugepages")?, number("surplus_hugepages")?);
    Some([all - surplus, surplus, number("free_hugepages")?])
}

/// Whether the pool can be changed here.
pub fn are_there() -> bool {
    Uid::effective().is_root()
        && std::fs::OpenOptions::new().write(true).open(Path::new(POOL).join("nr_hugepages")).is_ok()
}

/// The tests that change the pool, one after the other.
pub fn alone() -> MutexGuard<'static, ()> {
    static POOL_LOCK: Mutex<()> = Mutex::new(());
    POOL_LOCK.lock().unwrap_or_else(|e| e.into_inner())
}

#[test]
#[ignore = "needs root and a pool of huge pages"]
fn huge_pages_are_reserved_used_and_given_back_while_the_guest_runs() {
    let _alone = alone();
    assert!(are_there(), "{POOL} cannot be written to");
    each_as_root(|world| {
        let before = pool().unwrap();
        let machine = world.machine("memory: (size: \"16 MiB\", pages: Huge(\"2 MiB\"))");
        let launcher = world.run(&machine);
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        // The pool is as it was; the guest's eight pages are surplus and go with it.
        let [persistent, surplus, free] = pool().unwrap();
        assert_eq!((persistent, free), (before[0], before[2].saturating_sub(8)), "{before:?}");
        assert_eq!(surplus, before[1] + 8u64.saturating_sub(before[2]), "{before:?}");
        let records = world.journal();
        assert!(records.iter().any(|r| r["undone"]["how"] == "restored"), "{records:?}");
        guest.type_in("q");
        launcher.ended().with(0);
        assert_eq!(pool().unwrap(), before);
    });
}

#[test]
#[ignore = "needs root and a pool of huge pages"]
fn pages_go_with_a_guest_whose_launcher_was_killed() {
    let _alone = alone();
    assert!(are_there(), "{POOL} cannot be written to");
    each_as_root(|world| {
        let before = pool().unwrap();
        let machine = world.machine("memory: (size: \"16 MiB\", pages: Huge(\"2 MiB\"))");
        let launcher = world.run(&machine);
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        launcher.signal(nix::sys::signal::Signal::SIGKILL);
        launcher.ended();
        guest.type_in("q");
        world.guest_has_ended();
        wait_for("its pages", || (pool().unwrap() == before).then_some(()));
        world.done(&["recover", &world.name]).with(0);
        assert_eq!(pool().unwrap(), before);
    });
}

#[test]
#[ignore = "needs root and a pool of huge pages that has none free"]
fn a_shortage_of_huge_pages_is_told_in_mib_and_nothing_is_kept() {
    let _alone = alone();
    assert!(are_there(), "{POOL} cannot be written to");
    each_as_root(|world| {
        let before = pool().unwrap();
        assert!(before[2] == 0 && before[0] <= 1, "{POOL} has pages to spare: {before:?}");
        let machine = world.machine("memory: (size: \"16 MiB\", pages: Huge(\"2 MiB\"))");
        // A kernel that takes the write and finds no pages; taking all of this host's memory would be rude.
        let file = format!("{POOL}/nr_hugepages");
        let mut strace = vec!["strace", "--trace=write", "--inject=write:retval=1", "-o", "/dev/null"];
        for path in [&file, "/proc/sys/vm/drop_caches", "/proc/sys/vm/compact_memory"] {
            strace.extend(["-P", path]);
        }
        let ended = world.start(world.wrapped(&strace, &[machine.to_str().unwrap()])).ended().with(1);
        assert!(ended.err.contains("node 0 is short of 16 MiB in 2 MiB pages"), "{ended:?}");
        assert!(ended.err.contains("hugepagesz=2M hugepages="), "{ended:?}");
        assert_eq!(pool().unwrap(), before);

        // More than there can be is refused before anything is touched.
        let machine = world.machine("memory: (size: \"64 TiB\", pages: Huge(\"2 MiB\"))");
        let ended = world.run(&machine).ended().with(3);
        assert!(ended.err.contains(" MiB of NUMA node 0"), "{ended:?}");
    });
}
