//! One command on QEMU's monitor.

use super::talk::{Qmp, Serial};
use super::world::each;

#[test]
fn a_command_is_answered_without_events_and_mistakes_are_told() {
    each(|world| {
        let name = world.name.as_str();
        let ask = |command: &str| world.done(&["qmp", name, command]);
        assert!(ask("query-status").with(1).err.contains("does not run"));
        let launcher = world.run(&world.machine("guest: Other"));
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        assert_eq!(ask("query-status").with(0).json()["status"], "running");
        // It causes events before its answer.
        for (command, state) in [("stop", "paused"), ("cont", "running")] {
            assert_eq!(ask(&format!("{{\"execute\": \"{command}\"}}")).with(0).json(), serde_json::json!({}));
            assert_eq!(world.done(&["status", name, "--json"]).with(0).json()["state"], state);
        }
        let property = "{\"execute\": \"qom-get\", \"arguments\": {\"path\": \"/machine\", \"property\": \"type\"}}";
        assert!(ask(property).with(0).json().as_str().unwrap().contains("q35"));
        // Longer than the launcher would read.
        assert!(ask("query-qmp-schema").with(0).json().as_array().unwrap().len() > 500);
        for (command, code, words) in [
            ("query-staatus", 1, "did you mean `query-status`?"),
            ("{\"execute\": \"eject\", \"arguments\": {\"id\": \"nothing\"}}", 1, "nothing"),
            ("{\"execute\": query-status}", 2, "\n                ^"),
        ] {
            let refused = ask(command).with(code);
            assert!(refused.err.contains(words) && refused.out.is_empty(), "{refused:?}");
        }
        let tool = Qmp::of(world);
        let busy = ask("query-status").with(1);
        assert!(busy.err.contains("another program uses it"), "{busy:?}");
        drop(tool);
        guest.type_in("q");
        launcher.ended().with(0);
    });
}
