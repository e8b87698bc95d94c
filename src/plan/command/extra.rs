//! What the user adds to the end of the command line. The words stay as they are; only what they do to the host is read
//! from them, in QEMU's own words, so that the trial goes without it.

use super::super::draft::{Draft, nearest};
use crate::plan::Severity;
use crate::plan::process::tcp;
use crate::qemu::Role;
use crate::qemu::command::QemuOption;

/// Drivers that take a device of the host. So do those of vhost-user, which have a program of the host's behind them, and of
/// vhost-vdpa.
const DEVICES: [&str; 8] = [
    "u2f-passthru",
    "usb-host",
    "vfio-ap",
    "vfio-ccw",
    "vfio-pci",
    "vfio-pci-nohotplug",
    "virtio-input-host-device",
    "virtio-input-host-pci",
];
/// Types of objects that do, or that call on another program.
const OBJECTS: [&str; 3] = ["input-linux", "input-barrier", "iommufd"];
/// Character devices that open a port of the host's.
const PORTS: [&str; 4] = ["parallel", "parport", "serial", "tty"];
/// Network backends that take something of the host's for themselves, or have a program behind them.
const NETDEVS: [&str; 6] = ["af-xdp", "l2tpv3", "netmap", "vde", "vhost-user", "vhost-vdpa"];
/// Members by which one option names another that may be left out, with that one's option.
const REFERENCES: [(&str, &str); 3] = [("chardev", "chardev"), ("netdev", "netdev"), ("tpmdev", "tpmdev")];

/// The words of `extra_args`.
pub(super) fn write(draft: &mut Draft) {
    let words = &draft.machine.extra_args;
    let mut role = None;
    let mut gone = Vec::new();
    for (index, word) in words.iter().enumerate() {
        let origin = draft.raw(&format!("extra_args[{index}]"));
        // A value does what its option does.
        let role = role.take().unwrap_or_else(|| {
            let of_both = words.get(index + 1).map_or(Role::Plain, |value| role_of(word, value, &mut gone));
            role = Some(of_both.clone()).filter(|role| !role.is_plain());
            of_both
        });
        draft.push(QemuOption::flag(word, origin).with_role(role));
    }
    if let Some(word) = words.first().filter(|word| !word.starts_with('-')) {
        let detail = format!("`{word}` does not begin with `-`, so QEMU takes it for the image of a disk");
        draft.no("extra_args.option", Severity::Soft, detail, &format!("write `-{word}` if it is an option"));
        draft.about("extra_args[0]");
    }
    for (index, pair) in words.windows(2).enumerate() {
        if let [option, value] = pair
            && matches!(option.as_str(), "-device" | "--device")
        {
            is_known(draft, index + 1, &kind(value, "driver"));
        }
    }
    for (index, address) in draft.machine.raw_ports() {
        let field = format!("extra_args[{index}]");
        tcp::free(draft, &field, &field, &format!("`{}`", words[index]), address);
    }
}

/// Warns of a device that this QEMU does not have. It forbids nothing: QEMU knows some by a second name, such as `virtio-net`.
fn is_known(draft: &mut Draft, index: usize, driver: &str) {
    let devices = &draft.qemu.devices;
    let second = matches!(driver, "ahci" | "lsi" | "e1000-82540em") || devices.contains_key(&format!("{driver}-pci"));
    if devices.is_empty() || devices.contains_key(driver) || second || driver.is_empty() || driver == "help" {
        return;
    }
    let near = nearest(driver, devices.keys().map(String::as_str))
        .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    let detail = format!("{} knows no device `{driver}`{near}", draft.qemu.binary.display());
    let remedy = "`qemu-system-x86_64 -device help` lists them; `vfio-run check --try` asks QEMU whether it takes the whole line";
    draft.no(&format!("extra_args[{index}].device"), Severity::Soft, detail, remedy);
    draft.about(&format!("extra_args[{index}]"));
}

