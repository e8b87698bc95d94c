//! What a machine tunes on the host is restored after the guest, also if the launcher was killed.

use std::path::Path;

use nix::sys::signal::Signal;

use super::talk::Serial;
use super::world::{World, each_as_root};

const DEFRAG: &str = "/sys/kernel/mm/transparent_hugepage/defrag";

/// The word in brackets, which is in force.
fn defrag() -> String {
    let text = std::fs::read_to_string(DEFRAG).unwrap();
    text.split_once('[').unwrap().1.split_once(']').unwrap().0.to_owned()
}

/// Puts the host back also if the test fails.
struct Restored(String);

impl Drop for Restored {
    fn drop(&mut self) {
        if defrag() != self.0 {
            std::fs::write(DEFRAG, &self.0).unwrap();
        }
    }
}

/// The report of the run has the change in each of its parts, by the words of the plan.
fn reports_the_change(world: &World, how: &str) {
    let report = world.done(&["report", "--json", &world.name]).with(0).json();
    let plan = world.done(&["plan", "machine.ron"]).with(0).out;
    let name = report["changes"][0]["change"].as_str().unwrap();
    assert!(plan.contains(name), "no {name} in\n{plan}");
    assert_eq!(report["changes"], serde_json::json!([{ "change": name, "result": "restored" }]));
    let has = |part: &str| report[part].as_array().unwrap().iter().any(|step| step["step"] == name);
    // What a launcher did before it was killed was noted in the guest's first second, if that came.
    assert!((has("start") || how == "launcher-killed") && has("back"), "{report:#}");
    assert_eq!(report["end"]["how"], how);
}

#[test]
#[ignore = "needs root, and a kernel with transparent huge pages"]
fn what_is_tuned_for_the_run_is_restored_after_it_and_by_recover() {
    assert!(Path::new(DEFRAG).exists(), "this kernel has no {DEFRAG}");
    each_as_root(|world| {
        let before = Restored(defrag());
        let (field, word) = if before.0 == "never" { ("Madvise", "madvise") } else { ("Never", "never") };
        let machine = world.machine(&format!("host: (thp_defrag: {field})"));

        let launcher = world.run(&machine);
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        assert_eq!(defrag(), word);
        guest.type_in("q");
        launcher.ended().with(0);
        assert_eq!(defrag(), before.0);
        reports_the_change(world, "shut-down");

        let launcher = world.run(&machine);
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        launcher.signal(Signal::SIGKILL);
        assert_eq!(launcher.ended().code, None);
        guest.type_in("?").says("HERE");
        assert_eq!(defrag(), word);
        guest.type_in("q");
        world.guest_has_ended();
        assert_eq!(defrag(), word, "nobody has restored it yet");
        world.done(&["recover", &world.name]).with(0);
        assert_eq!(defrag(), before.0);
        reports_the_change(world, "launcher-killed");
    });
}
