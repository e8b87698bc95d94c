//! Real QEMUs take the plans' command lines: each machine is started from the line that `plan --argv` prints, asked over
//! QMP how it is, and ended. With emulation, so that it needs no KVM; without a QEMU there is nothing to test.

#[path = "accepted/imports.rs"]
mod imports;
#[path = "accepted/setups.rs"]
mod setups;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use vfio_run::change::StopUnit;
use vfio_run::host::{Cpu, FileKind, Host, Node, Root, Virtiofsd};
use vfio_run::machine;
use vfio_run::plan::{self, Access, Content, Helper, Inherited, Keep, Opened, Plan, PlannedChange, Trial};
use vfio_run::qemu::KvmTrial::Run;
use vfio_run::qemu::QemuFacts;
use vfio_run::qemu::command::OptionValue;
use vfio_run::qemu::device::Device;
use vfio_run::units::{CpuSet, Origin};

/// What is started, with `DIR` for the folder of its files. All with emulation.
const MACHINES: &[(&str, &str)] = &[
    ("smallest", "(guest: Other, accelerator: Tcg, memory: (size: \"128 MiB\"))"),
    (
        "windows11",
        "(guest: Windows11, accelerator: Tcg, memory: (size: \"512 MiB\"), cpu: (vcpus: 2), display: Vnc(), \
          disks: [(file: \"DIR/a.raw\"), (file: \"DIR/c.iso\")])",
    ),
    (
        "buses",
        "(guest: Windows10, accelerator: Tcg, memory: (size: \"256 MiB\", shared: true), serial: Socket, tpm: V2, disks: [\
          (file: \"DIR/a.raw\", bus: VirtioScsi, queues: 2, serial: \"abc\"), (file: \"DIR/b.qcow2\", bus: Sata, cache: Writethrough), \
          (file: \"DIR/c.iso\", bus: VirtioScsi), (file: \"DIR/d, x'y.raw\", cache: Directsync, aio: Native, queues: 2, discard: Ignore), \
          (file: \"DIR/e.raw\", bus: Nvme), (file: \"DIR/f.raw\", cache: Unsafe, read_only: true)], \
          networks: [(model: E1000e), (backend: None)])",
    ),
    (
        "screens",
        "(guest: Linux, accelerator: Tcg, firmware: Bios, memory: (size: \"128 MiB\"), display: Vnc(port: 5991, address: \"::1\"), \
          serial: File(\"DIR/ser, ial.log\"), rtc: LocalTime, extra_args: [\"-device\", \"virtio-balloon-pci\"])",
    ),
    (
        "drives",
        "(guest: Other, accelerator: Tcg, memory: (size: \"128 MiB\", balloon: true), display: Vnc(), video: Cirrus, disks: [\
          (media: Cd), (media: Cd, bus: VirtioScsi), (file: \"DIR/a.raw\", sector: (logical: 4096)), \
          (file: \"DIR/e.raw\", bus: VirtioScsi, sector: (logical: 4096, physical: 65536)), \
          (file: \"DIR/f.raw\", bus: Nvme, sector: (logical: 4096)), \
          (file: \"DIR/d, x'y.raw\", bus: Sata, sector: (physical: 4096))])",
    ),
    (
        "cards",
        "(guest: Other, accelerator: Tcg, memory: (size: \"128 MiB\"), networks: [(link: Down), (forward: [\"127.0.0.1:48022:22\", \"udp 48023:53\"], model: E1000e), (model: E1000), \
          (model: Rtl8139), (model: Vmxnet3)])",
    ),
    (
        "sound",
        "(guest: Windows10, accelerator: Tcg, firmware: Bios, memory: (size: \"128 MiB\"), display: Spice, audio: Spice(microphone: true))",
    ),
    (
        "sound-usb",
        "(guest: Linux, accelerator: Tcg, firmware: Bios, memory: (size: \"128 MiB\"), display: Spice, audio: Spice(card: Usb))",
    ),
    (
        "sound-ac97",
        "(guest: Other, accelerator: Tcg, memory: (size: \"128 MiB\"), display: Spice, audio: Spice(card: Ac97))",
    ),
    (
        "spice",
        "(guest: Windows10, accelerator: Tcg, firmware: Bios, memory: (size: \"128 MiB\"), video: Qxl, video_memory: \"64 MiB\", \
          display: Spice(password_file: \"DIR/pw\", usb_redirection: 8))",
    ),
    (
        "vnc-tls",
        "(guest: Linux, accelerator: Tcg, firmware: Bios, memory: (size: \"128 MiB\"), video: Cirrus, video_memory: \"8 MiB\", \
          display: Vnc(port: 5992, password_file: \"DIR/pw\", clipboard: true, tls: (cert: \"DIR/host.pem\", key: \"DIR/host.key\")))",
    ),
    (
        "bus",
        "(guest: Linux, accelerator: Tcg, firmware: Bios, memory: (size: \"128 MiB\"), \
          display: DBus(bus: \"unix:path=DIR/bus\", clipboard: true))",
    ),
    (
        // By virtiofsd if there is one that serves users, else by 9p.
        "shares",
        "(guest: Linux, accelerator: Tcg, firmware: Bios, memory: (size: \"128 MiB\"), shares: [(tag: \"a\", folder: \"DIR\"), \
          (tag: \"b\", folder: \"DIR\", read_only: true, kind: NineP)])",
    ),
    (
        "forwards",
        "(guest: Other, accelerator: Tcg, memory: (size: \"128 MiB\"), networks: [\
          (forward: [\"127.0.0.1:47811:80\", \"udp 127.0.0.1:47812-47813:5000-5001\"]), (model: E1000e), \
          (backend: Slirp, forward: [\"127.0.0.1:47814:80\", \"udp 127.0.0.1:47814\"])])",
    ),
    (
        "memory",
        "(guest: Other, accelerator: Tcg, memory: (size: \"128 MiB\", pages: Auto, merge: false, lock: true, dump: true))",
    ),
    ("nodes", "(guest: Other, accelerator: Tcg, memory: (size: \"128 MiB\", numa: Guest), cpu: (pin: \"0,2-3\"))"),
    ("vsock", "(guest: Other, accelerator: Tcg, memory: (size: \"128 MiB\"), vsock: Cid(42))"),
    (
        "parts",
        "(guest: Linux, accelerator: Tcg, memory: (size: \"256 MiB\"), firmware: Uefi(secure_boot: false, mmio_window: \"64 GiB\"), \
          cpu: (phys_bits: 39), watchdog: (device: I6300esb, action: InjectNmi), panic_device: (action: Pause), boot_menu: 5, \
          serial: Socket, second_serial: File(\"DIR/second.log\"), sleep: (s3: false, s4: true), apple_smc: (key_file: \"DIR/osk\"))",
    ),
    (
        "itco",
        "(guest: Other, accelerator: Tcg, memory: (size: \"128 MiB\"), watchdog: (), panic_device: (), second_serial: Socket)",
    ),
    (
        "identity",
        "(guest: Other, accelerator: Tcg, memory: (size: \"128 MiB\"), battery: true, acpi_tables: [\"DIR/ta, ble.aml\"], \
          smbios: Fields(bios: (vendor: \"A\", version: \"1\", date: \"04/01/2014\", release: \"5.17\"), \
          system: (manufacturer: \"A, B\", product: \"A\", version: \"A\", serial: \"A\", sku: \"A\", family: \"A\"), \
          board: (manufacturer: \"A\", product: \"A\", version: \"A\", serial: \"A\", asset: \"A\", location: \"A\"), \
          chassis: (manufacturer: \"A\", version: \"A\", serial: \"A\", asset: \"A\", sku: \"A\"), \
          processor: (socket_prefix: \"A\", manufacturer: \"A\", version: \"A\", serial: \"A\", asset: \"A\", part: \"A\", \
          max_speed: 4800, current_speed: 3600), memory: (locator_prefix: \"A\", bank: \"A\", manufacturer: \"A\", \
          serial: \"A\", asset: \"A\", part: \"A\", speed: 3200), oem_strings: [\"a\", \"b,c=d\"]))",
    ),
    (
        "desk",
        "(guest: Linux, accelerator: Tcg, firmware: Bios, memory: (size: \"128 MiB\"), display: Vnc(), usb: [\"046d:c547\", \"3-2.1\"], \
          input: [(keyboard: \"/dev/input/by-id/missing-event-kbd\", toggle: CtrlScrollLock)])",
    ),
    (
        "uefi",
        "(guest: Linux, accelerator: Tcg, memory: (size: \"256 MiB\"), firmware: Uefi(secure_boot: true, enrolled_keys: false))",
    ),
    (
        // Not `dies`: QEMU 10.0 fails an assertion when an emulated guest asks for them (encode_topo_cpuid1f).
        "topology",
        "(guest: Other, accelerator: Tcg, memory: (size: \"128 MiB\"), cpu: (vcpus: 8, topology: (sockets: 2, cores: 2, threads: 2), \
          model: \"Nehalem\", features: [\"-sse4.2\"]))",
    ),
];

