//! A QEMU that its guest has taken over: the launcher stays able to answer, small, and the host comes back.

use std::process::{Child, Command, Stdio};

use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::launcher::{Launcher, wait_for};
use super::stand_in::{self, MODES, Mode, peak_memory};
use super::world::{World, with_each};

/// What a launcher may have at most, in KiB: a debug build's, with room for the longest line of QMP and its values.
const MEMORY: u64 = 64 * 1024;

/// A process that has nothing to do with the machine.
struct Bystander(Child);

impl Bystander {
    fn start() -> Self {
        let null = Stdio::null;
        Self(Command::new("sleep").arg("600").stdin(null()).stdout(null()).stderr(null()).spawn().unwrap())
    }

    fn affinity(&self) -> CpuSet {
        sched_getaffinity(Pid::from_raw(self.0.id() as i32)).unwrap()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        drop(self.0.kill().and_then(|()| self.0.wait()));
    }
}

/// Starts a machine whose QEMU misbehaves so.
fn start(world: &World, mode: Mode, bystander: u32) -> Launcher {
    let test = "taken_over::the_host_comes_back_from_every_kind_of_misbehaviour";
    let program = stand_in::write(world, mode, test, bystander);
    world.run(&world.machine(&format!("qemu: \"{}\", kernel: None", program.display())))
}

/// Fails if a terminal would obey anything of this, or if a line pretends to be the launcher's.
fn is_clean_text(text: &str) {
    let control = text.chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(control, None, "{text}");
    // Once at most, and then by the launcher itself.
    assert!(text.lines().filter(|l| l.ends_with("the host is as it was")).count() <= 1, "{text}");
}

fn comes_back_from(world: &World, mode: Mode) {
    let begun = std::time::Instant::now();
    let bystander = Bystander::start();
    let before = bystander.affinity();
    let mut launcher = start(world, mode, bystander.0.id());
    let pid = launcher.pid();
    if mode.spoils_the_start() {
        // Some of them end the start at once.
        let started = || world.journal().iter().any(|record| record["started"]["name"] == "qemu");
        wait_for("QEMU's start", || (started() || peak_memory(pid).is_none()).then_some(()));
    } else {
        launcher.tells(" runs (");
    }
    // It tells how things are, and is ended by force, whatever QEMU does; twice, as a person would who sees that it
    // takes a while.
    let told = world.done(&["status", "--json", &world.name]);
    // 1 says that nothing runs: some have ended by now.
    assert!(matches!(told.code, Some(0 | 1)), "{told:?}");
    assert!(matches!(told.json(), serde_json::Value::Object(_) | serde_json::Value::Null));
    is_clean_text(&told.err);
    let mut peak = 0;
    let mut forces = Vec::new();
    for _ in 0..2 {
        forces.push(world.start(world.command(&["stop", "--force", &world.name])));
        peak = peak_memory(pid).unwrap_or(peak).max(peak);
    }
    let said = launcher.output();
    let ended = wait_for_end(launcher, pid, &mut peak);
    for force in forces {
        is_clean_text(&force.ended().err);
    }
    assert!(matches!(ended, Some(1 | 4)), "{mode:?}: {ended:?}\n{said}");
    is_clean_text(&said.to_string().replace('\r', ""));
    assert!(peak < MEMORY, "{mode:?}: {peak} KiB");
    assert_eq!(bystander.affinity(), before, "another process was moved");
    world.is_clean();
    assert!(world.log().len() < 100 << 20);
    eprintln!("{mode:?}: {ended:?}, {peak} KiB, {} s", begun.elapsed().as_secs());
}

fn wait_for_end(launcher: Launcher, pid: i32, peak: &mut u64) -> Option<i32> {
    wait_for("the launcher's end", || {
        let now = peak_memory(pid);
        *peak = now.unwrap_or(0).max(*peak);
        now.is_none().then_some(())
    });
    launcher.ended().code
}

#[test]
fn the_host_comes_back_from_every_kind_of_misbehaviour() {
    stand_in::act();
    for mode in MODES {
        with_each(&[super::world::qemus().remove(0)], false, |world| comes_back_from(world, mode));
    }
}

#[test]
fn what_has_let_go_of_its_lock_is_still_a_guest() {
    with_each(&[super::world::qemus().remove(0)], false, |world| {
        let mut launcher = start(world, Mode::LetsGo, std::process::id());
        launcher.tells(" runs (");
        launcher.signal(Signal::SIGKILL);
        launcher.ended();
        let refused = world.done(&["recover", &world.name]).with(1);
        assert!(refused.err.contains("runs without a launcher"), "{refused:?}");
        world.done(&["stop", "--force", &world.name]).with(0);
        wait_for("its end", || world.processes().is_empty().then_some(()));
    });
}
