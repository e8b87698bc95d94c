//! The command line as one line for a shell, for `plan --argv`: what is inherited from the launcher becomes a path, so that
//! the line works without it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::plan::{
    Content, Descriptor, GuestMemory, Helper, HelperEnd, Inherited, Keep, Link, Opened, Plan, Tap, TapPort,
};
use crate::qemu::command::{CommandLine, OptionValue, QemuOption};
use crate::units::quoted;

/// A line that can be pasted into a shell. QEMU makes the sockets itself that it would inherit, a helper must listen
/// at `NAME.sock` beside them, and the guest runs at once, since nobody is there to say `cont`.
pub fn command(line: &CommandLine, descriptors: &[Descriptor]) -> String {
    let folder = folder(descriptors);
    let mut words = quoted(&line.binary.to_string_lossy());
    let files: Vec<(String, String)> = descriptors.iter().filter_map(file).collect();
    for option in line.options.iter().filter(|option| option.name != "-S") {
        let Some(option) = without_descriptor(option, descriptors, &folder) else { continue };
        for word in option.words() {
            words.push(' ');
            let by_path = files.iter().rev().fold(word, |word, (descriptor, path)| word.replace(descriptor, path));
            words.push_str(&quoted(&by_path));
        }
    }
    words
}

/// A whole line for `plan --argv`: the folders, what is kept for the machine, the helpers, each listening at its socket,
/// and QEMU.
pub fn line(plan: &Plan) -> String {
    let path = |path: &Path| quoted(&path.to_string_lossy());
    let paths = &plan.paths;
    let display = Some(&paths.display).filter(|_| plan.uses_display_folder());
    let folders = [&paths.run, &paths.state].into_iter().chain(display).map(|folder| path(folder));
    let mut lines = vec![format!("mkdir -p {}", folders.collect::<Vec<_>>().join(" "))];
    for item in &plan.keep {
        // Not `cp -n`: how that ends with a file that is there differs between versions of coreutils.
        let once = |made: &Path, how: String| format!("{{ [ -e {} ] || {how}; }}", path(made));
        lines.push(match item {
            Keep::Folder(folder) => format!("mkdir -p {}", path(folder)),
            Keep::Copy { from, to } => once(to, format!("cp {} {}", path(from), path(to))),
            Keep::TpmState { from, to } => {
                let state = from.join(to.file_name().unwrap_or_default());
                once(to, format!("cp {} {}", path(&state), path(to)))
            }
            Keep::Image { path: image, format, size } => {
                let (name, bytes) = (format.name(), size.as_bytes());
                once(image, format!("qemu-img create -f {name} {} {bytes}", path(image)))
            }
        });
    }
    for Link { at, fd } in &plan.links {
        let file = plan.descriptors.iter().find_map(|descriptor| match &descriptor.what {
            Inherited::Content(Content::Pem { file, .. }) if descriptor.fd == *fd => Some(file),
            _ => None,
        });
        if let (Some(file), Some(folder)) = (file, at.parent()) {
            lines.push(format!("mkdir -p {} && ln -sf {} {}", path(folder), path(file), path(at)));
        }
    }
    let folder = folder(&plan.descriptors);
    for helper in &plan.helpers {
        let socket = folder.join(format!("{}.sock", helper.name));
        let mut words = helper_at(helper, &socket).iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
        if helper.is_passt() {
            words.push_str(" --runas \"$(id -u):$(id -g)\"");
        }
        lines.push(match helper.inherits.first().map(|end| end.what) {
            // swtpm listens before it leaves the foreground, so QEMU does not come too early.
            Some(HelperEnd::Connected) if !helper.is_passt() => format!("{words} --daemon"),
            Some(HelperEnd::Connected | HelperEnd::Listening) => {
                let socket = path(&socket);
                format!("{{ {words} & }} && until [ -S {socket} ] || ! kill -0 $!; do sleep 0.1; done")
            }
            None => format!("{{ {words} & }}"),
        });
    }
    let files: Vec<(String, String)> = plan.descriptors.iter().filter_map(file).collect();
    let variables = plan.environment.iter().map(|variable| {
        let value = files.iter().find(|(descriptor, _)| *descriptor == variable.value).map(|(_, path)| path);
        format!("{}={} ", variable.name, quoted(value.unwrap_or(&variable.value)))
    });
    lines.push(variables.collect::<String>() + &command(&plan.command, &plan.descriptors));
    lines.join(" && ")
}

