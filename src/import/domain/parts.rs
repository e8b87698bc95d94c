//! TPM, watchdog, balloon, shared memory, shares, serial ports, vsock.

use std::path::PathBuf;

use crate::import::account::{ALL, TEXT, Verdict};
use crate::import::context::Context;
use crate::import::domain::memory;
use crate::import::xml::{Node, child, children};
use crate::machine::{
    Emulated, LookingGlass, SecondSerial, Serial, Share, ShareKind, ShareOwner, Tpm, Vsock, Watchdog, WatchdogAction,
    WatchdogDevice,
};
use crate::units::Size;

/// Reads them.
pub fn read(cx: &mut Context, devices: Node) {
    tpm(cx, devices);
    watchdog(cx, devices);
    balloon(cx, devices);
    children(devices, "shmem").for_each(|node| shared_memory(cx, node));
    children(devices, "filesystem").for_each(|node| share(cx, node));
    serial(cx, devices);
    if let Some(vsock) = child(devices, "vsock") {
        let cid = child(vsock, "cid").and_then(|cid| cid.attribute("address")?.parse().ok());
        let auto = child(vsock, "cid").is_none_or(|cid| cid.attribute("auto") == Some("yes"));
        cx.machine.vsock = match cid {
            Some(cid) if !auto => Vsock::Cid(cid),
            _ => Vsock::Auto,
        };
        cx.take(vsock, &[ALL]);
    }
    for (name, words) in [
        ("iommu", "the guest has no IOMMU of its own; write QEMU's device into `extra_args` if it needs one"),
        ("memory", "memory is not plugged in later; the guest has all of `memory.size` from the start"),
        ("lease", "QEMU's own locks keep two guests from one image"),
    ] {
        children(devices, name).for_each(|node| cx.needs(node, &[ALL], words));
    }
}

fn tpm(cx: &mut Context, devices: Node) {
    let Some(node) = child(devices, "tpm") else {
        if cx.is_windows11() {
            cx.machine.tpm = Tpm::None;
            cx.comment("tpm", "It had none. Windows 11 asks for a TPM: without this line it gets one.");
        }
        return;
    };
    let Some(backend) = child(node, "backend") else { return };
    cx.done(node, &["model"], "the guest finds the kind of TPM that the firmware knows");
    match backend.attribute("type") {
        Some("passthrough") => {
            let path = child(backend, "device").and_then(|device| device.attribute("path")).unwrap_or("/dev/tpm0");
            cx.machine.tpm = Tpm::Passthrough(path.into());
            cx.take(backend, &[ALL]);
        }
        Some("emulator") => {
            cx.take(backend, &["type"]);
            let state = state(cx, backend);
            cx.machine.tpm = Tpm::V2(Emulated { state });
            if backend.attribute("version") == Some("1.2") {
                let words = format!("TPM 2.0 in place of 1.2, whose state is of no use to it, {NEW_TPM}");
                cx.needs(backend, &["version"], words);
            }
            cx.take(backend, &["version"]);
            cx.left(backend, &["persistent_state", "debug"], "the state is kept");
            cx.done(backend, &[ALL], "swtpm chooses its banks and profile");
        }
        _ => {}
    }
}

/// What follows if the state of a TPM is lost.
pub const NEW_TPM: &str =
    "so the machine gets a new TPM: have BitLocker's recovery key at hand, or switch BitLocker off before";

