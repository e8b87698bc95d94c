//! The guest's sound on a user's own sound server: a tone that the guest plays is recorded where the server would play it.
//!
//! The servers are real, and have a sink that plays nowhere. They are root's to start, as a user who has neither to do
//! with root nor with QEMU. They and the program see that user in an `/etc/passwd` of their own.

use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::launcher::wait_for;
use super::talk::Serial;
use super::world::{NOBODY, World, with_each};

/// The name of the user whose server it is if root starts the machine.
const NAME: &str = "vfio-run-listener";
/// Samples a second, of one channel and 16 bits.
const RATE: usize = 48_000;
/// What the guest plays.
const HERTZ: f64 = 500.0;

/// The QEMUs of `scripts/qemu-sound`.
fn qemus() -> [PathBuf; 2] {
    let folder = std::env::var_os("VFIO_RUN_QEMU_SOUND").expect("VFIO_RUN_QEMU_SOUND, which scripts/qemu-sound prints");
    ["own", "qemu10"].map(|name| Path::new(&folder).join(name))
}

/// A user id for each server: they run side by side, each in its user's own folder below /run/user.
fn new_user() -> u32 {
    static LAST: AtomicU32 = AtomicU32::new(0);
    20_000 + std::process::id() % 4000 * 10 + LAST.fetch_add(1, Ordering::Relaxed) % 10
}

/// A user's sound server, which ends with this.
struct Server<'w> {
    world: &'w World,
    uid: u32,
    runtime: PathBuf,
    server: Option<Child>,
}

