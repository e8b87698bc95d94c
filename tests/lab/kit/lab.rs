//! A running lab host, and what a test does with it.

use std::cell::RefCell;
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::agent::Agent;
use super::answers::Answers;
use super::argv::{self, Files, Memory, Watch};
use super::boot::boot;
use super::cache::Entry;
use super::folder::Folder;
use super::host::{Device, Host, Init};
use super::images::{Release, initramfs, payload, system, tables};
use super::job::{Job, Output};
use super::l0::{L0, Lines};
use super::picture::Picture;
use super::slots::{self, Slot};
use super::snapshot::Snapshot;
use super::{keys, template, tools, variants};

/// How long a command may take when the test does not say.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// For bash: loads KVM and keeps it in use.
pub(super) const LOAD_KVM: &str = "modprobe kvm_amd && udevadm settle && /usr/local/lib/lab/kvm-keeper";

/// For bash: asks again and again until `condition` holds, and does `between` after each look that failed. The pause is a
/// look at a pipe to which nobody writes: a process for it would cost an emulated host a tenth of a second.
pub fn until(condition: &str, between: &str) -> String {
    format!("exec 9<> <(:); until ( {condition} ); do {between}; read -r -t 0.3 -u 9 || :; done")
}

/// A running lab host. When it is dropped without [`Lab::finish`], its folder is kept, with evidence.
pub struct Lab {
    /// What it was made from.
    pub host: Host,
    running: RefCell<Option<Running>>,
    files: Files,
    folder: RefCell<Folder>,
    test: String,
    finished: bool,
    /// Of a clone that was not booted since.
    answers: RefCell<Option<Answers>>,
    _entries: Vec<Entry>,
    _slot: Slot,
}

/// What there is while the power is on.
pub(super) struct Running {
    pub l0: L0,
    pub agent: Agent,
}

impl Lab {
    /// Begins the description of a host: `Lab::host("debian13")`.
    ///
    /// # Panics
    /// When there is no such release.
    pub fn host(release: &str) -> Host {
        Host::new(release.parse().unwrap_or_else(|error| panic!("{error:#}")))
    }

    /// The description of a named variant, such as `Lab::variant("one-gpu", "debian13")`; `scripts/lab list` has them.
    ///
    /// # Panics
    /// When there is no such variant or release.
    pub fn variant(name: &str, release: &str) -> Host {
        variants::find(name, release).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Runs a command as root and waits for its end, for [`PATIENCE`] at most.
    ///
    /// # Errors
    /// When the host does not answer in time; a command that fails is no error here (see [`Output::ok`]).
    pub fn run(&self, command: &str) -> Result<Output> {
        self.run_for(command, PATIENCE)
    }

    /// Like [`Lab::run`], with a deadline of its own.
    pub fn run_for(&self, command: &str, patience: Duration) -> Result<Output> {
        self.start(command)?.wait(patience)
    }

    /// Runs a command as the plain user `tester`, in a session of their own.
    pub fn run_as_user(&self, command: &str) -> Result<Output> {
        let quoted = command.replace('\'', r"'\''");
        self.run(&format!("runuser -l tester -c '{quoted}'"))
    }

    /// Runs a command that must succeed and gives what it printed.
    pub fn sh(&self, command: &str) -> Result<String> {
        self.run(command)?.ok()
    }

    /// Starts a command and does not wait for it.
    pub fn start(&self, command: &str) -> Result<Job<'_>> {
        let id = self.on(|running| running.agent.start(command))?;
        Ok(Job::new(self, id, command))
    }

    /// Loads KVM and keeps it in use from then on, as every template does: see `l1/kvm-keeper.c`. What QEMU can do is known
    /// then, if an earlier test has asked it.
    pub fn load_kvm(&self) -> Result<()> {
        match &*self.answers.borrow() {
            Some(answers) => answers.give_to(self),
            None => self.sh(LOAD_KVM).map(drop),
        }
    }

    /// Waits until `command` succeeds, asking again and again.
    ///
    /// # Errors
    /// When it does not within `patience`; with what it said last.
    pub fn wait_until(&self, command: &str, patience: Duration) -> Result<()> {
        // Inside the host, so that the many attempts are one exchange. Each takes processes, which cost an emulated host
        // much of what it has.
        let mut output = self.start(&until(command, ":"))?;
        match output.wait_quietly(patience)? {
            Some(output) => output.ok().map(drop),
            None => {
                let last = self.run(command)?;
                bail!("`{command}` did not come true within {} s: {last}", patience.as_secs())
            }
        }
    }