/// The folder of the TPM's state so far, if a copy of it is of use.
fn state(cx: &mut Context, backend: Node) -> Option<PathBuf> {
    if let Some(encryption) = child(backend, "encryption") {
        cx.needs(encryption, &[ALL], format!("the state is encrypted by a secret of libvirt's, {NEW_TPM}"));
        return None;
    }
    let source = child(backend, "source").filter(|source| source.attributes().next().is_some());
    if let Some(file) = source.filter(|source| source.attribute("type") == Some("file")) {
        cx.needs(
            file,
            &[ALL],
            format!("swtpm keeps this state in a single file, which vfio-run does not copy, {NEW_TPM}"),
        );
        return None;
    }
    if backend.attribute("version") == Some("1.2") {
        return None;
    }
    // Where libvirt keeps it unless the domain says otherwise (`qemuTPMEmulatorStorageBuildPath()`).
    let usual = |uuid| format!("/var/lib/libvirt/swtpm/{uuid}/tpm2");
    let folder = match source.map(|source| source.attribute("path")) {
        Some(path) => path.filter(|path| path.starts_with('/')).map(str::to_owned),
        None => cx.machine.uuid.map(usual),
    };
    if folder.is_none() {
        match source {
            Some(source) => {
                let words = format!("this names no folder with the TPM's state by its whole path, {NEW_TPM}");
                cx.needs(source, &[ALL], words);
            }
            None => {
                // libvirt gives one to each domain that it runs: this one never ran as it stands here.
                let words = "a new TPM: libvirt calls the folder of a TPM's state after the domain's UUID, and this one has none; if there \
                             is a state, `tpm: V2(state: \"/…\")` takes it over";
                cx.account.remark(Verdict::DoneByItself, words);
            }
        }
        return None;
    }
    let words = "vfio-run copies the TPM's state once (BitLocker, PIN), and leaves libvirt's as it is";
    cx.comment("tpm", "The TPM's state so far: vfio-run copies it once, and leaves it as it is.");
    match source {
        Some(source) => cx.taken(source, &[ALL], words),
        None => cx.account.remark(Verdict::TakenOver, words),
    }
    folder.map(PathBuf::from)
}

fn watchdog(cx: &mut Context, devices: Node) {
    for (index, node) in children(devices, "watchdog").enumerate() {
        if index > 0 || cx.is_windows() {
            let words = "Windows has no driver for a watchdog, so it never barks";
            cx.left(node, &[ALL], if index > 0 { "one watchdog is enough" } else { words });
            continue;
        }
        let device = match node.attribute("model") {
            Some("i6300esb") => WatchdogDevice::I6300esb,
            _ => WatchdogDevice::Itco,
        };
        let action = match node.attribute("action") {
            Some("shutdown") => WatchdogAction::Shutdown,
            Some("poweroff") => WatchdogAction::PowerOff,
            Some("pause") => WatchdogAction::Pause,
            Some("inject-nmi") => WatchdogAction::InjectNmi,
            Some("none") => WatchdogAction::None,
            _ => WatchdogAction::Reset,
        };
        cx.machine.watchdog = Some(Watchdog { device, action });
        cx.take(node, &[ALL]);
    }
}

fn balloon(cx: &mut Context, devices: Node) {
    let Some(node) = child(devices, "memballoon") else { return };
    let pinned = children(devices, "hostdev").any(|device| device.attribute("type") == Some("pci"));
    match node.attribute("model") {
        Some("none") => cx.done(node, &[ALL], "there is no balloon unless the file says so"),
        _ if pinned => cx.improved(
            node,
            &[ALL],
            "no memory balloon: devices that are passed through pin all of the guest's memory, and the balloon only takes time",
        ),
        _ => {
            cx.machine.memory.balloon = true;
            cx.take(node, &[ALL]);
        }
    }
}

fn shared_memory(cx: &mut Context, node: Node) {
    let name = node.attribute("name").unwrap_or_default();
    let size = child(node, "size").and_then(|size| memory::size(size, "B"));
    match (name, size) {
        ("looking-glass" | "looking-glass.bin", Some(size)) => {
            looking_glass(cx, size);
            cx.take(node, &[ALL]);
        }
        (name, _) if name.starts_with("scream") => {
            cx.machine.scream = true;
            cx.take(node, &[ALL]);
        }
        (name, Some(size))
            if name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) && !name.is_empty() =>
        {
            cx.machine.extra_args.extend([
                "-object".to_owned(),
                format!("memory-backend-file,id={name},mem-path=/dev/shm/{name},size={},share=on", size.as_bytes()),
                "-device".to_owned(),
                format!("ivshmem-plain,memdev={name}"),
            ]);
            cx.taken(node, &[ALL], "shared memory for a program of your own has no field, so it is in `extra_args`");
        }
        _ => {}
    }
}

/// Looking Glass with memory of this size.
pub fn looking_glass(cx: &mut Context, size: Size) {
    cx.machine.looking_glass = Some(LookingGlass { size: Some(size), ..LookingGlass::default() });
    cx.account.remark(
        Verdict::DoneByItself,
        "Looking Glass's memory is there before the guest and yours to open, in kvmfr's device if that is loaded: no hook, no tmpfiles.d, no \
         AppArmor rule is needed",
    );
}

