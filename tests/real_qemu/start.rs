//! From the machine file to a guest whose threads are in their places.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::launcher::wait_for;
use super::talk::{Notified, Qmp, Serial};
use super::world::{World, each};

/// One vCPU, and a disk with an I/O thread.
fn placed(world: &World) -> std::path::PathBuf {
    placed_as(world, "vcpus: 1")
}

/// A disk with an I/O thread, and vCPUs as these fields have them.
fn placed_as(world: &World, cpu: &str) -> std::path::PathBuf {
    world.file("disk.raw", vec![0; 1 << 20]);
    world.machine(&format!(
        "cpu: ({cpu}), disks: [(id: \"system\", file: \"disk.raw\", cache: Writeback, aio: Threads)]"
    ))
}

#[test]
fn the_guest_runs_and_systemd_is_told() {
    each(|world| {
        let machine = world.machine("serial: Socket");
        let mut systemd = Notified::listen(world);
        let mut command = world.command(&[machine.to_str().unwrap()]);
        systemd.by(&mut command);
        let launcher = world.start(command);
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        let told = systemd.hears("READY=1");
        assert!(told.contains("STATUS=running"), "{told}");
        guest.type_in("q");
        systemd.hears("STOPPING=1");
        let ended = launcher.ended().with(0);
        assert!(ended.err.contains("has ended (guest-shutdown)"), "{ended:?}");
        assert!(ended.err.contains("the host is as it was"), "{ended:?}");
    });
}

#[test]
fn every_thread_is_where_the_plan_has_it() {
    each(|world| threads_are_where_the_plan_has_them(world, "vcpus: 1"));
}

#[test]
fn each_vcpu_has_what_a_list_says() {
    each(|world| threads_are_where_the_plan_has_them(world, "pin: [\"0\", \"Any\", \"0\"]"));
}

fn threads_are_where_the_plan_has_them(world: &World, cpu: &str) {
    let machine = placed_as(world, cpu);
    let plan = world.done(&["plan", "--json", machine.to_str().unwrap()]).with(0).json();
    let placement = &plan["placement"];
    let launcher = world.run(&machine);
    Serial::of(world).says("HELLO");
    let mut qmp = Qmp::of(world);
    let mut expected = BTreeMap::new();
    for cpu in qmp.ask("query-cpus-fast").as_array().unwrap() {
        let index = cpu["cpu-index"].as_u64().unwrap() as usize;
        expected.insert(cpu["thread-id"].as_i64().unwrap(), placement["vcpus"][index].clone());
    }
    assert_eq!(expected.len(), placement["vcpus"].as_array().unwrap().len());
    let iothreads = qmp.ask("query-iothreads");
    for planned in placement["iothreads"].as_array().unwrap() {
        let thread = iothreads.as_array().unwrap().iter().find(|t| t["id"] == planned[0]).expect("it is there");
        expected.insert(thread["thread-id"].as_i64().unwrap(), planned[1].clone());
    }
    assert!(expected.len() >= 2, "{expected:?}");
    let mut others = 0;
    let qemu = world.pid("qemu");
    for task in std::fs::read_dir(format!("/proc/{qemu}/task")).unwrap().flatten() {
        // A worker that ends meanwhile needs no place.
        let Ok(status) = std::fs::read_to_string(task.path().join("status")) else { continue };
        let thread: i64 = task.file_name().to_str().unwrap().parse().unwrap();
        let found = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:")).unwrap().trim();
        let wanted = expected.remove(&thread).unwrap_or_else(|| {
            others += 1;
            placement["emulator"].clone()
        });
        assert_eq!(Value::from(found), wanted, "thread {thread}: {status}");
    }
    assert!(expected.is_empty() && others > 0, "{expected:?}");
    launcher.signal(Signal::SIGTERM);
    launcher.ended().with(0);
}