/// What an option of this value does. What takes something of the host's is added to `gone` with its id: who refers to it can
/// do no more without it.
fn role_of(name: &str, value: &str, gone: &mut Vec<(String, String)>) -> Role {
    let Some(option) = name.strip_prefix("--").or_else(|| name.strip_prefix('-')) else { return Role::Plain };
    // `-overcommit mem-lock=on` locks all memory.
    if option == "overcommit" {
        return Role::Touches(Vec::new());
    }
    let refers = REFERENCES.iter().any(|(key, to)| {
        let id = member(value, key).or_else(|| Some(value.strip_prefix(key)?.strip_prefix(':')?.to_owned()));
        id.is_some_and(|id| gone.iter().any(|(kind, of)| kind == to && *of == id))
    });
    if !refers && !takes(option, value) {
        return Role::Plain;
    }
    gone.extend(member(value, "id").map(|id| (option.to_owned(), id)));
    Role::HostDevice
}

/// Whether it takes a device of the host's, or calls on a program that would see two QEMUs, one after the other.
fn takes(option: &str, value: &str) -> bool {
    let serves = || {
        let word = |word: &str| matches!(word, "server" | "server=on" | "server=true");
        value.split(',').any(word) || member(value, "server").as_deref() == Some("true")
    };
    match option {
        "device" => {
            let driver = kind(value, "driver");
            DEVICES.contains(&driver.as_str()) || driver.starts_with("vhost-user-") || driver.starts_with("vhost-vdpa-")
        }
        "object" => OBJECTS.contains(&kind(value, "qom-type").as_str()),
        "chardev" => {
            let backend = kind(value, "backend");
            PORTS.contains(&backend.as_str()) || backend == "socket" && !serves()
        }
        "netdev" => match kind(value, "type").as_str() {
            "stream" => !serves(),
            "socket" => member(value, "connect").is_some(),
            kind => NETDEVS.contains(&kind),
        },
        "tpmdev" => kind(value, "type") == "passthrough",
        "serial" | "parallel" | "monitor" | "qmp" | "debugcon" => {
            let target = value.strip_prefix("mon:").unwrap_or(value);
            let connects = ["tcp:", "telnet:", "unix:"].iter().any(|scheme| target.starts_with(scheme));
            target.starts_with("/dev/") || connects && !serves()
        }
        _ => false,
    }
}

/// A member of a value: of its JSON, or among its words.
fn member(value: &str, key: &str) -> Option<String> {
    match serde_json::from_str::<serde_json::Value>(value) {
        Ok(serde_json::Value::Object(object)) => match object.get(key)? {
            serde_json::Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        },
        _ => value.split(',').find_map(|word| word.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned),
    }
}

