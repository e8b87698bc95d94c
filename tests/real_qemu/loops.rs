//! Launchers of two machines that come and go at once: no start goes wrong because another has just ended.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::launcher::Ended;
use super::world::{World, qemus, with_each};

/// How many starts there are, unless `$VFIO_RUN_LOOPS` says otherwise (`scripts/test --thorough`: ten thousand).
const STARTS: usize = 60;

/// How often something was answered in a way.
type Seen = Mutex<BTreeMap<&'static str, usize>>;

fn count(seen: &Seen, what: &'static str) {
    *seen.lock().unwrap().entry(what).or_default() += 1;
}

/// A start either has a guest that powers off at once, or is refused because the other launcher of this machine is there.
fn start_again_and_again(world: &World, machine: &Path, left: &AtomicUsize, seen: &Seen) {
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
        let ended: Ended = world.run(machine).ended();
        let what = match ended.code {
            Some(0) if ended.err.contains("the host is as it was") => "started",
            Some(1) if ended.err.contains(" runs already") => "refused",
            _ => panic!("{ended:?}"),
        };
        count(seen, what);
    }
}

fn ask_again_and_again(world: &World, name: &str, left: &AtomicUsize, seen: &Seen) {
    while left.load(Ordering::Relaxed) > 0 {
        // 1: nothing runs.
        let status = world.done(&["status", "--json", name]);
        assert!(matches!(status.code, Some(0 | 1)), "{status:?}");
        assert!(matches!(status.json(), serde_json::Value::Object(_) | serde_json::Value::Null));
        let recover = world.done(&["recover", name]);
        let what = match recover.code {
            Some(0) if recover.err.contains("left nothing behind") => "nothing was left",
            Some(0) if recover.err.contains("nothing to recover") => "it runs",
            // The folder that a launcher has just made, or is about to remove.
            Some(0) if recover.err.contains("the host is as it was") => "a folder was left",
            Some(1) if recover.err.contains(name) => "recover refused",
            _ => panic!("{recover:?}"),
        };
        count(seen, what);
    }
}

#[test]
fn launchers_that_end_and_launchers_that_begin_do_not_disturb_each_other() {
    let starts = std::env::var("VFIO_RUN_LOOPS").map_or(STARTS, |number| number.parse().unwrap());
    with_each(&qemus()[..1], false, |world| {
        let text = std::fs::read_to_string(world.machine("kernel: (image: \"guest\", cmdline: \"!\")")).unwrap();
        let machine = |letter: &str| -> (String, PathBuf) {
            let name = format!("{}-{letter}", world.name);
            let path = world.file(&format!("{letter}.ron"), text.replace(&world.name, &name));
            (name, path)
        };
        let (left, seen) = (AtomicUsize::new(starts), Seen::default());
        let (first, second) = (machine("a"), machine("b"));
        std::thread::scope(|scope| {
            // Two launchers want the first machine.
            for (_, machine) in [&first, &first, &second] {
                scope.spawn(|| start_again_and_again(world, machine, &left, &seen));
            }
            scope.spawn(|| ask_again_and_again(world, &first.0, &left, &seen));
        });
        println!("{:?}", seen.lock().unwrap());
        let folder = world.run_dir().parent().unwrap().to_owned();
        // The folder of all machines goes with the last of them.
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().into_string().unwrap());
        let left: Vec<_> = names.filter(|name| name.contains(&world.name)).collect();
        assert_eq!(left, [""; 0]);
    });
}