    /// Takes a picture of the first screen, and keeps it under `target/lab-artefacts/TEST/RELEASE-NAME.png`.
    pub fn screenshot(&self, name: &str) -> Result<Picture> {
        let screen = if self.host.gpus.is_empty() { None } else { Some("gpu") };
        self.screenshot_of(screen, name)
    }

    /// Takes pictures of the first screen until one is as it should be, and keeps that one (or the last).
    ///
    /// # Errors
    /// When none is within `patience`; the message names the last picture's file.
    pub fn wait_for_picture(
        &self,
        name: &str,
        patience: Duration,
        is_right: impl Fn(&Picture) -> bool,
    ) -> Result<Picture> {
        let deadline = Instant::now() + patience;
        loop {
            let picture = self.screenshot(name)?;
            if is_right(&picture) {
                return Ok(picture);
            }
            if Instant::now() > deadline {
                bail!("the screen never became as expected; it is {}", picture.file.display());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// What the first screen shows, as a pixmap that is not kept; quicker than a picture.
    pub fn screen(&self) -> Result<Vec<u8>> {
        let device = if self.host.gpus.is_empty() { None } else { Some("gpu") };
        self.dump(device, "ppm", &self.path().join("screen.ppm"))?;
        Ok(fs::read(self.path().join("screen.ppm"))?)
    }

    /// Whether a screen's pixmap is the tiny guest's picture.
    pub fn is_tiny_guest(&self, screen: &[u8]) -> Result<bool> {
        Ok(Picture::from_ppm(screen, PathBuf::new())?.is_tiny_guest())
    }

    /// Takes a picture of the second GPU's screen.
    pub fn second_screenshot(&self, name: &str) -> Result<Picture> {
        self.screenshot_of(Some("second"), name)
    }

    fn screenshot_of(&self, device: Option<&str>, name: &str) -> Result<Picture> {
        let folder = artefacts(&self.test);
        fs::create_dir_all(&folder)?;
        let png = folder.join(format!("{}-{name}.png", self.host.release.name()));
        let ppm = self.path().join("screen.ppm");
        for (file, format) in [(&png, "png"), (&ppm, "ppm")] {
            self.dump(device, format, file)?;
        }
        Picture::from_ppm(&fs::read(&ppm)?, png)
    }

    fn dump(&self, device: Option<&str>, format: &str, file: &Path) -> Result<()> {
        let mut arguments = json!({ "filename": file, "format": format });
        if let Some(device) = device {
            arguments["device"] = json!(device);
        }
        self.on(|running| running.l0.qmp.execute("screendump", arguments)).map(drop)
    }

    /// Presses keys on the host's keyboard: `"ctrl+alt+f2"`, `"l s ret"`; names as QEMU's `qcode`s.
    pub fn press_keys(&self, chords: &str) -> Result<()> {
        self.on(|running| keys::press(&mut running.l0.qmp, chords))
    }

    /// Notes everything that a handover may change.
    pub fn snapshot_of_host(&self) -> Result<Snapshot> {
        Ok(Snapshot::read(&self.sh("/usr/local/lib/lab/host-state")?))
    }

    /// Sends a signal to the process or processes with this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn kill(&self, name: &str, signal: &str) -> Result<()> {
        self.sh(&format!("pkill -{signal} -x {name}")).map(drop)
    }

    /// Cuts the host's power. What was not yet written to its disk is lost.
    pub fn cut_power(&self) -> Result<()> {
        let mut running = self.running.borrow_mut().take().context("the host is off already")?;
        running.l0.kill()
    }

    /// Boots the host again from its disk: at once after [`Lab::cut_power`] or [`Lab::power_off`], else after an orderly
    /// shutdown.
    pub fn restart(&self) -> Result<()> {
        if self.is_on() {
            self.power_off()?;
        }
        self.boot(&Watch::default()).map(drop)
    }

    /// Boots from the start; gives the console, if somebody watches.
    fn boot(&self, watch: &Watch) -> Result<Option<UnixStream>> {
        let switch_on = || {
            let (l0, lines) = self.boot_qemu(&Memory::Plain, watch)?;
            self.running(l0, lines)
        };
        let log = self.path().join("console.log");
        let (running, console) =
            boot(self.host.init, &log, switch_on, |(running, _)| (&running.l0, &mut running.agent))?;
        *self.running.borrow_mut() = Some(running);
        *self.answers.borrow_mut() = None;
        self.ready()?;
        Ok(console)
    }

    /// Shuts the host down in good order and waits until it has switched itself off.
    pub fn power_off(&self) -> Result<()> {
        let command = if self.host.init == Init::Systemd { "systemctl poweroff" } else { "kill -TERM 1" };
        let mut running = self.running.borrow_mut().take().context("the host is off already")?;
        running.agent.start(command)?;
        running.l0.wait(Instant::now() + PATIENCE)
    }

    /// Whether the power is on.
    pub fn is_on(&self) -> bool {
        self.running.borrow().is_some()
    }

    /// Writes a file inside the host.
    pub fn write(&self, path: &str, contents: &str) -> Result<()> {
        let end = "the end of this file of the lab";
        self.sh(&format!("mkdir -p \"$(dirname '{path}')\" && cat >'{path}' <<'{end}'\n{contents}\n{end}")).map(drop)
    }

    /// Writes a machine file for the program, readable by all, and gives its path inside the host.
    pub fn install_machine(&self, name: &str, ron: &str) -> Result<String> {
        let path = format!("/home/tester/machines/{name}.ron");
        self.write(&path, ron)?;
        Ok(path)
    }

    /// The folder of this run on the test machine.
    pub fn path(&self) -> PathBuf {
        self.folder.borrow().path().to_owned()
    }

    /// Process id of the emulator.
    pub fn emulator(&self) -> Result<u32> {
        self.on(|running| Ok(running.l0.pid()))
    }

    /// Ends the lab after a good test: looks whether the host's kernel complained, and leaves nothing behind.
    pub fn finish(mut self) -> Result<()> {
        if self.is_on() {
            let complaints = self.run("dmesg | grep -E 'BUG:|Oops|general protection|kernel NULL'")?;
            if complaints.status == 0 {
                bail!("the lab host's kernel complained:\n{}", complaints.stdout);
            }
            if let Some(answers) = &*self.answers.borrow() {
                answers.keep_from(&self)?;
            }
            let worked = self.on(|running| running.l0.worked())?.as_secs_f32();
            eprintln!("lab: {} took {worked:.0} s of processor time", self.test);
        }
        self.finished = true;
        Ok(())
    }

    /// Does something with the running host.
    pub(super) fn on<T>(&self, what: impl FnOnce(&mut Running) -> Result<T>) -> Result<T> {
        let mut running = self.running.borrow_mut();
        let running = running.as_mut().context("the host is off")?;
        what(running).map_err(|error| match running.l0.obituary() {
            Some(obituary) => error.context(obituary),
            None => error,
        })
    }

    fn boot_qemu(&self, memory: &Memory, watch: &Watch) -> Result<(L0, Lines)> {
        let args = argv::arguments(&self.host, &self.files, memory, watch);
        let path = self.path();
        fs::write(path.join("l0-command"), format!("{} \\\n  {}\n", tools::qemu()?.display(), args.join(" \\\n  ")))?;
        // An earlier boot's console is kept.
        let console = path.join("console.log");
        if console.exists() {
            fs::rename(&console, path.join("console-before.log"))?;
        }
        L0::start(&args, &path.join("qemu.log"), watch.console)
    }

    fn running(&self, l0: L0, lines: Lines) -> Result<(Running, Option<UnixStream>)> {
        let transcript = File::options().create(true).append(true).open(self.path().join("transcript.log"))?;
        Ok((Running { l0, agent: Agent::new(lines.agent, transcript) }, lines.console))
    }

    /// What remains to be done after a boot or a restore.
    fn ready(&self) -> Result<()> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
        // A clone's clock has the time at which its template was made, and it has not seen this payload yet.
        let mount = match self.host.init {
            Init::Systemd => "systemctl start lab.mount",
            Init::Plain => "mountpoint -q /lab || mount -o ro /dev/vdb /lab",
        };
        self.sh(&format!("date -s @{now} >/dev/null; {mount}")).map(drop)
    }

    fn gather_evidence(&self) {
        if self.is_on() {
            if let Ok(picture) = self.screenshot("at-the-end") {
                drop(fs::copy(picture.file, self.path().join("at-the-end.png")));
            }
            let look =
                "journalctl --no-pager -b 2>/dev/null || dmesg; echo; ps -eLo pid,tid,ppid,stat,psr,wchan:20,args";
            if let Ok(output) = self.run_for(look, Duration::from_secs(20)) {
                drop(fs::write(self.path().join("journal.log"), output.stdout));
            }
        }
        let spec = serde_json::to_string_pretty(&self.host).unwrap_or_default();
        drop(fs::write(self.path().join("host.json"), spec));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        self.gather_evidence();
        self.folder.borrow_mut().keep();
        let path = self.path();
        let shots = artefacts(&self.test);
        let text = format!(
            "lab: kept {0}\n  console.log, journal.log, transcript.log, qemu.log, l0-command; screenshots in {1}\n  \
             the same host by hand:  ./scripts/lab shell {0}/host.json\n",
            path.display(),
            shots.display()
        );
        drop(fs::write(path.join("README"), &text));
        eprint!("{text}");
    }
}

impl Host {
    /// Starts the host: a clone of its template if there can be one, else a full boot. Waits for a free slot first.
    pub fn start(self) -> Result<Lab> {
        Ok(self.start_watched(&Watch::default())?.0)
    }

