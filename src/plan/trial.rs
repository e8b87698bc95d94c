//! The trial: what QEMU is started with once before anything is taken from the host, so that it refuses a bad command
//! line while the screen is still there.
//!
//! It is the command line of the run, less what QEMU cannot have yet, or what the host would notice:
//!
//! | left out or replaced | because |
//! |---|---|
//! | devices of the host (`vfio-pci`, `usb-host`, evdev) | the host still uses them, and QEMU would grab a keyboard |
//! | what a helper serves (TPM, shared folders) | no helper runs yet, and none may meet two QEMUs |
//! | sound is played nowhere | the sound server would see a client come and go |
//! | listening sockets become `null` | nobody may connect to the trial |
//! | locking of memory | the memory is mapped but not touched; if the launcher has filled it, it is that of the run |
//!
//! Properties that the user wrote for a device of the host are tried in a QEMU of their own, at an address that no host
//! has: QEMU sets all properties before it looks for the device.
//!
//! Windows and display servers are opened as in the run, for a moment. So are disks; `-S` is among the options, so no
//! guest runs that could write to them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Inherited, Plan};
use crate::qemu::Role;
use crate::qemu::command::{CommandLine, OptionValue, QemuOption};
use crate::units::Origin;

/// What a trial starts.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// QEMU's command line.
    pub command: CommandLine,
    /// The number of the descriptor, in QEMU, of its monitor: the only one that it inherits beside the run's files and the
    /// guest's memory, which have the numbers of the run.
    pub monitor: i32,
    /// Further command lines, each of which QEMU must refuse with [`Self::NOWHERE`] and nothing else.
    pub properties: Vec<CommandLine>,
}

impl Trial {
    /// QEMU's words for a device that is not there (`hw/vfio/pci.c`, `hw/vfio/helpers.c`).
    pub const NOWHERE: &str = "no such host device";

    /// Has QEMU open the files of these numbers by way of the host's cache: they are in memory, which some kernels refuse to
    /// open past it.
    pub fn buffered(&mut self, files: &[i32]) {
        let sets: Vec<String> = files.iter().map(|file| format!("{}{file}", QemuOption::FD_SET)).collect();
        for option in &mut self.command.options {
            let OptionValue::Json(object) = &mut option.value else { continue };
            let is_one =
                object.get("filename").and_then(Value::as_str).is_some_and(|name| sets.iter().any(|set| set == name));
            if is_one && let Some(cache) = object.get_mut("cache").and_then(Value::as_object_mut) {
                cache.insert("direct".to_owned(), false.into());
                object.insert("aio".to_owned(), "threads".into());
            }
        }
    }
}

/// An address that no host has.
const NOWHERE: &str = "ffff:ff:1f.7";

/// The trial of a plan; `None` if the run takes nothing from the host, so that a refusal of QEMU does no harm.
pub fn trial(plan: &Plan) -> Option<Trial> {
    if plan.first_taking() == plan.changes.len() {
        return None;
    }
    trial_of_any(plan)
}

/// The trial of a plan, also of one that takes nothing from the host.
pub fn trial_of_any(plan: &Plan) -> Option<Trial> {
    let monitor = plan.descriptors.iter().find(|descriptor| descriptor.what == Inherited::Qmp)?.fd;
    let mut options = Vec::with_capacity(plan.command.options.len());
    let mut gone = BTreeSet::new();
    for option in &plan.command.options {
        match tamed(option).filter(|option| !refers(option, &gone)) {
            Some(option) => options.push(option),
            // A device refers to a `-chardev` by its member `chardev`, and so on.
            None => {
                let kind = option.name.trim_start_matches('-').to_owned();
                gone.extend(member(option, "id").map(|id| (kind, id.to_owned())));
            }
        }
    }
    let binary = &plan.command.binary;
    let properties = plan.command.options.iter().filter_map(elsewhere).map(|device| {
        let quiet = || Origin::Default("properties are tried without the device".to_owned());
        let mut options = vec![QemuOption::text("-machine", "q35", quiet())];
        options.extend(["-nodefaults", "-no-user-config", "-S"].map(|name| QemuOption::flag(name, quiet())));
        options.push(QemuOption::text("-display", "none", quiet()));
        options.push(device);
        CommandLine { binary: binary.clone(), options }
    });
    let properties = properties.collect();
    Some(Trial { command: CommandLine { binary: binary.clone(), options }, monitor, properties })
}

/// A device of the host with properties of the user's, at an address that no host has and on no bus of the plan's.
fn elsewhere(option: &QemuOption) -> Option<QemuOption> {
    let OptionValue::Json(object) = &option.value else { return None };
    let raw = option.parts.iter().any(|(_, origin)| matches!(origin, Origin::Raw { .. }));
    if !raw || object.get("host").is_none() || option.role != Role::HostDevice {
        return None;
    }
    let mut object = object.clone();
    object.retain(|key, _| !["bus", "addr", "iommufd"].contains(&key.as_str()));
    object.insert("host".to_owned(), NOWHERE.into());
    Some(QemuOption::json("-device", object, option.origin.clone()))
}

/// Whether it needs an option that was left out.
fn refers(option: &QemuOption, gone: &BTreeSet<(String, String)>) -> bool {
    gone.iter().any(|(kind, id)| member(option, kind) == Some(id))
}

/// The option as the trial has it; `None` if the trial goes without it.
fn tamed(option: &QemuOption) -> Option<QemuOption> {
    match &option.role {
        Role::Plain => Some(option.clone()),
        Role::HostDevice | Role::Helper => None,
        Role::Listens => {
            let id = member(option, "id").unwrap_or_default();
            Some(QemuOption::keys(&option.name, Some("null"), option.origin.clone()).with("id", id))
        }
        Role::Sound => {
            let kept = [("driver", "none"), ("id", member(option, "id").unwrap_or_default())];
            let object = kept.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
            Some(QemuOption::json(&option.name, object, option.origin.clone()))
        }
        Role::Touches(members) => {
            let mut option = option.clone();
            let OptionValue::Json(object) = &mut option.value else { return None };
            object.retain(|key, _| !members.contains(key));
            Some(option).filter(|_| !members.is_empty())
        }
    }
}