/// The QEMUs that are here: Debian's, and the newer one of `scripts/qemu10`.
fn qemus() -> Vec<PathBuf> {
    let fetched = std::env::var_os("VFIO_RUN_QEMU10").map(PathBuf::from);
    let all = [Some(PathBuf::from("/usr/bin/qemu-system-x86_64")), fetched].into_iter().flatten();
    let found: Vec<PathBuf> = all.filter(|path| path.exists()).collect();
    assert!(!found.is_empty(), "no QEMU is installed");
    found
}

/// Ends its process when it goes out of scope.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn properties_of_a_device_that_is_not_there_are_judged() {
    let judged = std::cell::Cell::new(0);
    each(|case, mut plan| {
        if !case.starts_with("smallest") {
            return;
        }
        judged.set(judged.get() + 1);
        let origin = || Origin::Default("a test".to_owned());
        plan.changes.push(PlannedChange {
            change: StopUnit { unit: "a.service".to_owned() }.into(),
            origin: origin(),
            optional: false,
        });
        for (value, taken) in [(Value::from(true), true), ("on".into(), false), (1.into(), false)] {
            let device =
                Device::new("vfio-pci", "a").of_host().with("host", "0000:01:00.0").with("x-no-mmap", value.clone());
            let raw = Origin::Raw { field: "pci[0].properties.x-no-mmap".to_owned(), line: None };
            let option = device.option(origin()).explained("x-no-mmap", raw);
            plan.command.options.push(option);
            let line = plan::trial(&plan).unwrap().properties.pop().unwrap();
            let said = Command::new(&line.binary).args(line.argv()).output().unwrap();
            let words = String::from_utf8_lossy(&said.stderr);
            assert_eq!(words.contains(Trial::NOWHERE), taken, "{case}: {value}: {words}");
            assert_eq!(words.contains("Invalid parameter type for 'x-no-mmap'"), !taken, "{case}: {value}: {words}");
        }
    });
    assert_eq!(judged.get(), qemus().len(), "one machine on each QEMU");
}