    /// Boots the host once for its template, if it can have one that is not there yet.
    pub fn make_template(self) -> Result<()> {
        if self.has_template() {
            let _slot = slots::take()?;
            let system = system::get(self.release)?;
            let parts = Parts::get(&self, &system)?;
            self.template(&parts.files(&system, Path::new("")))?;
        }
        Ok(())
    }

    /// Like [`Host::start`], for somebody who looks at it.
    pub fn start_watched(self, watch: &Watch) -> Result<(Lab, Option<UnixStream>)> {
        let slot = slots::take()?;
        let system = system::get(self.release)?;
        let parts = Parts::get(&self, &system)?;
        let folder = Folder::new()?;
        let mut files = parts.files(&system, folder.path());
        let template = if self.has_template() { Some(self.template(&files)?) } else { None };
        template::prepare(&self, folder.path())?;
        let below = match &template {
            Some(template) => {
                let variables = template.file("uefi-vars");
                if variables.exists() {
                    fs::copy(variables, folder.path().join("uefi-vars"))?;
                }
                template.file("disk.qcow2")
            }
            None => files.disk.clone(),
        };
        files.disk = folder.path().join("disk.qcow2");
        template::overlay(&files.disk, &below)?;
        let lab = Lab {
            host: self,
            running: RefCell::new(None),
            files,
            folder: RefCell::new(folder),
            test: test_name(),
            finished: false,
            answers: RefCell::new(template.as_ref().map(|template| Answers::of(template, &parts.payload))),
            _entries: parts.into_entries(system),
            _slot: slot,
        };
        let console = lab.first_boot(template.as_ref(), watch)?;
        Ok((lab, console))
    }

