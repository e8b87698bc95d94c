//! A place of its own for each test: a folder with the machine file and the guest, the program's own folders in it, and
//! a look at what is left in the end.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use tempfile::TempDir;

use super::guest;
use super::launcher::{Ended, Launcher, Output, wait_for};

/// Whom root starts the program as: `nobody` everywhere.
pub const NOBODY: u32 = 65534;

/// Where a test takes place.
pub struct World {
    folder: TempDir,
    qemu: PathBuf,
    /// The machine's name.
    pub name: String,
    root: bool,
    outputs: Mutex<Vec<Arc<Output>>>,
}

/// Does a test with each QEMU that there is, without privileges.
pub fn each(test: impl Fn(&World)) {
    with_each(&qemus(), false, test);
}

/// Does a test as root, with each QEMU. Such a test is ignored unless it is asked for.
pub fn each_as_root(test: impl Fn(&World)) {
    assert!(Uid::effective().is_root(), "this test changes the host, for which it must be root");
    with_each(&qemus(), true, test);
}

/// Does a test with each of these QEMUs, as root or without privileges.
pub fn with_each(qemus: &[PathBuf], root: bool, test: impl Fn(&World)) {
    for qemu in qemus {
        eprintln!("with {}", qemu.display());
        let world = World::new(qemu.clone(), root);
        test(&world);
        world.is_clean();
    }
}

/// Does a test as another user than root, which root must start: it makes files of several users.
pub fn each_of_nobody(test: impl Fn(&World)) {
    assert!(Uid::effective().is_root(), "this test changes owners, for which it must be root");
    each(test);
}

/// The QEMUs that tests are done with.
pub fn qemus() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").expect("there is a PATH");
    let own = std::env::split_paths(&path).map(|p| p.join("qemu-system-x86_64")).find(|p| p.is_file());
    let mut all = vec![own.expect("qemu-system-x86_64 is installed")];
    if let Some(newer) = std::env::var_os("VFIO_RUN_QEMU10").map(PathBuf::from) {
        let enters = !Uid::effective().is_root() || others_may_enter(&newer);
        assert!(enters, "user {NOBODY} can't enter a folder of VFIO_RUN_QEMU10={}", newer.display());
        all.push(newer);
    }
    all
}

/// Whether every folder on the way to a file is open to all.
fn others_may_enter(path: &Path) -> bool {
    let open = |p: &Path| std::fs::metadata(p).is_ok_and(|m| m.permissions().mode() & 0o001 != 0);
    path.ancestors().all(open)
}

/// What the tests of this process share: the program, where it lies in a closed folder, and what it knows about QEMU.
fn shared() -> &'static Path {
    static SHARED: OnceLock<PathBuf> = OnceLock::new();
    extern "C" fn remove() {
        if let Some(folder) = SHARED.get() {
            drop(std::fs::remove_dir_all(folder));
        }
    }
    SHARED.get_or_init(|| {
        let folder = tempfile::Builder::new().prefix("vfio-run-tests-").tempdir().unwrap().keep();
        // SAFETY: the function uses nothing that is gone when the process ends.
        unsafe { libc::atexit(remove) };
        std::fs::create_dir(folder.join("cache")).unwrap();
        open(&folder, 0o755);
        open(&folder.join("cache"), 0o700);
        own(&folder.join("cache"));
        folder
    })
}

fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| startable(Path::new(env!("CARGO_BIN_EXE_vfio-run"))))
}

/// A program where the user that tests run as may start it: a copy, if it lies in a closed folder.
pub fn startable(built: &Path) -> PathBuf {
    if others_may_enter(built) {
        return built.to_owned();
    }
    // By a child: a file that this process has open for writing is, for a moment, open in what another thread forks, and
    // can't be executed then.
    let copy = shared().join(built.file_name().unwrap());
    let status = Command::new("install").args(["-m", "755"]).arg(built).arg(&copy).status().unwrap();
    assert!(status.success());
    copy
}