/// The path by which QEMU has an inherited file, and that of the file itself.
fn file(descriptor: &Descriptor) -> Option<(String, String)> {
    let (Inherited::SoundServer { socket: path, .. } | Inherited::Cookie { path, .. }) = &descriptor.what else {
        return None;
    };
    Some((format!("{}{}", QemuOption::FD_PATH, descriptor.fd), path.to_string_lossy().into_owned()))
}

/// A helper's command line with a socket of this path, at which it listens, in place of the descriptor that it inherits.
/// passt needs `--runas UID:GID` too ([`Helper::is_passt`]).
pub fn helper_at(helper: &Helper, socket: &Path) -> Vec<String> {
    let fd = helper.inherits.first().map_or(0, |end| end.fd);
    let socket = socket.display();
    let in_place = |word: &String| match word.strip_prefix("--fd=") {
        Some(number) if number == fd.to_string() => format!("--socket-path={socket}"),
        _ => word.replace(&format!("clientfd={fd}"), &format!("path={socket}")),
    };
    let mut argv: Vec<String> = helper.argv.iter().map(in_place).collect();
    if let Some(at) = argv.windows(2).position(|words| words[0] == "--fd" && words[1] == fd.to_string()) {
        argv.splice(at..at + 2, ["--socket".to_owned(), socket.to_string()]);
    }
    argv
}

/// Where the machine's sockets are: beside the first that the launcher binds.
fn folder(descriptors: &[Descriptor]) -> PathBuf {
    let bound = descriptors.iter().find_map(|descriptor| match &descriptor.what {
        Inherited::Listen(path) => path.parent(),
        _ => None,
    });
    bound.unwrap_or(Path::new("/tmp")).to_owned()
}

/// The option with `path=` in place of the `fd=` of an inherited descriptor; `None` for a file in memory that is nowhere else.
fn without_descriptor(option: &QemuOption, descriptors: &[Descriptor], folder: &Path) -> Option<QemuOption> {
    let mut option = option.clone();
    by_path(&mut option, descriptors);
    let inherited = option.fds().first().and_then(|fd| descriptors.iter().find(|d| d.fd == *fd));
    let Some(inherited) = inherited else { return Some(option) };
    let (path, server) = match &inherited.what {
        Inherited::Listen(path) => (path.clone(), false),
        // Nobody is at the other end, so QEMU waits for a client.
        Inherited::Qmp => (folder.join("qmp-0.sock"), true),
        Inherited::Helper(name) => (folder.join(format!("{name}.sock")), false),
        Inherited::Device(_) | Inherited::File(_) if option.name == "-add-fd" => return None,
        Inherited::SoundServer { .. } | Inherited::Cookie { .. } | Inherited::File(_) | Inherited::Copy(_) => {
            return Some(option);
        }
        Inherited::Device(_) => {
            // QEMU knows the node, and opens it itself if it is not given a descriptor.
            if let OptionValue::Json(object) = &mut option.value {
                object.remove("vhostfd");
            }
            return Some(option);
        }
        Inherited::Tap(Tap { port: Some(TapPort { bridge, .. }), .. }) | Inherited::BridgeHelper { bridge, .. } => {
            // Its default helper makes the device; as root, and outside of the sandbox.
            return Some(instead(option, &[("type", "bridge"), ("br", bridge)]));
        }
        // Only a descriptor leads to it; QEMU says so.
        Inherited::Macvtap(_) => return Some(option),
        Inherited::Tap(tap) => {
            return Some(instead(option, &[("ifname", &tap.name), ("script", "no"), ("downscript", "no")]));
        }
        Inherited::Content(Content::AcpiTable(path)) => {
            option.set("file", path.to_string_lossy());
            return Some(option);
        }
        Inherited::Content(Content::Password(path)) => {
            // QEMU takes the line's end for a part of the password.
            if let OptionValue::Json(object) = &mut option.value {
                object.insert("file".to_owned(), path.to_string_lossy().into());
            }
            return Some(option);
        }
        Inherited::Memory(memory) => return Some(made_by_qemu(option, memory)),
        Inherited::Content(
            Content::AppleSmc(_) | Content::Pem { .. } | Content::Battery | Content::HostSmbios { .. },
        ) => return None,
    };
    if let OptionValue::Json(object) = &mut option.value {
        object.insert("addr".to_owned(), serde_json::json!({ "type": "unix", "path": path }));
    }
    if let OptionValue::Keys { keys, .. } = &mut option.value {
        for (key, value) in keys.iter_mut().filter(|(key, _)| key == "fd") {
            *key = "path".to_owned();
            *value = path.to_string_lossy().into_owned();
        }
    }
    Some(if server { option.with("server", "on").with("wait", "off") } else { option })
}

