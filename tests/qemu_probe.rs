//! What a QEMU can do, asked of real ones: Debian 12's (`qemu-system-x86_64` in PATH) and, if `$VFIO_RUN_QEMU10` names
//! one (`scripts/qemu10` makes it), Debian 13's.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use vfio_run::qemu::KvmTrial::{Run, Skip};
use vfio_run::qemu::{KvmGuest, ProbeError, QemuFacts, probe};

const QEMU: &str = "qemu-system-x86_64";

fn newer() -> Option<PathBuf> {
    std::env::var_os("VFIO_RUN_QEMU10").map(PathBuf::from)
}

fn has(set: &BTreeSet<String>, words: &[&str]) {
    for word in words {
        assert!(set.contains(*word), "{word} is missing in {set:?}");
    }
}

/// What every QEMU that we support has.
fn has_the_common(facts: &QemuFacts) {
    has(&facts.machines, &["q35", "pc", "none"]);
    has(&facts.q35_properties, &["smm", "hpet", "vmport", "memory-backend"]);
    let devices = facts.devices.keys().cloned().collect();
    has(&devices, &["nvme", "vfio-pci", "virtio-blk-pci", "pcie-root-port", "usb-tablet", "tpm-crb"]);
    assert!(!devices.contains("max-x86_64-cpu"), "a CPU is no -device");
    has(&facts.devices["vfio-pci"], &["host", "x-vga", "rombar", "bootindex", "multifunction", "display"]);
    has(&facts.devices["virtio-blk-pci"], &["drive", "iothread", "num-queues", "serial"]);
    has(&facts.objects, &["iothread", "memory-backend-memfd", "thread-context", "secret"]);
    has(&facts.object_properties["memory-backend-memfd"], &["prealloc", "prealloc-context", "host-nodes", "share"]);
    has(&facts.netdevs, &["user", "tap", "bridge"]);
    has(&facts.audiodevs, &["none", "wav"]);
    has(&facts.displays, &["none"]);
    has(&facts.blockdevs, &["qcow2", "raw", "file", "host_device"]);
    has(&facts.aio, &["threads", "native", "io_uring"]);
    has(&facts.cpu_models, &["host", "max", "EPYC", "qemu64"]);
    has(&facts.cpu_properties, &["hv-relaxed", "hv-no-nonarch-coresharing", "kvm", "topoext"]);
    has(&facts.options["overcommit"], &["mem-lock", "cpu-pm"]);
    assert!(facts.vnc && facts.kvm_present);
}

#[test]
fn real_qemu_7_2_tells_what_it_can_do() {
    let facts = probe(Path::new(QEMU), Duration::from_secs(60), Run).unwrap();
    has_the_common(&facts);
    assert!(facts.binary.is_absolute());
    if facts.version.starts_with("7.2.") {
        assert!(!facts.devices["virtio-blk-pci"].contains("iothread-vq-mapping"));
        assert!(!facts.objects.contains("iommufd") && !facts.netdevs.contains("passt"));
    }
    println!("KVM: {:?}; SPICE: {}; displays: {:?}", facts.kvm_error, facts.spice, facts.displays);
}

#[test]
#[ignore = "needs Debian 13's QEMU in $VFIO_RUN_QEMU10: scripts/test runs it"]
fn real_qemu_10_tells_what_it_can_do() {
    let binary = newer().expect("VFIO_RUN_QEMU10 names a QEMU");
    let facts = probe(&binary, Duration::from_secs(60), Run).unwrap();
    has_the_common(&facts);
    assert!(facts.version.starts_with("10."), "{}", facts.version);
    has(&facts.devices["virtio-blk-pci"], &["iothread-vq-mapping"]);
    has(&facts.objects, &["iommufd"]);
    has(&facts.q35_properties, &["smp-cache"]);
    has(&facts.options["run-with"], &["user"]);
    println!("KVM: {:?}; SPICE: {}; displays: {:?}", facts.kvm_error, facts.spice, facts.displays);
}

