//! Asking a QEMU binary what it can do.
//!
//! Over QMP if that tells it. What lives in modules that may not be installed (displays, audio, SPICE) is in the
//! schema whether or not it is there, so for those the binary's own `help` lists are read, which try to load them.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use qapi::qmp;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use super::facts::QemuFacts;
use super::kvm_guest::KvmGuest;
use super::qmp::{Qmp, QmpError};
use super::schema::Schema;
use super::short::Short;
use crate::child::SpawnError;

/// How long a probe may take in all. It takes about a second on a slow machine, and half a minute was too short on one that
/// had hardly any time for it.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// How long another QEMU may take if only KVM is asked about; it tells how fast this machine is just now.
const ANOTHER_LIMIT: Duration = Duration::from_secs(8);

/// The schema of QEMU 10 is 0.25 MiB in one line.
const SCHEMA_LIMIT: usize = 64 * 1024 * 1024;

/// The drivers whose properties plans look at.
#[rustfmt::skip]
const DRIVERS: &[&str] = &[
    "AC97", "VGA", "bochs-display", "e1000e", "hda-duplex", "hda-micro", "hda-output", "i82801b11-bridge",
    "ich9-ahci", "ich9-intel-hda", "ide-cd", "ide-hd", "igb", "intel-hda", "intel-iommu", "isa-debugcon",
    "isa-serial", "ivshmem-plain", "nvme", "nvme-ns", "pci-bridge", "pci-serial", "pcie-pci-bridge",
    "pcie-root-port", "pvpanic", "pvpanic-pci", "pxb-pcie", "qemu-xhci", "qxl-vga", "ramfb", "scsi-block", "scsi-cd",
    "scsi-generic", "scsi-hd", "tpm-crb", "tpm-tis", "usb-audio", "usb-host", "usb-kbd", "usb-mouse", "usb-redir",
    "usb-storage", "usb-tablet", "vfio-pci", "vfio-pci-nohotplug", "vhost-user-fs-pci", "vhost-vsock-pci",
    "virtconsole", "virtio-balloon-pci", "virtio-blk-pci", "virtio-gpu-pci", "virtio-input-host-pci",
    "virtio-iommu-pci", "virtio-keyboard-pci", "virtio-mem-pci", "virtio-mouse-pci", "virtio-net-pci",
    "virtio-rng-pci", "virtio-scsi-pci", "virtio-serial-pci", "virtio-sound-pci", "virtio-tablet-pci", "virtio-vga",
    "virtio-vga-gl", "virtserialport", "vmcoreinfo", "vmgenid", "vmware-svga",
];

/// Drivers whose code is in one module and what they are built on in another. If only the first is installed, QEMU
/// lists the driver and aborts as soon as it is asked about it or given it (seen with 7.2 of Debian without
/// qemu-system-gui: "missing object type 'virtio-gpu-gl-device'").
const NEEDS: &[(&str, &str)] = &[
    ("virtio-gpu-gl-pci", "virtio-gpu-gl-device"),
    ("virtio-gpu-pci", "virtio-gpu-device"),
    ("virtio-gpu-rutabaga-pci", "virtio-gpu-rutabaga-device"),
    ("virtio-vga", "virtio-gpu-device"),
    ("virtio-vga-gl", "virtio-gpu-gl-device"),
    ("virtio-vga-rutabaga", "virtio-gpu-rutabaga-device"),
];

/// The object types whose properties plans look at.
const OBJECTS: &[&str] = &[
    "input-linux",
    "iommufd",
    "iothread",
    "memory-backend-file",
    "memory-backend-memfd",
    "memory-backend-ram",
    "rng-random",
    "thread-context",
];

/// A binary that could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// It is nowhere in PATH, or not there.
    #[error("there is no QEMU at {}; install it (Debian: qemu-system-x86) or name another binary", path.display())]
    NotFound {
        /// What was looked for.
        path: PathBuf,
    },
    /// It could not be started.
    #[error(transparent)]
    Start(#[from] SpawnError),
    /// It did not answer as a QEMU does.
    #[error("{} did not answer what it can do{said}", binary.display())]
    Ask {
        /// The binary.
        binary: PathBuf,
        /// `: ` and what it wrote to standard error, or nothing.
        said: String,
        /// What went wrong.
        #[source]
        source: QmpError,
    },
    /// It is another program.
    #[error("{} is no QEMU: it knows neither QMP nor QEMU's `--version`", binary.display())]
    NotQemu {
        /// The binary.
        binary: PathBuf,
    },
    /// The system refused something else.
    #[error("cannot ask {} what it can do", binary.display())]
    Io {
        /// The binary.
        binary: PathBuf,
        /// What it refused.
        #[source]
        source: io::Error,
    },
}