/// Puts the paths of files in place of the sets that hold their descriptors, and of the copies of files.
fn by_path(option: &mut QemuOption, descriptors: &[Descriptor]) {
    let path = |word: &str| {
        let set = word.strip_prefix(QemuOption::FD_SET);
        let number: i32 = set.or_else(|| word.strip_prefix(QemuOption::FD_PATH))?.parse().ok()?;
        let inherited = &descriptors.iter().find(|descriptor| descriptor.fd == number)?.what;
        let path = match (set, inherited) {
            (Some(_), Inherited::Device(path) | Inherited::File(Opened { path, .. })) => path,
            (None, Inherited::Copy(path)) => path,
            _ => return None,
        };
        Some(path.to_string_lossy().into_owned())
    };
    match &mut option.value {
        OptionValue::Keys { keys, .. } => {
            for (_, value) in keys {
                *value = path(value).unwrap_or_else(|| value.clone());
            }
        }
        OptionValue::Json(object) => {
            for name in ["filename", "romfile"] {
                if let Some(path) = object.get(name).and_then(|word| path(word.as_str()?)) {
                    object.insert(name.to_owned(), path.into());
                }
            }
        }
        OptionValue::Text(text) => *text = path(text).unwrap_or_else(|| text.clone()),
        OptionValue::None => {}
    }
}

/// A backend that makes the memory which it would inherit.
fn made_by_qemu(mut option: QemuOption, memory: &GuestMemory) -> QemuOption {
    if let OptionValue::Json(object) = &mut option.value {
        object.retain(|key, _| !["mem-path", "align"].contains(&key.as_str()));
        object.insert("qom-type".to_owned(), "memory-backend-memfd".into());
        if let Some(size) = memory.pages.filter(|_| !memory.or_normal) {
            object.insert("hugetlb".to_owned(), true.into());
            object.insert("hugetlbsize".to_owned(), size.as_bytes().into());
            object.insert("prealloc".to_owned(), true.into());
        }
        let nodes: BTreeSet<u32> = memory.parts.iter().flat_map(|part| part.nodes.iter()).collect();
        if !nodes.is_empty() {
            object.insert("host-nodes".to_owned(), nodes.into_iter().collect::<Vec<_>>().into());
            object.insert("policy".to_owned(), "bind".into());
        }
    }
    option
}

