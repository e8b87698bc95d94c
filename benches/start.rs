//! What the launcher costs: how much later the guest runs than with a bare QEMU of the same arguments and the same helpers,
//! what it keeps in memory, and how often it wakes while the guest idles. Rounds of both kinds alternate, so that other work
//! of the machine affects both. First the demo's machine, then one with all that a desk needs.
//!
//! `scripts/bench` makes the guest and runs this; `ROUNDS` and `IDLE_SECONDS` in the environment change how long it takes.

use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use qapi::qmp;
use vfio_run::change::{Change, SharedFile};
use vfio_run::child::{Command, Session};
use vfio_run::host::Root;
use vfio_run::plan::{Account, Plan};
use vfio_run::qemu::Qmp;
use vfio_run::run::{contents, sockets};

/// A busy machine takes its time to boot an emulated guest.
const LIMIT: Duration = Duration::from_secs(300);

fn main() {
    put_run_in_memory();
    for machine in ["machines/demo.ron", "tests/machines/everything.ron"] {
        println!("{machine}:");
        measure(&Path::new(env!("CARGO_MANIFEST_DIR")).join(machine));
    }
}

/// The journal is in /run, which is in memory on a host that systemd or an init script has started. In a container it may be on
/// a disk, where each record costs what that needs to sync; so there this process gets a /run of its own.
fn put_run_in_memory() {
    use nix::mount::{MsFlags, mount};
    const TMPFS: i64 = nix::sys::statfs::TMPFS_MAGIC.0;
    let run = Path::new("/run");
    if !nix::unistd::geteuid().is_root() || nix::sys::statfs::statfs(run).unwrap().filesystem_type().0 == TMPFS {
        return;
    }
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("mounts of our own");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .expect("no mount leaves");
    mount(Some("run"), run, Some("tmpfs"), MsFlags::empty(), Some("mode=755")).expect("a /run in memory");
    println!("/run is on a disk here; the bench has one in memory, as hosts have");
}

fn measure(machine: &Path) {
    let program = Path::new(env!("CARGO_BIN_EXE_vfio-run"));
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|t| t.parse().ok()).unwrap_or(default);
    let folder = tempfile::tempdir().expect("a folder for the bench");
    let plan: Plan = {
        // The first plan asks QEMU what it can do; the rounds find that in the cache.
        let output =
            std::process::Command::new(program).args(["plan", "--json"]).arg(machine).output().expect("a plan");
        let said = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("no plan: {error}\n{said}"))
    };
    // The helpers' folders stay from it.
    launched_start(program, machine, folder.path());

    let (mut bare, mut launched) = (Vec::new(), Vec::new());
    for _ in 0..number("ROUNDS", 11) {
        bare.push(bare_start(&plan, folder.path()));
        launched.push(launched_start(program, machine, folder.path()));
    }
    let (bare, launched) = (median(&mut bare), median(&mut launched));
    let names: Vec<&str> = plan.helpers.iter().map(|helper| helper.name.as_str()).collect();
    println!("  start until `cont` was answered, medians; helpers: {}", names.join(", "));
    println!("    bare QEMU  {bare:8.1} ms");
    println!("    vfio-run   {launched:8.1} ms   {:.3} times, {:+.1} ms", launched / bare, launched - bare);

    let seconds = number("IDLE_SECONDS", 30);
    let idle = idle(program, machine, folder.path(), Duration::from_secs(seconds));
    println!("  the launcher while the guest idles for {seconds} s:");
    println!("    resident              {:6.2} MiB in {} threads", idle.resident_kib as f64 / 1024.0, idle.threads);
    println!("    voluntary switches    {:6}", idle.voluntary);
    println!("    involuntary switches  {:6}", idle.involuntary);
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// What a bare QEMU finds, and what is gone when this is dropped: folders for sockets, memory that is shared.
struct Prepared<'a> {
    plan: &'a Plan,
}

impl<'a> Prepared<'a> {
    fn new(plan: &'a Plan) -> Self {
        let account = |path: &Path| plan.account.as_ref().map_or(Ok(()), |a| chown(path, Some(a.uid), Some(a.gid)));
        for folder in [&plan.paths.run, &plan.paths.display] {
            std::fs::DirBuilder::new().recursive(true).mode(0o755).create(folder).unwrap();
        }
        account(&plan.paths.display).unwrap();
        let prepared = Self { plan };
        for SharedFile { path, size, .. } in prepared.shared() {
            std::fs::File::create(path).and_then(|file| file.set_len(*size)).unwrap();
            account(path).unwrap();
        }
        prepared
    }

    fn shared(&self) -> impl Iterator<Item = &'a SharedFile> {
        self.plan.changes.iter().filter_map(|planned| match &planned.change {
            Change::SharedFile(file) => Some(file),
            _ => None,
        })
    }
}

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        for folder in [&self.plan.paths.run, &self.plan.paths.display] {
            drop(std::fs::remove_dir_all(folder));
        }
        self.shared().for_each(|file| drop(std::fs::remove_file(&file.path)));
    }
}

