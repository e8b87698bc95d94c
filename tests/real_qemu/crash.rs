//! The launcher is killed at every step that can be told from outside, then `recover` puts everything back.
//!
//! strace(1) kills it as it enters a system call: `fdatasync` is a record of the journal that was written, `write` and
//! `sendto` are what was about to be written or said and was not.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::hooks::{hooks, notes};
use super::launcher::{Ended, LIMIT, Launcher, wait_for};
use super::talk::Serial;
use super::world::{World, each, each_as_root};

/// The machine's guest powers off by itself, so that a run needs nobody.
pub const ALONE: &str = "kernel: (image: \"guest\", cmdline: \"!\"), shutdown_timeout: 5";

/// Longer than a guest of these tests runs.
const SILENT: Duration = Duration::from_secs(25);

/// A machine that is started again and again, and disturbed at another point each time.
pub struct Series<'a> {
    /// Where.
    pub world: &'a World,
    /// The machine, whose guest ends by itself.
    pub machine: &'a Path,
    /// What the program is started by.
    pub below: &'a [&'a str],
    /// Of how many points one is tried.
    pub every: usize,
    /// Looks at the host after each run.
    pub is_back: &'a dyn Fn(),
}

impl<'a> Series<'a> {
    fn new(world: &'a World, machine: &'a Path, is_back: &'a dyn Fn()) -> Self {
        Self { world, machine, below: &[], every: 1, is_back }
    }

    fn begin(&self, tracer: &[&str], arguments: &[&str]) -> Launcher {
        let wrapper: Vec<&str> = self.below.iter().chain(tracer).copied().collect();
        self.world.start(self.world.wrapped(&wrapper, arguments))
    }

    fn start(&self, tracer: &[&str], arguments: &[&str]) -> Ended {
        self.begin(tracer, arguments).ended()
    }

    fn traced(&self, options: &[&str]) -> Ended {
        let trace = self.world.file("trace", "");
        let mut strace = vec!["strace", "-o", trace.to_str().unwrap()];
        strace.extend(options);
        self.start(&strace, &["run", self.machine.to_str().unwrap()])
    }

    /// How many calls there are in a run that nobody disturbs.
    fn calls(&self, call: &str) -> usize {
        self.traced(&[&format!("--trace={call}")]).with(0);
        let undisturbed = std::fs::read_to_string(self.world.path("trace")).unwrap();
        let calls = undisturbed.matches(&format!("{call}(")).count();
        assert!(calls > 0, "{undisturbed}");
        (self.is_back)();
        calls
    }