fn open(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Gives a file to the user that the program runs as.
pub fn own(path: &Path) {
    if Uid::effective().is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

/// Gives a file to the user that the program runs as in this world.
pub fn own_unless_root(world: &World, path: &Path) {
    if !world.root {
        own(path);
    }
}

impl World {
    fn new(qemu: PathBuf, root: bool) -> Self {
        let folder = tempfile::Builder::new().prefix("vfio-run-test-").tempdir().unwrap();
        let path = folder.path();
        open(path, 0o755);
        for part in ["run", "state"] {
            std::fs::create_dir(path.join(part)).unwrap();
            open(&path.join(part), 0o700);
            own(&path.join(part));
        }
        open(&guest::write(path), 0o644);
        own(path);
        let suffix = path.file_name().unwrap().to_str().unwrap().rsplit('-').next().unwrap().to_lowercase();
        let name = format!("test-{suffix}");
        Self { qemu, name, root, outputs: Mutex::default(), folder }
    }

    /// The QEMU that the test is done with.
    pub fn qemu(&self) -> &Path {
        &self.qemu
    }

    /// A file in the test's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a file that the program may read and write.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        if !self.root {
            own(&path);
        }
        path
    }

    /// Whether the program runs as root.
    pub fn is_root(&self) -> bool {
        self.root
    }

    /// Where the program keeps what belongs to the run.
    pub fn run_dir(&self) -> PathBuf {
        match self.root {
            true => Path::new("/run/vfio-run").join(&self.name),
            false => self.path("run/vfio-run").join(&self.name),
        }
    }

    /// The folder of the sockets that QEMU makes itself.
    pub fn display_dir(&self) -> PathBuf {
        self.run_dir().parent().unwrap().with_file_name("vfio-run-display").join(&self.name)
    }

    /// Where the program keeps what outlives a run.
    pub fn state_dir(&self) -> PathBuf {
        match self.root {
            true => Path::new("/var/lib/vfio-run").join(&self.name),
            false => self.path("state/vfio-run").join(&self.name),
        }
    }

    /// The machine's log.
    pub fn log(&self) -> String {
        let mut found = String::new();
        let folder = match self.root {
            true => PathBuf::from("/var/log/vfio-run"),
            false => self.path("state"),
        };
        let mut folders = vec![folder];
        let wanted = format!("{}.log", self.name);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.file_type().is_ok_and(|t| t.is_dir()) {
                    true => folders.push(entry.path()),
                    false if entry.file_name() == *wanted => {
                        found = std::fs::read_to_string(entry.path()).unwrap_or_default();
                    }
                    false => {}
                }
            }
        }
        found
    }

    /// Writes the machine file: what is given, and what a test machine needs besides.
    pub fn machine(&self, fields: &str) -> PathBuf {
        let mut text = format!("(\n    name: \"{}\",\n    {fields},\n", self.name);
        let qemu = format!("\"{}\"", self.qemu.display());
        let defaults = [
            ("guest", "Other"),
            ("qemu", &qemu),
            ("accelerator", "Tcg"),
            ("memory", "(size: \"32 MiB\")"),
            ("kernel", "(image: \"guest\")"),
            ("networks", "[]"),
            ("serial", "Socket"),
            ("cpu", "(vcpus: 1)"),
        ];
        for (key, value) in defaults {
            let given = fields.match_indices(key).any(|(at, _)| {
                fields[at + key.len()..].starts_with(':')
                    && !fields[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
            });
            if !given {
                text.push_str(&format!("    {key}: {value},\n"));
            }
        }
        text.push_str(")\n");
        self.file("machine.ron", text.replace("kernel: None,\n", ""))
    }

    /// The program with these arguments, in the world's environment, with the signals of a shell: who starts the tests in the
    /// background, or by `nohup`, has some of them ignored, and a program inherits that.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.wrapped(&["/usr/bin/env", "--default-signal=HUP,INT,QUIT"], arguments)
    }

    /// The same, started by another program (`strace …`).
    pub fn wrapped(&self, wrapper: &[&str], arguments: &[&str]) -> Command {
        let mut command = match wrapper.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program());
                command
            }
            None => Command::new(program()),
        };
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        self.environment(&mut command);
        command
    }

    /// Gives a command the world's environment and user.
    pub fn environment(&self, command: &mut Command) {
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("VFIO_RUN_TEST", self.folder.path());
        if self.root {
            return;
        }
        command.env("HOME", self.folder.path()).env("XDG_RUNTIME_DIR", self.path("run"));
        command.env("XDG_STATE_HOME", self.path("state")).env("XDG_CACHE_HOME", shared().join("cache"));
        if Uid::effective().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
    }

    /// Starts a command of [`World::command`].
    pub fn start(&self, command: Command) -> Launcher {
        let launcher = Launcher::start(command);
        self.outputs.lock().unwrap().push(launcher.output());
        launcher
    }

    /// Starts the machine file.
    pub fn run(&self, machine: &Path) -> Launcher {
        self.start(self.command(&["run", machine.to_str().unwrap()]))
    }

    /// Does one command of the program to its end.
    pub fn done(&self, arguments: &[&str]) -> Ended {
        self.start(self.command(arguments)).ended()
    }

    /// The records of the journal.
    pub fn journal(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.run_dir().join("journal")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The process id under which the journal has a process.
    pub fn pid(&self, name: &str) -> i32 {
        let records = self.journal();
        let started = records.iter().rev().map(|r| &r["started"]).find(|s| s["name"] == name);
        let started = started.unwrap_or_else(|| panic!("{name} is not in the journal {records:?}"));
        i32::try_from(started["pid"].as_i64().unwrap()).unwrap()
    }

    /// Everything that runs and was started here: what names the folder in its environment or arguments.
    pub fn processes(&self) -> Vec<(i32, String)> {
        let (folder, name) = (self.folder.path().to_str().unwrap(), &self.name);
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
            let read = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
            let (arguments, environment) = (read("cmdline"), read("environ"));
            let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
            let environment = String::from_utf8_lossy(&environment);
            let names_it = |text: &str| text.contains(folder) || text.contains(&format!("/{name}/"));
            if pid as u32 != std::process::id() && (names_it(&arguments) || names_it(&environment)) {
                found.push((pid, arguments));
            }
        }
        found
    }

    /// Waits until a guest without launcher has ended, to the last file that QEMU had open.
    pub fn guest_has_ended(&self) {
        wait_for("the guest's end", || self.processes().is_empty().then_some(()));
        wait_for("QEMU's end", || {
            let status = self.done(&["status", "--json", &self.name]).with(0).json();
            (status["state"] == "left-behind").then_some(())
        });
    }

    /// Fails unless nothing is left of a run but what is meant to be kept.
    pub fn is_clean(&self) {
        assert_eq!(self.processes(), [], "processes are left");
        for folder in [self.run_dir(), self.display_dir()] {
            assert!(!folder.exists(), "{} is left", folder.display());
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for (pid, _) in self.processes() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        if std::thread::panicking() {
            for output in self.outputs.lock().unwrap_or_else(|e| e.into_inner()).iter() {
                eprintln!("---- {output}");
            }
            let log = self.log();
            let log: Vec<&str> = log.lines().map(|l| l.get(..2000).unwrap_or(l)).collect();
            eprintln!("---- the end of the log\n{}", log[log.len().saturating_sub(20)..].join("\n"));
            eprintln!("---- the journal");
            eprintln!("{}", std::fs::read_to_string(self.run_dir().join("journal")).unwrap_or_default());
        }
        if self.run_dir().exists() {
            // Only after a failure; `recover` is what is tested, so this is no more than likely to help.
            drop(self.command(&["recover", &self.name]).stderr(Stdio::null()).status());
        }
        if self.root {
            for folder in [self.run_dir(), self.display_dir(), self.state_dir()] {
                drop(std::fs::remove_dir_all(&folder));
                // This removes it only if no other world has something in it.
                drop(std::fs::remove_dir(folder.parent().unwrap()));
            }
            // Older logs too, and those of a test's second machine, whose name begins like the world's.
            for entry in std::fs::read_dir("/var/log/vfio-run").into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().starts_with(&self.name) {
                    drop(std::fs::remove_file(entry.path()));
                }
            }
        }
    }
}