/// A `-netdev` that opens for itself what it would inherit.
fn instead(mut option: QemuOption, members: &[(&str, &str)]) -> QemuOption {
    if let OptionValue::Json(object) = &mut option.value {
        object.retain(|key, _| !["fd", "fds", "vhost", "vhostfd", "vhostfds"].contains(&key.as_str()));
        object.extend(members.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())));
    }
    option
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plan::{Access, HelperAccount, HelperDescriptor};
    use crate::qemu::device::Device;
    use crate::units::Origin;

    fn origin() -> Origin {
        Origin::Default("a test".to_owned())
    }

    #[test]
    fn a_helper_listens_at_a_path() {
        let helper = |argv: &[&str], what| Helper {
            name: "a".to_owned(),
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            inherits: vec![HelperDescriptor { fd: 3, what }],
            account: HelperAccount::Qemu,
            origin: origin(),
        };
        let socket = Path::new("/run/a.sock");
        let swtpm = helper(&["swtpm", "--ctrl", "type=unixio,clientfd=3"], HelperEnd::Connected);
        assert_eq!(helper_at(&swtpm, socket), ["swtpm", "--ctrl", "type=unixio,path=/run/a.sock"]);
        let virtiofsd = helper(&["virtiofsd", "--fd=3", "--shared-dir=/--fd=3"], HelperEnd::Listening);
        assert_eq!(helper_at(&virtiofsd, socket), ["virtiofsd", "--socket-path=/run/a.sock", "--shared-dir=/--fd=3"]);
    }

    #[test]
    fn inherited_descriptors_become_paths_and_the_guest_is_not_held() {
        let chardev =
            |id: &str, fd: &str| QemuOption::keys("-chardev", Some("socket"), origin()).with("id", id).with("fd", fd);
        let vsock = Device::new("vhost-vsock-pci", "v").with("guest-cid", 42).with_descriptor("vhostfd", 6);
        let tap = json!({"type": "tap", "id": "net0", "fds": "7:8", "vhost": true, "vhostfds": "9:10"});
        let tap = QemuOption::json("-netdev", tap.as_object().unwrap().clone(), origin());
        let disk = json!({"driver": "file", "filename": "/dev/fdset/10"});
        let image = Opened { path: "/a b.raw".into(), access: Access::Write, direct: true };
        let line = CommandLine {
            binary: "/usr/bin/qemu".into(),
            options: vec![
                QemuOption::flag("-S", origin()),
                chardev("qmp", "3"),
                chardev("serial", "4").with("server", "on"),
                chardev("tpm", "5"),
                QemuOption::keys("-netdev", Some("tap"), origin()).with("fd", "99"),
                tap,
                vsock.option(origin()),
                QemuOption::keys("-acpitable", None, origin()).with("file", "/proc/self/fd/8"),
                QemuOption::keys("-smbios", None, origin()).with("file", "/proc/self/fd/9"),
                QemuOption::keys("-add-fd", None, origin()).with("fd", "6").with("set", "6"),
                QemuOption::keys("-tpmdev", Some("passthrough"), origin()).with("path", "/dev/fdset/6"),
                QemuOption::keys("-add-fd", None, origin()).with("fd", "10").with("set", "10"),
                QemuOption::json("-blockdev", disk.as_object().unwrap().clone(), origin()),
                QemuOption::text("-kernel", "/proc/self/fd/11", origin()),
            ],
        };
        let descriptors = [
            Descriptor { fd: 3, what: Inherited::Qmp },
            Descriptor { fd: 4, what: Inherited::Listen("/run/my vm/serial.sock".into()) },
            Descriptor { fd: 5, what: Inherited::Helper("swtpm".to_owned()) },
            Descriptor { fd: 6, what: Inherited::Device("/dev/vhost-vsock".into()) },
            Descriptor { fd: 7, what: Inherited::Tap(Tap { name: "tap0".to_owned(), multi_queue: true, port: None }) },
            Descriptor { fd: 8, what: Inherited::Content(Content::AcpiTable("/a,b.aml".into())) },
            Descriptor { fd: 9, what: Inherited::Content(Content::HostSmbios { kind: 1, uuid: None }) },
            Descriptor { fd: 10, what: Inherited::File(image) },
            Descriptor { fd: 11, what: Inherited::Copy("/boot/vmlinuz".into()) },
        ];
        assert_eq!(
            command(&line, &descriptors),
            "/usr/bin/qemu \
             -chardev 'socket,id=qmp,path=/run/my vm/qmp-0.sock,server=on,wait=off' \
             -chardev 'socket,id=serial,path=/run/my vm/serial.sock,server=on' \
             -chardev 'socket,id=tpm,path=/run/my vm/swtpm.sock' \
             -netdev tap,fd=99 \
             -netdev '{\"type\":\"tap\",\"id\":\"net0\",\"ifname\":\"tap0\",\"script\":\"no\",\"downscript\":\"no\"}' \
             -device '{\"driver\":\"vhost-vsock-pci\",\"id\":\"v\",\"guest-cid\":42}' \
             -acpitable file=/a,,b.aml \
             -tpmdev passthrough,path=/dev/vhost-vsock \
             -blockdev '{\"driver\":\"file\",\"filename\":\"/a b.raw\"}' \
             -kernel /boot/vmlinuz"
        );
    }

    #[test]
    fn what_the_machine_keeps_is_made_once_in_every_version_of_coreutils() {
        use crate::host::TpmState;
        use crate::plan::sample::{Shape, host, plan};
        let mut host = host(Shape::simple(4, 1));
        (host.tpm_state, host.own_tpm_state) = (Some(TpmState::Usable), Some(TpmState::Missing));
        let disk = "disks: [(file: \"/a b.qcow2\", create: \"1 GiB\")]";
        let line =
            line(&plan(&format!("(guest: Other, memory: (size: \"1 GiB\"), tpm: V2(state: \"/s\"), {disk})"), &host));
        let state = host.process.state_dir.join("test/tpm/tpm2-00.permall").display().to_string();
        for words in [
            format!("&& {{ [ -e {state} ] || cp /s/tpm2-00.permall {state}; }} &&"),
            "&& { [ -e '/a b.qcow2' ] || qemu-img create -f qcow2 '/a b.qcow2' 1073741824; } &&".to_owned(),
        ] {
            assert!(line.contains(&words), "{words}\n{line}");
        }
    }
}