/// A member of its value, if that is text.
fn member<'o>(option: &'o QemuOption, key: &str) -> Option<&'o str> {
    match &option.value {
        OptionValue::Json(object) => object.get(key)?.as_str(),
        _ => option.get(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::StopUnit;
    use crate::plan::PlannedChange;
    use crate::plan::sample::{Shape, host, plan};
    use crate::qemu::device::Device;

    /// What a machine's trial is started with, if something is taken for it.
    fn words(more: &str) -> String {
        let machine =
            format!("(guest: Windows10, memory: (size: \"1 GiB\", pages: Huge(\"2 MiB\")), firmware: Bios, {more})");
        let mut plan = plan(&machine, &host(Shape::simple(4, 2)));
        assert_eq!(trial(&plan), None, "nothing is taken");
        let change = StopUnit { unit: "sddm.service".to_owned() }.into();
        plan.changes.push(PlannedChange { change, origin: Origin::Default(String::new()), optional: false });
        trial(&plan).unwrap().command.argv().join(" ")
    }

    #[test]
    fn memory_is_mapped_and_not_touched() {
        let words = words("extra_args: [\"-overcommit\", \"mem-lock=on\"]");
        assert!(words.contains(r#""mem-path":"/proc/self/fd/6","share":true,"prealloc":false"#), "{words}");
        assert!(!words.contains("-overcommit") && words.contains(" -S "), "{words}");
    }

    #[test]
    fn a_file_in_memory_is_not_opened_past_the_cache() {
        let mut host = host(Shape::simple(4, 2));
        host.files.insert("/a.raw".into(), crate::host::FileFact::default());
        let plan = plan(
            "(guest: Other, memory: (size: \"1 GiB\"), disks: [(file: \"/a.raw\", create: \"8 GiB\"), (file: \"/b.raw\")])",
            &host,
        );
        let fd = plan.descriptors.iter().find_map(|descriptor| match &descriptor.what {
            Inherited::File(opened) if opened.path.ends_with("a.raw") => Some(descriptor.fd),
            _ => None,
        });
        let mut trial = trial_of_any(&plan).unwrap();
        trial.buffered(&[fd.unwrap()]);
        let words = trial.command.argv().join(" ");
        let node = |name: &str| {
            words.split("-blockdev ").find(|words| words.contains(&format!("\"node-name\":\"{name}\""))).unwrap()
        };
        assert!(
            node("disk0-file").contains(r#""direct":false"#) && node("disk0-file").contains(r#""aio":"threads""#),
            "{words}"
        );
        assert!(node("disk1-file").contains(r#""direct":true"#), "{words}");
    }

    #[test]
    fn nobody_can_connect_but_the_launcher() {
        let words = words("serial: Socket");
        assert!(words.contains("-chardev socket,id=qmp,fd=3 "), "{words}");
        for id in ["qmp-tools", "qmp-adopt", "serial0", "agent0"] {
            assert!(words.contains(&format!("-chardev null,id={id}")), "{id}: {words}");
        }
        assert_eq!(words.matches("fd=").count(), 1, "{words}");
    }

    #[test]
    fn what_a_helper_serves_is_left_out_with_what_needs_it() {
        assert!(!words("tpm: V2()").contains("tpm"));
    }

    #[test]
    fn sound_is_played_nowhere_and_the_card_stays() {
        let words = words("audio: Alsa()");
        assert!(words.contains(r#"-audiodev {"driver":"none","id":"audio0"} "#), "{words}");
        assert!(words.contains("hda-output"), "{words}");
    }

    #[test]
    fn devices_of_the_host_are_left_out_also_those_of_extra_args() {
        let words = words(
            r#"extra_args: ["-device", "nonsense,x=1", "-device", "vfio-pci,host=01:00.0", "-device", "{\"driver\": \"usb-host\"}",
               "-device", "driver=usb-host,id=a", "-object", "input-linux,id=k,evdev=/dev/input/event3", "-overcommit", "mem-lock=on",
               "-nic", "none"]"#,
        );
        assert!(words.ends_with("-device nonsense,x=1 -nic none"), "{words}");
    }

    #[test]
    fn properties_of_the_user_are_tried_at_an_address_without_a_device() {
        let mut plan = plan("(guest: Other, memory: (size: \"1 GiB\"))", &host(Shape::simple(4, 2)));
        let origin = || Origin::Default(String::new());
        let change = StopUnit { unit: "sddm.service".to_owned() }.into();
        plan.changes.push(PlannedChange { change, origin: origin(), optional: false });
        let device =
            Device::new("vfio-pci", "a").of_host().on("port-a").with("host", "0000:01:00.0").with("x-no-mmap", true);
        let plain = device.option(origin());
        let raw = Origin::Raw { field: "pci[0].properties.x-no-mmap".to_owned(), line: None };
        plan.command.options.push(plain.clone());
        assert!(trial(&plan).unwrap().properties.is_empty());
        plan.command.options.push(plain.explained("x-no-mmap", raw));
        let tried: Vec<String> = trial(&plan).unwrap().properties.iter().map(|line| line.argv().join(" ")).collect();
        let line = r#"-machine q35 -nodefaults -no-user-config -S -display none -device {"driver":"vfio-pci","id":"a","host":"ffff:ff:1f.7","x-no-mmap":true}"#;
        assert_eq!(tried, [line]);
    }
}