#[test]
fn qemu_takes_every_line() {
    each(|case, plan| start(case, &plan));
}

/// A session bus at this socket.
fn bus(socket: &Path) -> Child {
    let mut command = Command::new("dbus-daemon");
    command.args(["--session", "--nofork", "--nopidfile", "--nosyslog"]);
    let bus = command.arg(format!("--address=unix:path={}", socket.display())).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while UnixStream::connect(socket).is_err() {
        assert!(Instant::now() < deadline, "the bus does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    bus
}

/// Does a test with the plan of every machine on every QEMU.
fn each(test: impl Fn(&str, Plan)) {
    for qemu in qemus() {
        let folder = tempfile::tempdir().unwrap();
        let facts = QemuFacts::of(&qemu, Some(folder.path()), Run).unwrap();
        for (name, text) in MACHINES {
            let case = format!("{name} on {}", facts.version);
            let folder = tempfile::tempdir().unwrap();
            let dir = folder.path().to_str().unwrap();
            for file in ["a.raw", "c.iso", "d, x'y.raw", "e.raw", "f.raw"] {
                std::fs::File::create(folder.path().join(file)).unwrap().set_len(1 << 20).unwrap();
            }
            std::fs::copy("src/run/starting/contents/battery.aml", folder.path().join("ta, ble.aml")).unwrap();
            std::fs::write(folder.path().join("pw"), "geheim12").unwrap();
            let certificate = [
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=a", "-keyout", "host.key", "-out",
                "host.pem",
            ];
            let made = Command::new("openssl").args(certificate).current_dir(folder.path()).output().unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            std::fs::write(folder.path().join("osk"), "k".repeat(64)).unwrap();
            let image = folder.path().join("b.qcow2");
            let made = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&image).arg("1M").status();
            assert!(made.unwrap().success());
            let _bus = text.contains("DBus").then(|| Ended(bus(&folder.path().join("bus"))));
            let source = machine::parse(Path::new(&format!("/{name}.ron")), &text.replace("DIR", dir)).unwrap();
            let mut host = Host::read(&Root::new("/"), &plan::wanted(&source.machine));
            if let Some(folder) = std::env::var_os("VFIO_RUN_VIRTIOFSD").filter(|_| source.machine.named().virtiofsd) {
                let options = ["--fd", "--shared-dir", "--readonly", "--translate-gid", "--translate-uid"];
                host.virtiofsd = Some(Virtiofsd {
                    program: Path::new(&folder).join("virtiofsd"),
                    options: options.map(str::to_owned).into(),
                    user_namespaces: Some(true),
                });
            }
            host.process.run_dir = folder.path().join("run/vfio-run");
            host.process.state_dir = folder.path().join("state");
            // What the account may do is another matter.
            host.process.uid = 1;
            host.process.memlock = None;
            // Who listens is a QEMU of the test beside this one.
            host.tcp = None;
            let pools = host.memory.nodes.iter_mut().flat_map(|node| &mut node.huge_pages);
            pools.for_each(|pool| pool.free = u64::MAX >> 21);
            host.files.values_mut().for_each(|file| file.mode = 0o777);
            // What the kernel here may lack is a matter of `start`.
            // Keyboards and mice may be absent: they come late.
            let nodes = host.files.iter_mut().filter(|(path, _)| path.starts_with("/dev"));
            let nodes = nodes.filter(|(path, _)| !path.starts_with("/dev/input"));
            nodes.for_each(|(_, file)| file.kind = file.kind.or(Some(FileKind::Character)));
            if source.machine.memory.numa.is_some() {
                have_two_nodes(&mut host);
            }
            let mut plan = plan::plan(&source.machine, &|_| None, &host, &facts);
            if source.machine.memory.numa.is_some() {
                // This host may have but one.
                plan.command.options.iter_mut().for_each(|option| {
                    if let OptionValue::Json(object) = &mut option.value {
                        object.retain(|key, _| !["host-nodes", "policy"].contains(&key.as_str()));
                    }
                });
            }
            let blocking: Vec<_> = plan.findings.iter().filter(|finding| finding.blocks()).collect();
            assert!(blocking.is_empty(), "{case}: {blocking:?}");
            test(&case, plan);
        }
    }
}

/// Makes it a host of two NUMA nodes with two CPUs each.
fn have_two_nodes(host: &mut Host) {
    let cpu = host.cpus.list[0].clone();
    let cpus = (0..4).map(|id| Cpu { id, node: Some(id / 2), siblings: CpuSet::from_iter([id]), ..cpu.clone() });
    host.cpus.list = cpus.collect();
    (host.cpus.online, host.cpus.allowed) = (CpuSet::from_iter(0..4), CpuSet::from_iter(0..4));
    host.cpus.caches.clear();
    let node = host.memory.nodes[0].clone();
    let nodes = [[10, 21], [21, 10]].into_iter().zip(0u32..);
    let nodes = nodes.map(|(distances, id)| Node {
        id,
        cpus: CpuSet::from_iter(2 * id..2 * id + 2),
        distances: distances.to_vec(),
        ..node.clone()
    });
    host.memory.nodes = nodes.collect();
    host.memory.allowed = None;
}

#[test]
fn qemu_takes_every_trial() {
    each(|case, mut plan| {
        let change = StopUnit { unit: "sddm.service".to_owned() }.into();
        plan.changes.push(PlannedChange { change, origin: Origin::Default("a test".to_owned()), optional: false });
        judge(case, &plan, &plan::trial(&plan).unwrap());
    });
}

/// Starts the trial, which must come as far as a guest that has not begun.
fn judge(case: &str, plan: &Plan, trial: &Trial) {
    prepare(plan);
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut command = vfio_run::child::Command::new(&trial.command.binary);
    command.args(trial.command.argv()).fd(trial.monitor, theirs.into()).stderr(Stdio::piped());
    for (number, content) in vfio_run::run::contents::make(&Root::new("/"), plan).unwrap() {
        command.fd(number, content);
    }
    for descriptor in &plan.descriptors {
        if let Inherited::Memory(memory) = &descriptor.what {
            // This host may have no huge pages.
            let memory = vfio_run::plan::GuestMemory { pages: None, ..memory.clone() };
            command.fd(descriptor.fd, vfio_run::run::memory::create(&memory, None).unwrap());
        }
    }
    let mut qemu = Ended(command.spawn().unwrap());
    // No helper of it runs, and nobody waits for one.
    let answered = talk(ours);
    drop(answered.is_none().then(|| qemu.0.kill()));
    let mut errors = String::new();
    std::io::Read::read_to_string(&mut qemu.0.stderr.take().unwrap(), &mut errors).unwrap();
    let status = qemu.0.wait().unwrap();
    assert!(
        answered.is_some_and(|answer| answer.contains("\"prelaunch\"")),
        "{case}: {errors}\n{}",
        trial.command.argv().join(" ")
    );
    assert!(status.success(), "{case}: {status}: {errors}");
}

/// Prepares what a run would, starts the line, talks to it, and sees it end well.
fn start(case: &str, plan: &Plan) {
    prepare(plan);
    for link in &plan.links {
        // As the pasted line has it, which hands nothing over.
        let file = plan.descriptors.iter().find_map(|descriptor| match &descriptor.what {
            Inherited::Content(Content::Pem { file, .. }) if descriptor.fd == link.fd => Some(file),
            _ => None,
        });
        std::fs::remove_file(&link.at).unwrap();
        std::os::unix::fs::symlink(file.unwrap(), &link.at).unwrap();
    }
    let _helpers: Vec<Ended> = plan.helpers.iter().map(|helper| listening(plan, helper)).collect();
    let line = vfio_run::report::shell_command(&plan.command, &plan.descriptors);
    let shell = Command::new("sh").args(["-c", &format!("exec {line}")]).stderr(Stdio::piped()).spawn().unwrap();
    let mut qemu = Ended(shell);
    let answered = connect(&plan.paths.run.join("qmp-0.sock"), &mut qemu.0).and_then(talk);
    drop(answered.is_none().then(|| qemu.0.kill()));
    let mut errors = String::new();
    std::io::Read::read_to_string(&mut qemu.0.stderr.take().unwrap(), &mut errors).unwrap();
    let status = qemu.0.wait().unwrap();
    if plan.descriptors.iter().any(|d| matches!(&d.what, Inherited::Device(node) if !node.exists())) {
        // It took all that it was told, and came as far as the device that this kernel lacks.
        assert!(
            errors.trim_end().ends_with("failed to open vhost device: No such file or directory"),
            "{case}: {errors}"
        );
        return;
    }
    assert!(answered.is_some_and(|status| status.contains("\"running\": true")), "{case}: {errors}\n{line}");
    assert!(status.success(), "{case}: {status}: {errors}\n{line}");
    // A card that is not connected is meant, and so is AC97 without the microphone, which that card opens unasked (the
    // first words are QEMU 7.2's, the others of QEMU 10).
    let voice = ["Failed to create voice `ac97.", "Could not create a backend for voice `ac97."];
    let meant = |line: &&str| line.contains("has no peer") || voice.iter().any(|words| line.contains(words));
    let warnings: Vec<&str> = errors.lines().filter(|line| !line.is_empty() && !meant(line)).collect();
    assert!(warnings.is_empty(), "{case}: {warnings:?}\n{line}");
}

/// Makes the folders and files that a run would.
fn prepare(plan: &Plan) {
    for folder in [&plan.paths.run, &plan.paths.display, &plan.paths.state] {
        std::fs::create_dir_all(folder).unwrap();
    }
    for keep in &plan.keep {
        match keep {
            Keep::Folder(path) => std::fs::create_dir_all(path).unwrap(),
            Keep::Copy { from, to } => drop(std::fs::copy(from, to).unwrap()),
            // swtpm's, which is not started here.
            Keep::TpmState { .. } => {}
            Keep::Image { path, format, size } => {
                let made = std::process::Command::new("qemu-img")
                    .args(["create", "-q", "-f", format.name()])
                    .arg(path)
                    .arg(size.as_bytes().to_string())
                    .status();
                assert!(made.unwrap().success(), "{}", path.display());
            }
        }
    }
    // The tests' own user may be root, who makes no files in folders of others.
    for descriptor in &plan.descriptors {
        if let Inherited::File(Opened { path, access: Access::Append, .. }) = &descriptor.what {
            std::fs::write(path, "").unwrap();
        }
    }
    for link in &plan.links {
        std::fs::create_dir_all(link.at.parent().unwrap()).unwrap();
        drop(std::fs::remove_file(&link.at));
        std::os::unix::fs::symlink(format!("/proc/self/fd/{}", link.fd), &link.at).unwrap();
    }
}

/// A helper that listens where the pasted line looks for it, in place of the descriptor that it would inherit.
fn listening(plan: &Plan, helper: &Helper) -> Ended {
    let socket = plan.paths.run.join(format!("{}.sock", helper.name));
    let mut argv = vfio_run::report::shell_helper(helper, &socket);
    if helper.is_passt() {
        argv.extend(["--runas".to_owned(), format!("{}:{}", nix::unistd::getuid(), nix::unistd::getgid())]);
    }
    // Without a syslog passt complains of that instead.
    let errors = if helper.is_passt() { Stdio::null() } else { Stdio::inherit() };
    let mut helper = Ended(Command::new(&argv[0]).args(&argv[1..]).stderr(errors).spawn().unwrap());
    let start = Instant::now();
    while !socket.exists() {
        let ended = helper.0.try_wait().unwrap();
        assert!(ended.is_none() && start.elapsed() < Duration::from_secs(10), "{argv:?} does not listen: {ended:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    helper
}

/// Connects to the monitor as soon as it is there.
fn connect(socket: &Path, qemu: &mut Child) -> Option<UnixStream> {
    let start = Instant::now();
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Some(stream),
            Err(_) if qemu.try_wait().ok()?.is_some() || start.elapsed() > Duration::from_secs(20) => return None,
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Asks for the status and then to quit; the answer to the first.
fn talk(mut stream: UnixStream) -> Option<String> {
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
    lines.next()?.ok()?;
    let mut ask = |command: &str| {
        writeln!(stream, "{{\"execute\":\"{command}\"}}").ok()?;
        lines.by_ref().map_while(Result::ok).find(|line| line.contains("\"return\"") || line.contains("\"error\""))
    };
    ask("qmp_capabilities")?;
    let status = ask("query-status");
    ask("quit");
    status
}
