//! What the user adds to the end of the command line. The words stay as they are; only what they do to the host is read
//! from them, in QEMU's own words, so that the trial goes without it.

use super::super::draft::Draft;
use crate::plan::process::tcp;
use crate::qemu::Role;
use crate::qemu::command::QemuOption;

/// Drivers that take a device of the host.
const DEVICES: [&str; 7] = [
    "usb-host",
    "vfio-ap",
    "vfio-ccw",
    "vfio-pci",
    "vfio-pci-nohotplug",
    "virtio-input-host-device",
    "virtio-input-host-pci",
];
/// Types of objects that do.
const OBJECTS: [&str; 2] = ["input-linux", "iommufd"];

/// The words of `extra_args`.
pub(super) fn write(draft: &mut Draft) {
    let words = &draft.machine.extra_args;
    let mut role = None;
    for (index, word) in words.iter().enumerate() {
        let origin = draft.raw(&format!("extra_args[{index}]"));
        // A value does what its option does.
        let role = role.take().unwrap_or_else(|| {
            let of_both = words.get(index + 1).map_or(Role::Plain, |value| role_of(word, value));
            role = Some(of_both.clone()).filter(|role| !role.is_plain());
            of_both
        });
        draft.push(QemuOption::flag(word, origin).with_role(role));
    }
    for (index, address) in draft.machine.raw_ports() {
        let field = format!("extra_args[{index}]");
        tcp::free(draft, &field, &field, &format!("`{}`", words[index]), address);
    }
}

/// What an option of this value does.
fn role_of(name: &str, value: &str) -> Role {
    let of_host = match name.trim_start_matches('-') {
        // `-overcommit mem-lock=on` locks all memory.
        "overcommit" => return Role::Touches(Vec::new()),
        "device" => DEVICES.contains(&kind(value, "driver").as_str()),
        "object" => OBJECTS.contains(&kind(value, "qom-type").as_str()),
        _ => false,
    };
    if of_host && name.starts_with('-') { Role::HostDevice } else { Role::Plain }
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

    #[test]
    fn what_takes_a_device_of_the_host_is_told_in_every_form_that_qemu_takes() {
        for (name, value) in [
            ("-device", "vfio-pci,host=01:00.0"),
            ("--device", "driver=usb-host,id=a"),
            ("-device", "id=a,driver=usb-host"),
            ("-device", r#"{"driver": "vfio-pci", "host": "01:00.0"}"#),
            ("-object", "input-linux,id=kbd,evdev=/dev/input/event3"),
            ("-object", r#"{"qom-type": "iommufd", "id": "a"}"#),
        ] {
            assert_eq!(role_of(name, value), Role::HostDevice, "{name} {value}");
        }
        assert_eq!(role_of("-overcommit", "mem-lock=on"), Role::Touches(Vec::new()));
        for (name, value) in [
            ("-device", "virtio-balloon-pci"),
            ("-device", r#"{"driver": "e1000e"}"#),
            ("-object", "rng-builtin,id=a"),
            ("-name", "vfio-pci"),
            ("device", "vfio-pci"),
            ("-S", "-device"),
        ] {
            assert_eq!(role_of(name, value), Role::Plain, "{name} {value}");
        }
    }
}