/// Milliseconds from the first spawn until QEMU has answered `cont`, done as sparingly as it can be.
fn bare_start(plan: &Plan, folder: &Path) -> f64 {
    let _prepared = Prepared::new(plan);
    let contents = contents::make(&Root::new("/"), plan).unwrap();
    let made = sockets::make(plan, contents).unwrap();
    let log = std::fs::File::create(folder.join("bare.log")).unwrap();
    let command = |program: &Path, account: Option<&Account>| {
        let mut command = Command::new(program);
        command.session(Session::Own).stdout(Stdio::from(log.try_clone().unwrap()));
        command.stderr(Stdio::from(log.try_clone().unwrap()));
        if let Some(account) = account {
            command.user(account.uid, account.gid, &account.groups);
        }
        command
    };
    let mut commands = Vec::new();
    for (helper, inherits) in plan.helpers.iter().zip(made.helpers) {
        let mut own = command(Path::new(&helper.argv[0]), helper.runs_as(plan.account.as_ref()));
        own.args(&helper.argv[1..]);
        for (number, end) in inherits {
            own.fd(number, end);
        }
        commands.push(own);
    }
    let mut own = command(&plan.command.binary, plan.account.as_ref());
    own.args(plan.command.argv());
    for (number, end) in made.qemu {
        own.fd(number, end);
    }
    commands.push(own);

    let start = Instant::now();
    // Its own ends of what they inherit go with each command, so that each helper sees QEMU's end.
    let children: Vec<Child> = commands.into_iter().map(|command| command.spawn().unwrap()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let elapsed = runtime.block_on(async {
        made.qmp.set_nonblocking(true).unwrap();
        let stream = tokio::net::UnixStream::from_std(made.qmp).unwrap();
        let mut qmp = Qmp::negotiate(stream, LIMIT).await.unwrap_or_else(|error| {
            panic!("{error:#}\n{}", std::fs::read_to_string(folder.join("bare.log")).unwrap_or_default())
        });
        qmp.execute(qmp::cont {}).await.unwrap();
        let elapsed = start.elapsed();
        drop(qmp.execute(qmp::quit {}).await);
        elapsed
    });
    for mut child in children {
        child.wait().unwrap();
    }
    elapsed.as_secs_f64() * 1e3
}

/// Milliseconds from spawn until the launcher tells systemd that the guest runs.
fn launched_start(program: &Path, machine: &Path, folder: &Path) -> f64 {
    let start = Instant::now();
    let launched = Launched::new(program, machine, folder);
    launched.wait_ready();
    start.elapsed().as_secs_f64() * 1e3
}

/// A launcher with its guest, ended when dropped, also by a panic.
struct Launched<'a> {
    program: &'a Path,
    machine: &'a Path,
    child: Child,
    notify: UnixDatagram,
    messages: PathBuf,
}

impl<'a> Launched<'a> {
    fn new(program: &'a Path, machine: &'a Path, folder: &Path) -> Self {
        let socket = folder.join("notify");
        drop(std::fs::remove_file(&socket));
        let notify = UnixDatagram::bind(&socket).unwrap();
        notify.set_read_timeout(Some(LIMIT)).unwrap();
        let messages = folder.join("messages");
        let child = std::process::Command::new(program)
            .arg("-q")
            .arg(machine)
            .env("NOTIFY_SOCKET", &socket)
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(folder.join("console")).unwrap())
            // Each round is ended by force, of which the launcher complains; shown when a round fails.
            .stderr(std::fs::File::create(&messages).unwrap())
            .spawn()
            .unwrap();
        Self { program, machine, child, notify, messages }
    }

    fn wait_ready(&self) {
        let mut text = [0u8; 4096];
        loop {
            let length = self.notify.recv(&mut text).unwrap_or_else(|error| {
                let said = std::fs::read_to_string(&self.messages).unwrap_or_default();
                panic!("the launcher did not say that the guest runs: {error}\n{said}")
            });
            if String::from_utf8_lossy(&text[..length]).lines().any(|line| line == "READY=1") {
                return;
            }
        }
    }
}

impl Drop for Launched<'_> {
    fn drop(&mut self) {
        let name = self.machine.file_stem().unwrap();
        let mut stop = std::process::Command::new(self.program);
        drop(stop.args(["-q", "stop", "--force"]).arg(name).status());
        drop(self.child.wait());
    }
}

struct Idle {
    resident_kib: u64,
    threads: u64,
    voluntary: u64,
    involuntary: u64,
}

fn idle(program: &Path, machine: &Path, folder: &Path, time: Duration) -> Idle {
    let launched = Launched::new(program, machine, folder);
    launched.wait_ready();
    let console = folder.join("console");
    let deadline = Instant::now() + LIMIT;
    while !std::fs::read_to_string(&console).unwrap().contains("guest# ") {
        assert!(Instant::now() < deadline, "the guest did not come up");
        std::thread::sleep(Duration::from_millis(100));
    }
    // The prompt is followed by a question to the terminal, and then by nothing.
    std::thread::sleep(Duration::from_secs(2));
    let status = PathBuf::from(format!("/proc/{}/status", launched.child.id()));
    let number = |key: &str| -> u64 {
        let text = std::fs::read_to_string(&status).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    let (voluntary, involuntary) = (number("voluntary_ctxt_switches:"), number("nonvoluntary_ctxt_switches:"));
    std::thread::sleep(time);
    Idle {
        resident_kib: number("VmRSS:"),
        threads: number("Threads:"),
        voluntary: number("voluntary_ctxt_switches:") - voluntary,
        involuntary: number("nonvoluntary_ctxt_switches:") - involuntary,
    }
}
