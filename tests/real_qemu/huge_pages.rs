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
        // It had its pages before there was a QEMU.
        let restored = records.iter().position(|r| r["undone"]["how"] == "restored");
        let started = records.iter().position(|r| r["started"]["name"] == "qemu");
        assert!(restored.unwrap() < started.unwrap(), "{records:?}");
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

/// The process that fills the guest's memory, and the launcher.
fn filling() -> Option<[i32; 2]> {
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    all.into_iter().find_map(|pid: i32| {
        let said = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()?;
        (said.split('\0').nth(1) == Some("fill-memory")).then_some([pid, parent])
    })
}

#[test]
#[ignore = "needs root and a pool of huge pages"]
fn pages_go_with_a_launcher_that_is_stopped_or_killed_while_it_fills_them() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    let _alone = alone();
    assert!(are_there(), "{POOL} cannot be written to");
    each_as_root(|world| {
        let before = pool().unwrap();
        let machine = world.machine("memory: (size: \"16 MiB\", pages: Huge(\"2 MiB\"))");
        // The child that maps the file waits long enough to be found; strace lets it die only then. What strace calls the file
        // depends on its version.
        let mut slow = vec!["strace", "-f", "--trace=mmap", "--inject=mmap:delay_enter=5s", "-o", "/dev/null"];
        slow.extend(["-P", "/memfd:vfio-run-memory", "-P", "/memfd:vfio-run-memory (deleted)"]);
        for signal in [Signal::SIGINT, Signal::SIGKILL] {
            let launcher = world.start(world.wrapped(&slow, &["run", machine.to_str().unwrap()]));
            let [child, parent] = wait_for("the process that fills", filling);
            kill(Pid::from_raw(parent), signal).unwrap();
            let ended = launcher.ended();
            if signal == Signal::SIGINT {
                let words = "SIGINT came before the guest's memory was filled";
                assert!(ended.code == Some(1) && ended.err.contains(words), "{ended:?}");
            }
            wait_for("its end", || (!Path::new(&format!("/proc/{child}")).exists()).then_some(()));
            world.done(&["recover", &world.name]).with(0);
            world.is_clean();
            assert_eq!(pool().unwrap(), before, "{signal}");
        }
    });
}

#[test]
#[ignore = "needs root and a pool of huge pages that has none free"]
fn a_guest_that_can_do_without_huge_pages_starts_without() {
    let _alone = alone();
    assert!(are_there(), "{POOL} cannot be written to");
    each_as_root(|world| {
        let before = pool().unwrap();
        assert!(before[2] == 0 && before[0] <= 1, "{POOL} has pages to spare: {before:?}");
        let machine =
            world.machine("memory: (size: \"16 MiB\", pages: Auto), kernel: (image: \"guest\", cmdline: \"!\")");
        let ended = world.start(world.wrapped(&no_pages(), &["run", machine.to_str().unwrap()])).ended().with(0);
        assert!(ended.err.contains("NUMA node 0 is short of 16 MiB"), "{ended:?}");
        assert!(ended.err.contains("the guest has normal pages"), "{ended:?}");
        assert_eq!(pool().unwrap(), before);
    });
}

/// A kernel that takes the write and finds no pages; taking all of this host's memory would be rude.
fn no_pages() -> Vec<&'static str> {
    const FILES: [&str; 3] = [
        "/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages",
        "/proc/sys/vm/drop_caches",
        "/proc/sys/vm/compact_memory",
    ];
    let mut strace = vec!["strace", "--trace=write", "--inject=write:retval=1", "-o", "/dev/null"];
    strace.extend(FILES.iter().flat_map(|path| ["-P", path]));
    strace
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
        let ended = world.start(world.wrapped(&no_pages(), &[machine.to_str().unwrap()])).ended().with(1);
        assert!(ended.err.contains("node 0 is short of 16 MiB in 2 MiB pages"), "{ended:?}");
        assert!(ended.err.contains("hugepagesz=2M hugepages="), "{ended:?}");
        assert_eq!(pool().unwrap(), before);

        // More than there can be is refused before anything is touched.
        let machine = world.machine("memory: (size: \"64 TiB\", pages: Huge(\"2 MiB\"))");
        let ended = world.run(&machine).ended().with(3);
        assert!(ended.err.contains(" MiB of NUMA node 0"), "{ended:?}");
    });
}