/// Whether KVM is tried with a guest: on a host whose KVM hangs that takes seconds, and a CPU meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvmTrial {
    /// The smallest guest is started on it.
    Run,
    /// It is not, since nothing depends on the answer.
    Skip,
}

/// Asks a binary all. May be called anywhere, also inside a tokio runtime.
pub fn probe(binary: &Path, deadline: Duration, trial: KvmTrial) -> Result<QemuFacts, ProbeError> {
    let binary = resolve(binary)?;
    // A thread of its own, because a runtime can't be run inside another. The children tied to it end before it.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| ask_all(&binary, Instant::now() + deadline, trial));
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Asks again only whether KVM runs a guest. Another QEMU beside it shows how long one takes: right after a boot, or on a
/// machine that is itself emulated, much longer than it took the last time.
pub(super) fn probe_kvm(binary: &Path) -> Option<String> {
    let kvm = KvmGuest::start(binary, "kvm", "host");
    let started = Instant::now();
    if let Ok(mut another) = help(binary, "-device") {
        // How it ends does not matter, and one that hangs is killed.
        drop(another.wait_until(started + ANOTHER_LIMIT));
    }
    kvm.error(started.elapsed())
}

/// The real path of a binary that is given by path or by name.
pub fn resolve(binary: &Path) -> Result<PathBuf, ProbeError> {
    let not_found = || ProbeError::NotFound { path: binary.to_owned() };
    if binary.components().count() > 1 || binary.is_absolute() {
        return binary.canonicalize().map_err(|_| not_found());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(binary)).find(|file| file.is_file());
    found.and_then(|file| file.canonicalize().ok()).ok_or_else(not_found)
}

/// A QEMU that prints one of its lists.
fn help(binary: &Path, option: &str) -> Result<Short, SpawnError> {
    Short::start(binary, &["-machine", "none", "-nodefaults", option, "help"], Vec::new())
}

/// Whether it ends without naming QEMU when it is asked for its version. One that says nothing in time may be a QEMU.
fn is_another_program(binary: &Path, deadline: Instant) -> bool {
    let ended =
        Short::start(binary, &["--version"], Vec::new()).ok().and_then(|mut short| short.wait_until(deadline).ok());
    ended.flatten().is_some_and(|ended| ended.stderr.is_empty() && !ended.stdout.contains("QEMU"))
}

fn ask_all(binary: &Path, deadline: Instant, trial: KvmTrial) -> Result<QemuFacts, ProbeError> {
    let io = |source| ProbeError::Io { binary: binary.to_owned(), source };
    // All at once: they take about as long as each other, and most of that is the loading of libraries.
    let (devices, displays, audiodevs) =
        (help(binary, "-device")?, help(binary, "-display")?, help(binary, "-audiodev")?);
    let kvm = (trial == KvmTrial::Run).then(|| KvmGuest::start(binary, "kvm", "host"));

    let (ours, theirs) = StdUnixStream::pair().map_err(io)?;
    ours.set_nonblocking(true).map_err(io)?;
    #[rustfmt::skip]
    let arguments = [
        "-machine", "none", "-no-user-config", "-nodefaults", "-display", "none", "-S",
        "-chardev", "socket,id=qmp,fd=3", "-mon", "chardev=qmp,mode=control",
    ];
    let started = Instant::now();
    let mut qemu = Short::start(binary, &arguments, vec![(3, OwnedFd::from(theirs))])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().map_err(io)?;
    let answers = runtime.block_on(async {
        let stream = UnixStream::from_std(ours).map_err(QmpError::Io)?;
        let left = deadline.saturating_duration_since(Instant::now());
        let mut qmp = Qmp::negotiate(stream, left).await?;
        qmp.set_line_limit(SCHEMA_LIMIT);
        match tokio::time::timeout_at(deadline.into(), ask(&mut qmp)).await {
            Ok(answers) => answers,
            Err(_) => Err(QmpError::Deadline { command: "all questions".into(), after: left }),
        }
    });
    let took = started.elapsed();
    let stderr = qemu.kill();
    let mut facts = match answers {
        Ok(facts) => facts,
        Err(_) if is_another_program(binary, deadline) => {
            return Err(ProbeError::NotQemu { binary: binary.to_owned() });
        }
        Err(source) => {
            let said = stderr.trim();
            let said = if said.is_empty() { String::new() } else { format!(": {said}") };
            return Err(ProbeError::Ask { binary: binary.to_owned(), said, source });
        }
    };

    let read = |mut qemu: Short| qemu.wait_until(deadline).map_err(io).map(|e| e.map(|e| e.stdout).unwrap_or_default());
    let takes = device_names(&read(devices)?);
    if !takes.is_empty() {
        facts.devices.retain(|name, _| takes.contains(name));
    }
    // If the list could not be read, the schema's words stand: too many rather than none.
    facts.displays = Some(listed(&read(displays)?)).filter(|words| !words.is_empty()).unwrap_or(facts.displays);
    facts.audiodevs = Some(listed(&read(audiodevs)?)).filter(|words| !words.is_empty()).unwrap_or(facts.audiodevs);
    facts.binary = binary.to_owned();
    facts.kvm_error = kvm.filter(|_| facts.kvm_present).and_then(|kvm| kvm.error(took));
    Ok(facts)
}

/// What QMP tells.
async fn ask(qmp: &mut Qmp<UnixStream>) -> Result<QemuFacts, QmpError> {
    let mut facts = QemuFacts { version: qmp.version().to_string(), ..QemuFacts::default() };

    // Raw, because qapi's types of this answer want members that 7.2 does not have.
    let machines = qmp.execute_raw("query-machines", json!({})).await?;
    let words = |value: &Value, key| value.get(key).and_then(Value::as_str).map(str::to_owned);
    for machine in machines.as_array().into_iter().flatten() {
        let most = machine.get("cpu-max").and_then(Value::as_u64).and_then(|most| u32::try_from(most).ok());
        for name in ["name", "alias"].into_iter().filter_map(|key| words(machine, key)) {
            facts.most_vcpus.extend(most.map(|most| (name.clone(), most)));
            facts.machines.insert(name);
        }
        if words(machine, "alias").as_deref() == Some("q35") {
            let class = words(machine, "name").map(|name| format!("{name}-machine")).unwrap_or_default();
            facts.q35_properties = class_properties(qmp, &class).await?;
        }
    }

    // The first list of types has QEMU load every module that is installed; what comes later sees those.
    let mut devices = types(qmp, "device").await?;
    for (driver, needed) in NEEDS {
        if !devices.contains(*needed) {
            devices.remove(*driver);
        }
    }
    // CPUs count as devices; here they are models.
    devices.retain(|name| !name.ends_with("-x86_64-cpu"));
    facts.devices = devices.into_iter().map(|name| (name, BTreeSet::new())).collect();
    for driver in DRIVERS {
        if facts.devices.contains_key(*driver) {
            facts.devices.insert((*driver).to_owned(), device_properties(qmp, driver).await?);
        }
    }
    facts.objects = types(qmp, "user-creatable").await?;
    for object in OBJECTS {
        if facts.objects.contains(*object) {
            facts.object_properties.insert((*object).to_owned(), class_properties(qmp, object).await?);
        }
    }

    let cpus = qmp.execute_raw("query-cpu-definitions", json!({})).await?;
    facts.cpu_models = cpus.as_array().into_iter().flatten().filter_map(|cpu| words(cpu, "name")).collect();
    facts.cpu_properties = device_properties(qmp, "max-x86_64-cpu").await?;

    for option in qmp.execute(qmp::query_command_line_options { option: None }).await? {
        let parameters = option.parameters.into_iter().map(|parameter| parameter.name).collect();
        facts.options.insert(option.option, parameters);
    }

    let schema = Schema::new(qmp.execute_raw("query-qmp-schema", json!({})).await?);
    facts.netdevs = schema.kinds("netdev_add");
    facts.blockdevs = schema.kinds("blockdev-add");
    facts.aio = schema.words("blockdev-add", "file", "aio");
    facts.displays = schema.returned_kinds("query-display-options");
    facts.audiodevs = schema.returned_kinds("query-audiodevs");
    facts.vnc = schema.has_command("query-vnc") && facts.options.contains_key("vnc");
    // 7.2's schema has `user` even if QEMU was built without libslirp; making one costs nothing and settles it.
    if facts.netdevs.contains("user") {
        match qmp.execute_raw("netdev_add", json!({ "type": "user", "id": "probe", "restrict": true })).await {
            Err(QmpError::Refused { .. }) => _ = facts.netdevs.remove("user"),
            other => drop(other?),
        }
    }

    // SPICE is a module if it is packaged apart; this backend comes with it.
    let backends = qmp.execute_raw("query-chardev-backends", json!({})).await?;
    facts.chardevs = backends.as_array().into_iter().flatten().filter_map(|backend| words(backend, "name")).collect();
    facts.spice = schema.has_command("query-spice") && facts.chardevs.contains("spicevmc");

    facts.kvm_present = qmp.execute(qmp::query_kvm {}).await?.present;
    Ok(facts)
}

/// The types that can be made and implement another.
async fn types(qmp: &mut Qmp<UnixStream>, implements: &str) -> Result<BTreeSet<String>, QmpError> {
    let query = qmp::qom_list_types { implements: Some(implements.to_owned()), abstract_: Some(false) };
    Ok(qmp.execute(query).await?.into_iter().map(|found| found.name).collect())
}

async fn device_properties(qmp: &mut Qmp<UnixStream>, driver: &str) -> Result<BTreeSet<String>, QmpError> {
    known(qmp.execute(qmp::device_list_properties { typename: driver.to_owned() }).await)
}

async fn class_properties(qmp: &mut Qmp<UnixStream>, class: &str) -> Result<BTreeSet<String>, QmpError> {
    known(qmp.execute(qmp::qom_list_properties { typename: class.to_owned() }).await)
}

/// A type that QEMU lists and then does not describe has no properties that could be used.
fn known(answer: Result<Vec<qmp::ObjectPropertyInfo>, QmpError>) -> Result<BTreeSet<String>, QmpError> {
    match answer {
        // Properties beginning with `legacy-` double others in another notation and are not for users.
        Ok(list) => Ok(list.into_iter().map(|p| p.name).filter(|name| !name.starts_with("legacy-")).collect()),
        Err(QmpError::Refused { .. }) => Ok(BTreeSet::new()),
        Err(error) => Err(error),
    }
}

/// The names in `-device help`: `name "nvme", bus PCI, desc "…"`.
fn device_names(help: &str) -> BTreeSet<String> {
    let name = |line: &str| Some(line.strip_prefix("name \"")?.split_once('"')?.0.to_owned());
    help.lines().filter_map(name).collect()
}

/// The words in `-display help` and `-audiodev help`: one a line, after a heading and before an empty line.
fn listed(help: &str) -> BTreeSet<String> {
    let lines = help.lines().skip(1).take_while(|line| !line.trim().is_empty()).map(str::trim);
    lines.filter(|line| line.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(words: &[&str]) -> BTreeSet<String> {
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    #[test]
    fn reads_the_help_lists() {
        let displays =
            "Available display backend types:\nnone\negl-headless\n\nSome display backends support\n-display x\n";
        assert_eq!(listed(displays), set(&["egl-headless", "none"]));
        assert_eq!(listed("Available audio drivers:\nnone\nwav\n"), set(&["none", "wav"]));
        assert_eq!(listed(""), set(&[]));
        let devices = "Storage devices:\nname \"nvme\", bus PCI, desc \"Non-Volatile\"\nname \"x\"\n\nnoise\n";
        assert_eq!(device_names(devices), set(&["nvme", "x"]));
    }

    #[test]
    fn drivers_are_sorted_so_that_a_double_is_seen() {
        assert!(DRIVERS.is_sorted_by(|a, b| a < b));
        assert!(OBJECTS.is_sorted_by(|a, b| a < b));
    }
}