/// A folder that is shared, of which nothing else is said.
pub fn shared_folder(tag: String, folder: PathBuf) -> Share {
    Share { tag, folder, read_only: false, owner: ShareOwner::Folder, kind: ShareKind::Auto }
}

fn share(cx: &mut Context, node: Node) {
    let path = child(node, "source").and_then(|source| source.attribute("dir"));
    let tag = child(node, "target").and_then(|target| target.attribute("dir"));
    let (Some(path), Some(tag)) = (path, tag) else {
        return cx.needs(
            node,
            &[ALL],
            "`shares: [(tag: \"data\", folder: \"/srv/data\")]` says which folder the guest has",
        );
    };
    let clean: String =
        tag.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).take(36).collect();
    let virtiofs = child(node, "driver").is_some_and(|driver| driver.attribute("type") == Some("virtiofs"));
    if clean != tag {
        let target = child(node, "target");
        target.into_iter().for_each(|target| {
            cx.improved(target, &["dir"], format!("the tag is {clean:?}: a mount in the guest must name it so"))
        });
    }
    cx.machine.shares.push(Share {
        tag: clean,
        folder: PathBuf::from(path),
        read_only: child(node, "readonly").is_some(),
        // libvirt takes no other mode for virtiofs, and a Windows guest knows no owners of the host.
        owner: match node.attribute("accessmode") {
            Some("passthrough") if !cx.is_windows() => ShareOwner::Guest,
            _ => ShareOwner::Folder,
        },
        kind: if virtiofs { ShareKind::Auto } else { ShareKind::NineP },
    });
    for part in ["source", "target", "readonly"] {
        child(node, part).into_iter().for_each(|part| cx.take(part, &["dir", TEXT]));
    }
    if cx.is_windows() && node.attribute("accessmode") == Some("passthrough") {
        let words =
            "files that the guest makes belong to the folder's owner, not to root: Windows knows no owners of the host";
        cx.improved(node, &["accessmode"], words);
    }
    cx.take(node, &["type", "accessmode"]);
    if let Some(driver) = child(node, "driver") {
        cx.take(driver, &["type"]);
    }
    cx.done(node, &[ALL], "vfio-run starts virtiofsd with what it needs");
}

fn serial(cx: &mut Context, devices: Node) {
    let mut ports = 0;
    for node in children(devices, "serial") {
        for log in children(node, "log") {
            cx.left(log, &[ALL], "no copy of what the port says is kept; `serial: File(\"serial.log\")` keeps it all");
        }
        let path =
            child(node, "source").and_then(|source| source.attribute("path")).filter(|path| path.starts_with('/'));
        let kind = node.attribute("type").unwrap_or_default();
        match (kind, path) {
            ("pty" | "null" | "vc", _) if cx.is_windows() || kind != "pty" => {
                cx.left(node, &[ALL], "nobody talks to the guest by its serial port");
                continue;
            }
            ("pty" | "unix", _) => port(cx, ports, Serial::Socket, SecondSerial::Socket),
            ("file", Some(path)) => port(cx, ports, Serial::File(path.into()), SecondSerial::File(path.into())),
            _ => {
                cx.needs(
                    node,
                    &[ALL],
                    "a serial port leads to a file or a socket: `serial: File(\"serial.log\")` or `serial: Socket`",
                );
                continue;
            }
        }
        if ports < 2 {
            cx.take(node, &[ALL]);
        } else {
            cx.left(node, &[ALL], "there are two serial ports");
        }
        ports += 1;
    }
    for node in children(devices, "console") {
        let virtio = child(node, "target").and_then(|target| target.attribute("type")) == Some("virtio");
        match ports {
            _ if !virtio => {}
            _ if cx.is_windows() => cx.left(node, &[ALL], "Windows has no console on virtio"),
            0 => cx.needs(
                node,
                &[ALL],
                "there is no console on virtio (hvc0): `serial: Socket` gives the guest a serial port (ttyS0), which `vfio-run console` \
                 opens; the guest's command line names it: `console=ttyS0`",
            ),
            _ => cx.left(node, &[ALL], "the guest's serial port is its console"),
        }
    }
}

fn port(cx: &mut Context, ports: u32, first: Serial, second: SecondSerial) {
    match ports {
        0 => cx.machine.serial = first,
        1 => cx.machine.second_serial = second,
        _ => {}
    }
}