    fn recover(&self, when: &str) {
        let journal = self.world.journal();
        let start = Instant::now();
        wait_for("the recovery", || {
            let recovered = self.start(&[], &["recover", &self.world.name]);
            if recovered.code == Some(1) && recovered.err.contains("without a launcher") {
                // It was let go already, and it is not to be harmed; it ends by itself.
                assert!(journal.iter().any(|r| r == "running"), "{when}, with {journal:?}: {recovered:?}");
                // Seen once in ten series on a busy machine: QEMU 7.2 whose client dies in the middle of a command takes no
                // other one from anybody. It cannot be asked then whether it runs its guest, and a person ends it.
                if start.elapsed() > SILENT {
                    self.start(&[], &["stop", "--force", &self.world.name]).with(0);
                }
                return None;
            }
            assert_eq!(recovered.code, Some(0), "{when}, with {journal:?}: {recovered:?}");
            Some(())
        });
        // A helper's end follows from QEMU's.
        let ends = Instant::now();
        while let left @ [_, ..] = &self.world.processes()[..] {
            assert!(ends.elapsed() < LIMIT, "{when}, with {journal:?}: these do not end: {left:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        self.world.is_clean();
        (self.is_back)();
    }

    /// Kills the launcher of a run at the first, second, … of these calls, until a run gets by unharmed. Returns how many
    /// deaths there were.
    pub fn die_at_every(&self, call: &str) -> usize {
        let calls = self.calls(call);
        let mut deaths = 0;
        for when in (1..=calls).step_by(self.every) {
            let inject = format!("--inject={call}:signal=SIGKILL:when={when}");
            let ended = self.traced(&[&format!("--trace={call}"), &inject]);
            // The number of calls differs a little from run to run; one that was not reached is no death.
            if ended.code.is_some() {
                assert_eq!(ended.code, Some(0), "{call} {when}: {ended:?}");
                self.world.is_clean();
                continue;
            }
            deaths += 1;
            self.recover(&format!("killed at {call} {when}"));
        }
        println!("killed at {deaths} of {calls} calls of {call}");
        deaths
    }

    /// Kills the launcher, QEMU (also the trial's) or both in so many runs, each at a moment that nobody chose between a
    /// run's begin and its end. `$VFIO_RUN_SEED` repeats a series, as far as time allows. Returns how many runs it met.
    pub fn die_at_random(&self, rounds: usize) -> usize {
        let run = ["run", self.machine.to_str().unwrap()];
        let begun = Instant::now();
        self.start(&[], &run).with(0);
        let whole = begun.elapsed();
        (self.is_back)();
        let given = std::env::var("VFIO_RUN_SEED").ok().map(|seed| seed.parse().unwrap());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let seed = given.unwrap_or(now.as_secs());
        println!("VFIO_RUN_SEED={seed}, a run takes {whole:?}");
        let mut met = 0;
        for round in 0..rounds {
            let launcher = self.begin(&[], &run);
            let at = whole.mul_f64((random(seed, 2 * round) % 1000) as f64 / 1000.0);
            std::thread::sleep(at);
            let (of_launcher, of_qemu) =
                [(true, false), (false, true), (true, true)][random(seed, 2 * round + 1) as usize % 3];
            if of_launcher {
                launcher.signal(Signal::SIGKILL);
            }
            let qemus = self
                .world
                .processes()
                .into_iter()
                .filter(|(_, arguments)| of_qemu && arguments.contains("qemu-system-x86_64"));
            let killed = qemus.filter(|(pid, _)| kill(Pid::from_raw(*pid), Signal::SIGKILL).is_ok()).count();
            let when =
                format!("round {round} of seed {seed}: launcher {of_launcher}, {killed} QEMUs killed after {at:?}");
            println!("{when}");
            let ended = launcher.ended();
            // One whose QEMU alone was killed restores the host by itself.
            assert!(of_launcher || matches!(ended.code, Some(0 | 1 | 4)), "{when}: {ended:?}");
            met += usize::from(ended.code.is_none() || killed > 0);
            self.recover(&when);
        }
        met
    }

    /// Has each of these calls of a run fail in turn. Returns in how many runs the guest did not start.
    pub fn fail_at_every(&self, call: &str) -> usize {
        let calls = self.calls(call);
        let mut refused = 0;
        for when in (1..=calls).step_by(self.every) {
            let inject = format!("--inject={call}:error=EIO:when={when}");
            let ended = self.traced(&[&format!("--trace={call}"), &inject]);
            let words = ended.err.contains("Input/output error");
            assert!(words && matches!(ended.code, Some(0 | 1 | 5)), "{call} {when} failed: {ended:?}");
            refused += usize::from(ended.code == Some(1));
            self.recover(&format!("failed at {call} {when}"));
        }
        println!("{call} failed {calls} times; {refused} starts were refused");
        refused
    }
}

/// The same numbers for the same seed.
fn random(seed: u64, number: usize) -> u64 {
    let mut hasher = DefaultHasher::new();
    (seed, number).hash(&mut hasher);
    hasher.finish()
}

/// Kills the launcher of a machine at each of these calls.
fn die_at_every(world: &World, call: &str, machine: &Path, is_back: &dyn Fn()) -> usize {
    Series::new(world, machine, is_back).die_at_every(call)
}

#[test]
fn a_launcher_killed_at_any_record_is_recovered_from() {
    each(|world| {
        let machine = world.machine(&format!("{ALONE}, tpm: V2"));
        // swtpm and QEMU started, the guest let go.
        assert!(die_at_every(world, "fdatasync", &machine, &|| {}) >= 3);
    });
}

#[test]
fn a_guest_that_its_second_launcher_let_go_is_no_guest_that_never_ran() {
    each(|world| {
        let machine = world.machine("serial: Socket");
        // The first record is that QEMU was started.
        let series = Series::new(world, &machine, &|| {});
        series.traced(&["--trace=fdatasync", "--inject=fdatasync:signal=SIGKILL:when=1"]);
        assert!(world.journal().iter().all(|record| record != "running"), "{:?}", world.journal());
        let mut second = world.run(&machine);
        second.tells("this launcher takes it over").tells(" runs (");
        let mut guest = Serial::of(world);
        second.signal(Signal::SIGKILL);
        second.ended();
        guest.type_in("?").says("HERE");
        let recovered = world.done(&["recover", &world.name]).with(1);
        assert!(recovered.err.contains("recover --adopt"), "{recovered:?}");
        guest.type_in("?").says("HERE").type_in("q");
        world.guest_has_ended();
        world.done(&["recover", &world.name]).with(0);
    });
}

#[test]
fn a_launcher_killed_at_any_write_is_recovered_from() {
    each(|world| {
        // What was just started is not in the journal at one of these.
        let machine = world.machine(&format!("{ALONE}, tpm: V2"));
        assert!(die_at_every(world, "write", &machine, &|| {}) >= 5);
        // The greeting's answer with all questions, and `cont`.
        assert!(die_at_every(world, "sendto", &machine, &|| {}) >= 2);
    });
}

#[test]
#[ignore = "needs root and a pool of huge pages"]
fn as_root_a_launcher_killed_at_any_record_gives_the_host_back() {
    each_as_root(|world| {
        let disk = world.file("disk.raw", vec![0; 1 << 20]);
        std::fs::set_permissions(&disk, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let _alone = super::huge_pages::alone();
        let pages = if super::huge_pages::are_there() { "Huge(\"2 MiB\")" } else { "Normal" };
        let memory = format!("memory: (size: \"16 MiB\", pages: {pages})");
        let machine = world.machine(&format!(
            "{ALONE}, tpm: V2, {memory}, disks: [(file: \"disk.raw\", cache: Writeback, aio: Threads, boot: 0)]"
        ));
        let host = || {
            let owner = std::fs::metadata(&disk).unwrap();
            (owner.uid(), owner.gid(), owner.mode(), super::huge_pages::pool())
        };
        let before = host();
        let deaths = die_at_every(world, "fdatasync", &machine, &|| assert_eq!(host(), before));
        assert!(deaths >= 6, "{deaths}");
    });
}

#[test]
fn hooks_of_the_way_there_are_answered_wherever_the_launcher_dies() {
    each(|world| {
        let machine = world.machine(&format!("{ALONE}, {}", hooks(world, &[])));
        let deaths = die_at_every(world, "fdatasync", &machine, &|| {
            let noted = notes(world);
            let was_at = |stage: &str| noted.iter().any(|note| note.starts_with(stage));
            for (there, back) in [("before", "restored"), ("ready", "ended")] {
                assert!(was_at(back) || !was_at(there), "{there} was not answered: {noted:?}");
            }
            world.file("notes", "");
        });
        // Two stages there, QEMU, the guest, two stages back.
        assert!(deaths >= 6, "{deaths}");
    });
}

#[test]
fn after_a_death_at_any_write_the_next_start_needs_no_recover() {
    each(|world| {
        let machine = world.machine(&format!("{ALONE}, tpm: V2"));
        let series = Series::new(world, &machine, &|| {});
        for when in 1..=series.calls("write") {
            let killed = series.traced(&["--trace=write", &format!("--inject=write:signal=SIGKILL:when={when}")]);
            let journal = world.journal();
            let next = series.start(&[], &["run", machine.to_str().unwrap()]);
            assert_eq!(next.code, Some(0), "killed ({:?}) at write {when}, with {journal:?}: {next:?}", killed.code);
            assert_eq!(world.processes(), [], "{when}");
            world.is_clean();
        }
    });
}