#[test]
fn real_qemu_is_asked_once_and_anew_when_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("a/cache");
    // A link is resolved, so a launcher of our own stands for a binary that is replaced.
    let binary = folder.path().join("qemu");
    let real = std::env::split_paths(&std::env::var_os("PATH").unwrap()).map(|p| p.join(QEMU)).find(|p| p.is_file());
    let mark = folder.path().join("started");
    let launcher = format!("#!/bin/sh\n: > {}\nexec {} \"$@\"\n", mark.display(), real.unwrap().display());
    install(&binary, &launcher);
    let facts = QemuFacts::of(&binary, Some(&cache), Run).unwrap();
    has_the_common(&facts);
    let kept = fs::read_dir(&cache).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>();
    let [kept] = kept.as_slice() else { panic!("{kept:?}") };
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&cache), mode(kept)), (0o700, 0o600));
    assert!(fs::metadata(kept).unwrap().len() < 200 * 1024);

    // From the cache the same, without starting it: the launcher leaves a mark.
    fs::remove_file(&mark).unwrap();
    let start = Instant::now();
    assert_eq!(QemuFacts::of(&binary, Some(&cache), Run).unwrap(), facts);
    assert!(!mark.exists(), "QEMU was started");
    println!("a warm read takes {:?} of {} bytes", start.elapsed(), fs::metadata(kept).unwrap().len());

    // Something else in its place is noticed, and what it fails with is told.
    let kept_text = fs::read_to_string(kept).unwrap();
    install(&binary, "#!/bin/sh\necho no such luck >&2\nexit 1\n");
    let error = QemuFacts::of(&binary, Some(&cache), Run).unwrap_err();
    assert!(matches!(error, ProbeError::Ask { .. }) && error.to_string().contains("no such luck"), "{error}");
    assert_eq!(fs::read_to_string(kept).unwrap(), kept_text);

    // A cache of the same binary that is torn, or of another format, is asked anew and mended.
    install(&binary, &launcher);
    for text in [&kept_text[..kept_text.len() / 2], r#"{"format":0}"#, ""] {
        fs::write(kept, text).unwrap();
        assert_eq!(QemuFacts::of(&binary, Some(&cache), Run).unwrap(), facts);
        assert!(fs::metadata(kept).unwrap().len() > 1024);
    }

    // After a reboot only KVM is asked.
    let text = fs::read_to_string(kept).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    fs::write(kept, text.replace(boot.trim(), "another").replace("\"q35\"", "\"kept\"")).unwrap();
    let again = QemuFacts::of(&binary, Some(&cache), Run).unwrap();
    assert!(again.machines.contains("kept"), "all was asked");
    assert_eq!(again.kvm_error, facts.kvm_error);

    // That KVM does not run is believed for a while: what stood in its way may be gone.
    let mut planted: serde_json::Value = serde_json::from_slice(&fs::read(kept).unwrap()).unwrap();
    planted["facts"]["kvm_error"] = "planted".into();
    planted["facts"]["binary"] = "/nowhere/another-qemu".into();
    fs::write(kept, planted.to_string()).unwrap();
    let again = QemuFacts::of(&binary, Some(&cache), Run).unwrap();
    assert_eq!(again.kvm_error.as_deref(), Some("planted"));
    // Which program is run, no cache says.
    assert_eq!(again.binary, facts.binary);
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    fs::File::options().write(true).open(kept).unwrap().set_modified(long_ago).unwrap();
    assert_eq!(QemuFacts::of(&binary, Some(&cache), Run).unwrap().kvm_error, facts.kvm_error);
}

#[test]
fn real_qemu_tries_kvm_only_where_that_matters_and_gives_up_soon() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let binary = folder.path().join("qemu");
    let tried = folder.path().join("tried");
    // A KVM that hangs, as one within a sandbox's does.
    install(
        &binary,
        &format!(
            "#!/bin/sh\ncase \"$*\" in *accel=kvm*) : > {}; exec sleep 1000;; esac\nexec {QEMU} \"$@\"\n",
            tried.display()
        ),
    );
    let ask = |trial| {
        let (start, _) = (Instant::now(), fs::remove_file(&tried));
        let facts = QemuFacts::of(&binary, Some(&cache), trial).unwrap();
        let hung = facts.kvm_error.is_some_and(|error| error.contains("hung"));
        (hung, tried.exists(), start.elapsed())
    };
    assert!(matches!(ask(Skip), (false, false, _)), "asked of the binary");
    assert!(matches!(ask(Skip), (false, false, _)), "kept");
    // What was not tried is not taken for an answer.
    let (hung, tried, took) = ask(Run);
    assert!(hung && tried && took < Duration::from_secs(20), "{took:?}");
    assert!(matches!(ask(Run), (true, false, _)), "kept");
    assert!(matches!(ask(Skip), (false, false, _)), "nothing depends on it");
    assert!(matches!(ask(Run), (true, false, _)), "still kept");
}