impl<'w> Server<'w> {
    fn new(world: &'w World) -> Self {
        let uid = if world.is_root() { new_user() } else { NOBODY };
        let runtime = match world.is_root() {
            true => PathBuf::from(format!("/run/user/{uid}")),
            false => world.path("run"),
        };
        for folder in [&runtime, &world.path("home")] {
            drop(std::fs::remove_dir_all(folder));
            std::fs::create_dir_all(folder).unwrap();
            chown(folder, Some(uid), Some(uid)).unwrap();
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).unwrap();
        }
        let accounts = std::fs::read_to_string("/etc/passwd").unwrap();
        let home = world.path("home");
        let account = format!("{NAME}:x:{uid}:{uid}::{}:/bin/sh\n", home.display());
        std::fs::write(world.path("passwd"), accounts + &account).unwrap();
        Self { world, uid, runtime, server: None }
    }

    fn pulseaudio(world: &'w World) -> Self {
        let mut server = Self::new(world);
        server.start(&[
            "pulseaudio",
            "-n",
            "--daemonize=no",
            "--exit-idle-time=-1",
            "--load=module-null-sink sink_name=null",
            "--load=module-native-protocol-unix",
        ]);
        server.when_ready()
    }

    /// PipeWire, which also stands in for PulseAudio.
    fn pipewire(world: &'w World) -> Self {
        let mut server = Self::new(world);
        let all = "pipewire & wireplumber & exec pipewire-pulse";
        server.start(&["dbus-run-session", "--", "sh", "-c", all]);
        wait_for("PipeWire's sink", || {
            let load = ["pactl", "load-module", "module-null-sink", "sink_name=null"];
            server.command(&load).output().unwrap().status.success().then_some(())
        });
        // As systemd makes it (`pipewire.socket`).
        let socket = server.runtime.join("pipewire-0");
        std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o666)).unwrap();
        server.when_ready()
    }

    fn when_ready(self) -> Self {
        wait_for("the server's sink", || {
            let sink = self.command(&["pactl", "get-default-sink"]).output().unwrap();
            (sink.stdout == b"null\n").then_some(())
        });
        self
    }

    /// A program of the user's.
    fn command(&self, arguments: &[&str]) -> Command {
        let own = self.accounts();
        let mut command = Command::new(&own[0]);
        let uid = self.uid.to_string();
        command.args(&own[1..]).args(["setpriv", "--reuid", &uid, "--regid", &uid, "--clear-groups"]).args(arguments);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.env("HOME", self.world.path("home")).env("XDG_RUNTIME_DIR", &self.runtime).stdin(Stdio::null());
        command
    }

    /// What starts another program, for which the user is an account.
    fn accounts(&self) -> Vec<String> {
        let bind = "mount --bind \"$0\" /etc/passwd && exec \"$@\"";
        let passwd = self.world.path("passwd");
        ["unshare", "-m", "sh", "-c", bind, passwd.to_str().unwrap()].map(str::to_owned).into()
    }

    fn start(&mut self, arguments: &[&str]) {
        let messages = std::fs::File::create(self.world.path("server.log")).unwrap();
        let mut command = self.command(arguments);
        command.stdout(messages.try_clone().unwrap()).stderr(messages).process_group(0);
        self.server = Some(command.spawn().unwrap());
    }

    fn stop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        let group = Pid::from_raw(server.id() as i32);
        let _ = killpg(group, Signal::SIGTERM);
        drop(server.wait());
        wait_for("the server's end", || killpg(group, Signal::SIGKILL).is_err().then_some(()));
    }

    /// The program with this user.
    fn launch(&self, arguments: &[&str]) -> super::launcher::Launcher {
        let wrapper = if self.world.is_root() { self.accounts() } else { Vec::new() };
        let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
        self.world.start(self.world.wrapped(&wrapper, arguments))
    }

    /// A machine that plays on the user's server.
    fn machine(&self, audio: &str) -> PathBuf {
        let user = if self.world.is_root() { format!("(user: \"{NAME}\")") } else { String::new() };
        self.world.machine(&format!("audio: {audio}{user}"))
    }

    /// Has a guest play, and listens.
    fn hears_the_guest(&self, audio: &str) {
        let machine = self.machine(audio);
        let launcher = self.launch(&["run", machine.to_str().unwrap()]);
        let mut guest = Serial::of(self.world);
        guest.says("HELLO");
        let qemu = std::fs::metadata(format!("/proc/{}", self.world.pid("qemu"))).unwrap().uid();
        match self.world.is_root() {
            true => assert!((61184..=65519).contains(&qemu), "{qemu}"),
            false => assert_eq!(qemu, NOBODY),
        }
        let listener = Listener::new(self);
        guest.type_in("t").says("PLAYING");
        let heard = wait_for("a second of sound", || listener.has_heard(RATE));
        let pitch = pitch(&heard);
        assert!((pitch - HERTZ).abs() < HERTZ / 50.0, "{audio}: {pitch} Hz");
        drop(listener);
        guest.type_in("q");
        launcher.ended().with(0);
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            eprintln!(
                "---- the server\n{}",
                std::fs::read_to_string(self.world.path("server.log")).unwrap_or_default()
            );
        }
        if self.world.is_root() {
            drop(std::fs::remove_dir_all(&self.runtime));
            // Not if others have something there.
            drop(std::fs::remove_dir("/run/user"));
        }
    }
}

/// Records what the sink plays.
struct Listener {
    child: Child,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Listener {
    fn new(server: &Server) -> Self {
        let rate = format!("--rate={RATE}");
        let arguments =
            ["parec", "-d", "null.monitor", "--latency-msec=20", "--format=s16le", &rate, "--channels=1", "--raw"];
        let mut child = server.command(&arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut from = child.stdout.take().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let into = heard.clone();
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(n) = from.read(&mut part)
                && n > 0
            {
                into.lock().unwrap().extend_from_slice(&part[..n]);
            }
        });
        Self { child, heard }
    }