#[test]
fn no_vcpu_runs_before_its_thread_is_placed() {
    each(|world| {
        let machine = placed(world);
        let trace = world.file("trace", "");
        let calls = "--trace=sched_setaffinity,sched_getaffinity,write,sendto,sendmsg,writev";
        let strace = ["strace", calls, "-s", "300", "-o", trace.to_str().unwrap()];
        let launcher = world.start(world.wrapped(&strace, &[machine.to_str().unwrap()]));
        let mut guest = Serial::of(world);
        let mut qmp = Qmp::of(world);
        qmp.event("RESUME");
        let named = qmp.ask("query-cpus-fast");
        guest.says("HELLO").type_in("q");
        launcher.ended().with(0);
        let trace = std::fs::read_to_string(trace).unwrap();
        let line = |wanted: &dyn Fn(&str) -> bool| trace.lines().position(wanted);
        let go = line(&|l| l.contains(r#"\"cont\""#)).unwrap_or_else(|| panic!("nobody said `cont`:\n{trace}"));
        for cpu in named.as_array().unwrap() {
            let thread = cpu["thread-id"].as_i64().unwrap();
            for call in ["sched_setaffinity", "sched_getaffinity"] {
                let start = format!("{call}({thread},");
                let placed = line(&|l| l.starts_with(&start)).unwrap_or_else(|| panic!("no {start}\n{trace}"));
                assert!(placed < go, "{start} came after `cont`:\n{trace}");
            }
        }
        // It was let go just once, and born stopped.
        assert_eq!(trace.matches(r#"\"cont\""#).count(), 1, "{trace}");
        assert!(world.log().contains(r#""-S""#), "{}", world.log());
    });
}

#[test]
fn a_guest_whose_thread_cannot_be_placed_does_not_run() {
    each(|world| {
        let machine = placed(world);
        for (when, words) in [("1", "vCPU 0"), ("2", "I/O thread")] {
            let trace = world.file("trace", "");
            let inject = format!("--inject=sched_setaffinity:error=EINVAL:when={when}");
            let strace = ["strace", "--trace=sched_setaffinity", &inject, "-o", trace.to_str().unwrap()];
            let launcher = world.start(world.wrapped(&strace, &[machine.to_str().unwrap()]));
            let mut guest = Serial::of(world);
            let ended = launcher.ended().with(1);
            assert!(ended.err.contains("could not be placed") && ended.err.contains(words), "{ended:?}");
            assert!(guest.said_nothing(), "the guest ran");
            world.is_clean();
        }
    });
}

#[test]
fn refused_arguments_are_told_in_qemus_own_words() {
    each(|world| {
        let machine = world.machine("extra_args: [\"-device\", \"nonsense\"]");
        let ended = world.run(&machine).ended().with(1);
        assert!(ended.err.contains("'nonsense' is not a valid device model name"), "{ended:?}");
        let log = format!("{}.log", world.name);
        assert!(ended.err.contains(&log), "{ended:?}");
        assert!(world.log().contains("nonsense"));
    });
}

#[test]
fn a_plan_that_cannot_be_kept_leaves_nothing_that_looks_like_a_killed_launcher() {
    each(|world| {
        let machine = world.machine("serial: Socket");
        let plan = world.run_dir().join("plan.json");
        let strace = ["strace", "--trace=write", "--inject=write:error=ENOSPC", "-P", plan.to_str().unwrap()];
        let full = [&strace[..], &["-o", "/dev/null"]].concat();
        let ended = world.start(world.wrapped(&full, &["run", machine.to_str().unwrap()])).ended().with(1);
        assert!(ended.err.contains("plan.json: No space left on device"), "{ended:?}");
        assert!(!world.run_dir().exists());
        let status = world.done(&["status", &world.name]);
        assert!(!status.out.contains("was killed"), "{status:?}");
        world.is_clean();
    });
}

#[test]
fn one_machine_runs_once() {
    each(|world| {
        let machine = world.machine("serial: Socket");
        let mut launcher = world.run(&machine);
        launcher.tells(" runs (");
        let second = world.run(&machine).ended().with(1);
        assert!(second.err.contains(&format!("launched by process {}", launcher.pid())), "{second:?}");
        let machine = machine.to_str().unwrap();
        let checked = world.done(&["check", machine]).with(0);
        let words = format!("{} runs already, launched by process {}", world.name, launcher.pid());
        assert!(checked.out.contains(&words), "{checked:?}");
        assert_eq!(world.done(&["check", "--json", machine]).with(0).json()["launcher"], launcher.pid());
        // The first is none the worse for it.
        drop(Serial::of_running(world));
        world.done(&["stop", &world.name]).with(0);
        launcher.ended().with(0);
    });
}

#[test]
fn the_users_monitor_is_for_the_user_alone() {
    each(|world| {
        let mut launcher = world.run(&world.machine("serial: Socket"));
        launcher.tells(" runs (");
        let mut guest = Serial::of(world);
        guest.type_in("?").says("HERE");
        let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&world.run_dir()), 0o700);
        for name in ["qmp.sock", "adopt.sock", "serial.sock", "control.sock", "journal", "lock"] {
            assert_eq!(mode(&world.run_dir().join(name)), 0o600, "{name}");
        }
        let mut qmp = Qmp::of(world);
        assert_eq!(qmp.ask("query-status")["status"], "running");
        // One that comes, talks nonsense and goes disturbs nobody.
        drop(qmp);
        let status = world.done(&["status", &world.name, "--json"]).with(0).json();
        assert_eq!(status["state"], "running");
        let mut qmp = Qmp::of(world);
        qmp.ask("stop");
        wait_for("the pause", || {
            let status = world.done(&["status", &world.name, "--json"]).with(0).json();
            (status["state"] == "paused").then_some(())
        });
        // A guest that somebody paused still hears the power button.
        world.done(&["stop", &world.name]).with(0);
        launcher.ended().with(0);
    });
}

#[test]
fn json_lines_are_json() {
    each(|world| {
        let machine = world.machine("serial: Console");
        let launcher = world.start(world.command(&["--json", machine.to_str().unwrap()]));
        let mut guest = Serial::of(world);
        guest.says("HELLO").type_in("q");
        let ended = launcher.ended().with(0);
        let lines: Vec<Value> = ended.out.lines().map(|l| serde_json::from_str(l).expect(l)).collect();
        let events: Vec<&str> = lines.iter().filter_map(|l| l["event"].as_str()).collect();
        assert_eq!(events, ["running", "shutdown", "ended", "restored"], "{ended:?}");
        assert!(lines.iter().all(|l| l["level"].is_string() && l["message"].is_string()), "{ended:?}");
        assert_eq!(lines.iter().find(|l| l["event"] == "ended").unwrap()["code"], 0);
        assert_eq!(ended.err, "");
    });
}

#[test]
fn what_happens_on_the_guests_cpus_is_shown_and_reported() {
    each(|world| {
        let machine = placed(world);
        let mut launcher = world.start(world.command(&["-vv", "run", "--report", machine.to_str().unwrap()]));
        Serial::of(world).says("HELLO");
        wait_for("the first look", || world.run_dir().join("activity.json").exists().then_some(()));
        let status = world.done(&["status", "--json", &world.name]).with(0).json();
        let activity = &status["activity"];
        let threads = activity["threads"].as_array().unwrap();
        assert!(threads[0]["name"].as_str().unwrap().starts_with("CPU 0/TCG"), "{activity:#}");
        assert!(activity["memory"]["resident"].is_string() && activity["seconds"].is_number(), "{activity:#}");
        let shown = world.done(&["status", &world.name]).with(0).out;
        assert!(
            shown.contains("THREAD") && shown.contains("CPU 0/TCG") && shown.contains("memory of QEMU: "),
            "{shown}"
        );
        // Without a name nobody is looked at closely.
        assert!(world.done(&["status", "--json"]).with(0).json()[0]["activity"].is_null());
        // At least one look of the report.
        let plan: Value = serde_json::from_slice(&std::fs::read(world.run_dir().join("plan.json")).unwrap()).unwrap();
        assert_eq!(plan["report"], true);
        let log = std::path::PathBuf::from(plan["paths"]["log"].as_str().unwrap());
        launcher.tells("looked at the guest's threads");
        launcher.signal(Signal::SIGTERM);
        let ended = launcher.ended().with(0);
        assert!(
            ended.err.contains("what happened on the guest's CPUs (") && ended.err.contains("CPU 0/TCG"),
            "{ended:?}"
        );
        assert!(ended.err.contains("worst second: "), "{ended:?}");
        let report: Value = serde_json::from_slice(&std::fs::read(log.with_extension("report.json")).unwrap()).unwrap();
        assert!(!report["stutter"]["wait_ms"].as_array().unwrap().is_empty(), "{report:#}");
        assert!(world.log().contains("worst second: "));
    });
}