#[test]
fn real_qemu_runs_the_smallest_guest_and_tells_a_cpu_of_32_bits() {
    let run = |cpu| KvmGuest::start(Path::new(QEMU), "tcg", cpu).error(Duration::from_secs(9));
    assert_eq!(run("max"), None);
    assert!(run("qemu32").unwrap().contains("no 64-bit kernel"));
    assert!(run("no-such-cpu").unwrap().contains("no-such-cpu"));
}

#[test]
fn real_qemu_answers_also_where_nothing_can_be_kept() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    has_the_common(&QemuFacts::of(Path::new(QEMU), Some(&folder.path().join("file/cache")), Run).unwrap());
}

#[test]
fn what_is_no_qemu_is_told_in_time() {
    let start = Instant::now();
    assert!(matches!(
        probe(Path::new("/nonexistent/qemu"), Duration::from_secs(9), Run),
        Err(ProbeError::NotFound { .. })
    ));
    assert!(matches!(probe(Path::new("no-such-qemu"), Duration::from_secs(9), Run), Err(ProbeError::NotFound { .. })));
    assert!(matches!(probe(Path::new("/etc/passwd"), Duration::from_secs(9), Run), Err(ProbeError::Start(_))));
    assert!(matches!(probe(Path::new("/bin/true"), Duration::from_secs(9), Run), Err(ProbeError::NotQemu { .. })));
    let folder = tempfile::tempdir().unwrap();
    let hangs = folder.path().join("hangs");
    install(&hangs, "#!/bin/sh\nexec sleep 1000\n");
    assert!(matches!(probe(&hangs, Duration::from_secs(1), Run), Err(ProbeError::Ask { .. })));
    assert!(start.elapsed() < Duration::from_secs(9));
}

/// Writes the recordings in `tests/qemu`: `VFIO_RUN_QEMU10=$(scripts/qemu10) cargo test --test qemu_probe record -- --ignored`.
#[test]
#[ignore = "rewrites the recordings"]
fn record() {
    for binary in [Some(PathBuf::from(QEMU)), newer()].into_iter().flatten() {
        let mut facts = probe(&binary, Duration::from_secs(60), Skip).unwrap();
        // What the recording machine is must not show.
        facts.binary = PathBuf::from("/usr/bin/qemu-system-x86_64");
        facts.kvm_error = None;
        let version = facts.version.split('.').take(2).collect::<Vec<_>>().join(".");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/qemu");
        let mut text = serde_json::to_string_pretty(&facts).unwrap();
        text.push('\n');
        fs::write(folder.join(format!("{version}.json")), text).unwrap();
        fs::write(folder.join(format!("{version}-schema.json")), schema_of(&binary)).unwrap();
    }
}

fn schema_of(binary: &Path) -> String {
    use std::io::{BufRead, BufReader, Write};
    let arguments = "-machine none -nodefaults -display none -S -chardev stdio,id=q -mon chardev=q,mode=control";
    let mut qemu = std::process::Command::new(binary);
    qemu.args(arguments.split(' ')).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut qemu = qemu.spawn().unwrap();
    let mut stdin = qemu.stdin.take().unwrap();
    for command in ["qmp_capabilities", "query-qmp-schema", "quit"] {
        writeln!(stdin, r#"{{"execute":"{command}","id":"{command}"}}"#).unwrap();
    }
    let lines = BufReader::new(qemu.stdout.take().unwrap()).lines().map(|l| l.unwrap());
    let replies = lines.map(|l| serde_json::from_str::<serde_json::Value>(&l).unwrap());
    let found: Vec<_> = replies.filter(|reply| reply["id"] == "query-qmp-schema").collect();
    qemu.wait().unwrap();
    format!("{}\n", found[0]["return"])
}

/// Puts a program in a place. Written by a child, because a descriptor of ours that is open for writing is for a moment
/// also in whatever another test's thread forks, and what is open for writing can't be executed.
fn install(path: &Path, text: &str) {
    use std::io::Write;
    let mut install = std::process::Command::new("install");
    install.args(["-m", "755", "/dev/stdin"]).arg(path).stdin(std::process::Stdio::piped());
    let mut install = install.spawn().unwrap();
    install.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(install.wait().unwrap().success());
}