/// The driver or type that a value names: a member of its JSON, or its first word, whose key may be left out.
fn kind(value: &str, key: &str) -> String {
    let json = serde_json::from_str::<serde_json::Value>(value).ok();
    let named = json.as_ref().map(|json| json.get(key).and_then(|kind| kind.as_str()).unwrap_or_default());
    let first = || {
        let words = value.split(',');
        let of_key = words.clone().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        of_key.or(words.clone().next()).unwrap_or_default()
    };
    named.unwrap_or_else(first).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::sample;
    use crate::units::Origin;

    #[test]
    fn a_device_that_qemu_does_not_have_is_told() {
        let said = |arguments: &str| {
            let text = format!(r#"(guest: Other, memory: (size: "1 GiB"), extra_args: [{arguments}])"#);
            let plan = sample::plan(&text, &sample::host(sample::Shape::simple(4, 1)));
            let found = plan.findings.into_iter().find(|finding| finding.key.starts_with("extra_args"));
            found.map(|found| (found.blocks(), found.detail))
        };
        let detail = |words: &str| Some((false, format!("/usr/bin/qemu-system-x86_64 knows no device {words}")));
        assert_eq!(said(r#""-device", "foo,bar=1""#), detail("`foo`"));
        assert_eq!(
            said(r#""-device", "{\"driver\": \"usb-tablt\"}""#),
            detail("`usb-tablt`; did you mean `usb-tablet`?")
        );
        let image = "`device` does not begin with `-`, so QEMU takes it for the image of a disk";
        assert_eq!(said(r#""device", "foo""#), Some((false, image.to_owned())));
        for known in ["usb-tablet,id=a", "virtio-net", "ahci", "driver=usb-tablet", "help"] {
            assert_eq!(said(&format!("\"-device\", \"{known}\"")), None, "{known}");
        }
    }

    #[test]
    fn what_takes_a_device_of_the_host_is_told_in_every_form_that_qemu_takes() {
        for (name, value) in [
            ("-device", "vfio-pci,host=01:00.0"),
            ("--device", "driver=usb-host,id=a"),
            ("-device", "id=a,driver=usb-host"),
            ("-device", r#"{"driver": "vfio-pci", "host": "01:00.0"}"#),
            ("-object", "input-linux,id=kbd,evdev=/dev/input/event3"),
            ("-object", r#"{"qom-type": "iommufd", "id": "a"}"#),
            ("-object", "input-barrier,id=a,name=vm"),
            ("-chardev", "serial,id=a,path=/dev/ttyS0"),
            ("-chardev", "socket,id=a,path=/run/x"),
            ("-netdev", "vhost-vdpa,id=a,vhostdev=/dev/vhost-vdpa-0"),
            ("-netdev", r#"{"type": "stream", "id": "a", "server": false}"#),
            ("-netdev", "socket,id=a,connect=127.0.0.1:1"),
            ("-tpmdev", "passthrough,id=a"),
            ("-serial", "/dev/ttyUSB0"),
            ("-serial", "mon:tcp:127.0.0.1:1"),
            ("-device", "vhost-user-fs-pci,chardev=a"),
        ] {
            assert_eq!(role_of(name, value, &mut Vec::new()), Role::HostDevice, "{name} {value}");
        }
        assert_eq!(role_of("-overcommit", "mem-lock=on", &mut Vec::new()), Role::Touches(Vec::new()));
        for (name, value) in [
            ("-device", "virtio-balloon-pci"),
            ("-device", r#"{"driver": "e1000e"}"#),
            ("-object", "rng-builtin,id=a"),
            ("-name", "vfio-pci"),
            ("device", "vfio-pci"),
            ("-S", "-device"),
            ("-chardev", "socket,id=a,path=/run/x,server=on,wait=off"),
            ("-chardev", "pty,id=a"),
            ("-netdev", r#"{"type": "stream", "id": "a", "server": true}"#),
            ("-netdev", "user,id=a"),
            ("-netdev", "socket,id=a,listen=:1"),
            ("-tpmdev", "emulator,id=a,chardev=b"),
            ("-serial", "mon:stdio"),
            ("-serial", "unix:/run/x,server,nowait"),
        ] {
            assert_eq!(role_of(name, value, &mut Vec::new()), Role::Plain, "{name} {value}");
        }
    }

    #[test]
    fn what_refers_to_what_the_trial_goes_without_goes_with_it() {
        let text = r#"(guest: Other, memory: (size: "1 GiB"), extra_args: ["-chardev", "socket,id=fs,path=/run/fs",
            "-device", "vhost-user-fs-pci,chardev=fs,tag=a", "-netdev", "vhost-user,id=n,chardev=fs",
            "-device", "virtio-net-pci,netdev=n", "-device", "virtio-net-pci,netdev=m", "-serial", "chardev:fs"])"#;
        let plan = sample::plan(text, &sample::host(sample::Shape::simple(4, 2)));
        let raw = plan.command.options.iter().filter(|option| matches!(option.origin, Origin::Raw { .. }));
        let kept: Vec<&str> = raw.filter(|option| option.role.is_plain()).map(|option| option.name.as_str()).collect();
        assert_eq!(kept, ["-device", "virtio-net-pci,netdev=m"]);
    }
}