    fn template(&self, files: &Files) -> Result<Entry> {
        let host = self.in_template();
        let name = variants::name_of(&host);
        template::get(&host, &name, files).with_context(|| format!("no template for `{name}`"))
    }
}

/// What a host boots from, beside its system.
struct Parts {
    initramfs: Entry,
    payload: Entry,
    table: Option<Entry>,
}

impl Parts {
    fn get(host: &Host, system: &Entry) -> Result<Self> {
        Ok(Self {
            initramfs: initramfs::get(host.release, system)?,
            payload: payload::get(host.release, system)?,
            table: if host.frequencies { Some(tables::cpufreq()?) } else { None },
        })
    }

    fn files(&self, system: &Entry, folder: &Path) -> Files {
        Files {
            kernel: system.file("vmlinuz"),
            initramfs: self.initramfs.file("initramfs"),
            disk: system.file("root.raw"),
            payload: self.payload.file("payload.raw"),
            table: self.table.as_ref().map(|entry| entry.file("ssdt.aml")),
            folder: folder.to_owned(),
        }
    }

    /// All of them, to be held while the host runs.
    fn into_entries(self, system: Entry) -> Vec<Entry> {
        [Some(system), Some(self.initramfs), Some(self.payload), self.table].into_iter().flatten().collect()
    }
}

impl Lab {
    fn first_boot(&self, template: Option<&Entry>, watch: &Watch) -> Result<Option<UnixStream>> {
        let Some(template) = template else { return self.boot(watch) };
        let memory = Memory::Clone(template.file(""));
        let (mut l0, lines) = self.boot_qemu(&memory, watch)?;
        template::restore(&mut l0.qmp, template)?;
        let (running, console) = self.running(l0, lines)?;
        *self.running.borrow_mut() = Some(running);
        self.ready()?;
        for device in &self.host.devices {
            match device {
                Device::Nvme => self.plug_nvme()?,
                Device::Usb { keyboard, mouse, disk } => self.plug_usb(*keyboard, *mouse, *disk)?,
                _ => {}
            }
        }
        Ok(console)
    }
}

/// Debian releases by name, for tests that run on each.
pub fn releases() -> [&'static str; 2] {
    Release::ALL.map(Release::name)
}

/// The test that runs in this thread: the test runner names threads after tests.
fn test_name() -> String {
    let thread = std::thread::current();
    thread.name().unwrap_or("lab").replace("::", "-")
}

/// Where a test's pictures are kept.
fn artefacts(test: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap_or(Path::new("."));
    target.join("lab-artefacts").join(test)
}