    /// All samples, once so many of them are no silence.
    fn has_heard(&self, loud: usize) -> Option<Vec<i16>> {
        let heard = self.heard.lock().unwrap();
        let samples: Vec<i16> = heard.chunks_exact(2).map(|two| i16::from_le_bytes([two[0], two[1]])).collect();
        (samples.iter().filter(|sample| sample.unsigned_abs() > 1000).count() >= loud).then_some(samples)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The pitch of a tone by the time from one rise through zero to the next. A busy machine lets the sound stop now and then,
/// so the median is what counts.
fn pitch(samples: &[i16]) -> f64 {
    let rises: Vec<usize> = (1..samples.len()).filter(|at| samples[at - 1] < 0 && samples[*at] >= 0).collect();
    let mut periods: Vec<usize> = rises.windows(2).map(|pair| pair[1] - pair[0]).collect();
    periods.sort_unstable();
    RATE as f64 / periods[periods.len() / 2] as f64
}

#[test]
#[ignore = "needs root, PulseAudio and scripts/qemu-sound"]
fn a_tone_of_the_guest_is_heard_on_the_users_pulseaudio() {
    for root in [true, false] {
        with_each(&qemus(), root, |world| Server::pulseaudio(world).hears_the_guest("Pulse"));
    }
}

#[test]
#[ignore = "needs root, PipeWire and scripts/qemu-sound"]
fn a_tone_of_the_guest_is_heard_on_the_users_pipewire() {
    let [own, qemu10] = qemus();
    for root in [true, false] {
        with_each(std::slice::from_ref(&qemu10), root, |world| {
            let server = Server::pipewire(world);
            server.hears_the_guest("PipeWire");
            server.hears_the_guest("Auto");
        });
    }
    // The one before 8.1 has no driver for it, and reaches it as a PulseAudio.
    with_each(&[own], true, |world| {
        let server = Server::pipewire(world);
        server.hears_the_guest("Auto");
    });
}

#[test]
#[ignore = "needs root, PulseAudio, PipeWire and scripts/qemu-sound"]
fn a_server_that_lets_the_guest_not_in_is_told_in_its_own_words() {
    with_each(&qemus(), true, |world| {
        let mut server = Server::pulseaudio(world);
        let cookie = world.path("home/.config/pulse/cookie");
        let right = std::fs::read(&cookie).unwrap();
        std::fs::write(&cookie, vec![0; right.len()]).unwrap();
        let machine = server.machine("Pulse");
        let refused = |verb: &str| server.launch(&[verb, machine.to_str().unwrap()]).ended();
        let socket = format!("/run/user/{}/pulse/native", server.uid);
        let words = format!("PulseAudio: {socket}: it denies the access: it wants its cookie");
        for (verb, said) in [("check", refused("check").with(3).out), ("run", refused("run").with(3).err)] {
            assert!(said.contains(&words) && said.contains("`pactl info`"), "{verb}: {said}");
        }

        // `Auto` goes without sound, and says so.
        let machine = server.machine("Auto");
        let mut launcher = server.launch(&["run", machine.to_str().unwrap()]);
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        launcher.tells(&words);
        let arguments = std::fs::read(format!("/proc/{}/cmdline", world.pid("qemu"))).unwrap();
        assert!(String::from_utf8_lossy(&arguments).contains(r#""driver":"none""#));
        guest.type_in("q");
        launcher.ended().with(0);

        std::fs::write(&cookie, right).unwrap();
        server.stop();
        let machine = server.machine("Pulse");
        let ended = server.launch(&["run", machine.to_str().unwrap()]).ended().with(3);
        assert!(ended.err.contains(&socket), "{ended:?}");
    });
}

#[test]
#[ignore = "needs root, PipeWire and scripts/qemu-sound"]
fn a_pipewire_that_was_started_by_hand_lets_nobody_in_who_is_not_its_user() {
    let [_, qemu10] = qemus();
    with_each(&[qemu10], true, |world| {
        let server = Server::pipewire(world);
        let socket = server.runtime.join("pipewire-0");
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o755)).unwrap();
        let machine = server.machine("PipeWire");
        let ended = server.launch(&["run", machine.to_str().unwrap()]).ended().with(3);
        let words = format!("others than {NAME} may not connect to {} (mode 755)", socket.display());
        assert!(ended.err.contains(&words) && ended.err.contains("restart pipewire.socket"), "{ended:?}");
        // Its PulseAudio lets the guest in.
        server.hears_the_guest("Auto");
    });
}

#[test]
fn the_median_of_a_tone_with_gaps_is_its_pitch() {
    let tone = (0..RATE).map(|at| match at % 1000 {
        900.. => 0,
        part if (part / 48) % 2 == 0 => 8000,
        _ => -8000,
    });
    assert_eq!(pitch(&tone.collect::<Vec<i16>>()), HERTZ);
}
