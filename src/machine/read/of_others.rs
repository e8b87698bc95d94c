//! What people write who come from other programs: the names of fields there, and files that are no RON at all.

use crate::machine::schema::Fields;

/// Names that libvirt, QEMU or front ends of theirs have for something: the part of the machine that they stand in here
/// (empty: the machine itself), the names, and the field that is meant.
const NAMES: &[(&str, &[&str], &str)] = &[
    ("", &["hostdev", "hostdevs", "hostpci", "gpu", "gpus", "vfio", "passthrough"], "pci"),
    ("", &["vcpu", "smp", "cores"], "cpu.vcpus"),
    ("", &["cputune", "vcpupin", "pinning", "affinity"], "cpu.pin"),
    ("", &["sockets", "dies", "threads"], "cpu.topology.cores"),
    ("", &["emulatorpin"], "cpu.emulator"),
    ("", &["numatune"], "memory.nodes"),
    ("", &["hugepages", "hugepage", "memoryBacking"], "memory.pages"),
    ("", &["ram", "mem", "currentMemory", "maxmem", "mem_limit"], "memory.size"),
    ("", &["loader", "nvram"], "firmware.code"),
    ("", &["ovmf", "uefi", "efi", "bios", "secureboot", "secure_boot"], "firmware"),
    ("", &["os", "ostype", "osinfo"], "guest"),
    ("", &["clock"], "rtc"),
    ("", &["drive", "drives", "hdd", "hda", "harddisk", "storage", "disk_img"], "disks.file"),
    ("", &["scsi", "sata", "ide", "virtio"], "disks.file"),
    ("", &["boot", "boot_order", "bootorder", "bootindex"], "disks.boot"),
    ("", &["nic", "net", "netdev", "interface", "bridge"], "networks.backend"),
    ("", &["hostfwd", "portforward", "port_forwards", "ports"], "networks.forward"),
    ("", &["sound", "soundhw"], "audio"),
    ("", &["ivshmem", "shmem", "kvmfr"], "looking_glass"),
    ("", &["filesystem", "filesystems", "virtiofs", "virtfs", "fsdev", "volumes"], "shares"),
    ("", &["graphics", "viewer", "spice_port", "vnc_port"], "display"),
    ("", &["vga"], "video"),
    ("", &["usb_devices", "usbdev", "redirdev"], "usb"),
    ("", &["evdev", "mouse", "keyboard"], "input"),
    ("", &["romfile", "rom"], "pci.rom"),
    ("", &["network"], "networks.backend"),
    ("", &["image", "source", "path"], "disks.file"),
    ("", &["vendor_id", "kvm_hidden"], "cpu.hide_kvm"),
    ("", &["memory_backing"], "memory.pages"),
    ("", &["smm"], "firmware"),
    ("", &["tpm2", "vtpm", "swtpm"], "tpm"),
    ("", &["qemu_args", "args", "commandline", "raw_args"], "extra_args"),
    ("cpu", &["vcpupin", "affinity", "cpuset"], "cpu.pin"),
    ("cpu", &["emulatorpin"], "cpu.emulator"),
    ("cpu", &["sockets", "dies", "smp"], "cpu.topology.cores"),
    ("cpu", &["kvm_hidden", "hidden"], "cpu.hide_kvm"),
    ("memory", &["hugepages", "hugepage", "hugetlb"], "memory.pages"),
    ("disks", &["path", "source", "image", "device", "dev"], "disks.file"),
    ("disks", &["size", "capacity"], "disks.create"),
    ("disks", &["type", "driver"], "disks.format"),
    ("disks", &["readonly", "ro"], "disks.read_only"),
    ("networks", &["bridge", "type", "network"], "networks.backend"),
    ("shares", &["source", "path", "dir", "directory"], "shares.folder"),
    ("shares", &["target", "name", "mount_tag"], "shares.tag"),
    ("networks", &["hostfwd"], "networks.forward"),
    ("pci", &["domain", "bus", "function", "host"], "pci.address"),
    ("usb", &["vendor", "product", "vendor_id", "product_id"], "usb.id"),
    ("pci", &["romfile"], "pci.rom"),
    ("display", &["listen", "bind"], "display.address"),
];

const ONE_DEVICE: &str = "leave it out: the functions of a card that are passed through are one device in the guest";

/// What has another place than a field of the machine file.
const ELSEWHERE: &[(&str, &[&str], &str)] = &[
    (
        "",
        &["autostart", "onboot", "start_on_boot", "restart"],
        "`vfio-run unit --install FILE` makes a unit, which systemd starts at boot once it is enabled",
    ),
    ("", &["description", "title", "metadata", "comment"], "write a comment: `// …`"),
    ("", &["vmid"], "leave it out: a machine is named by its file, or by `name`"),
    ("", &["devices"], "devices are fields of the machine: `disks`, `networks`, `pci`, `usb` and others"),
    ("", &["cdrom", "iso", "dvd"], "write `disks: [(file: \"setup.iso\")]`: a file that ends in .iso is a CD"),
    ("", &["spice"], "write `display: Spice`; `vfio-run help display` explains it"),
    ("", &["vnc"], "write `display: Vnc`; `vfio-run help display` explains it"),
    ("", &["multifunction"], ONE_DEVICE),
    ("pci", &["multifunction"], ONE_DEVICE),
    ("", &["iommu", "viommu"], "leave it out: the host's IOMMU is used for `pci`, and the guest has none of its own"),
    ("", &["tablet"], "leave it out: a guest with an emulated screen has a pointer"),
    ("", &["monitor", "qmp"], "leave it out: each machine has a QMP socket (`vfio-run man files`)"),
    (
        "cpu",
        &["threads"],
        "write `cpu: (vcpus: 8, topology: (cores: 4, threads: 2))`; `vfio-run help cpu.topology.threads` explains it",
    ),
    ("networks", &["user"], "write `(backend: User)`; `vfio-run help networks.backend` explains it"),
    ("cpu", &["vendor_id"], "leave it out: KVM is hidden by `hide_kvm: true`"),
];

/// What to write in place of a field's name that other programs have; `part` is the path that it stands in.
pub(super) fn in_place_of(name: &str, part: &str, fields: &Fields) -> Option<String> {
    let part = part.split(['[', '.']).next().unwrap_or_default();
    // `net0`, `hostpci1`.
    let plain = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let is = |(its, names): (&str, &[&str])| its == part && (names.contains(&name) || names.contains(&plain));
    if let Some((_, _, field)) = NAMES.iter().find(|(its, names, _)| is((its, names))) {
        return fields.snippet(field).map(|snippet| format!("write `{snippet}`; `vfio-run help {field}` explains it"));
    }
    let elsewhere = ELSEWHERE.iter().find(|(its, names, _)| is((its, names)));
    elsewhere.map(|(_, _, words)| (*words).to_owned())
}

/// What a file is that does not begin with `(`, and how a machine file begins.
pub(super) fn form(text: &str) -> Option<String> {
    const RON: &str = "`(guest: Linux, memory: (size: \"4 GiB\"))`";
    let text = text.trim_start();
    let name = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    let behind = text[name..].trim_start().chars().next();
    Some(match (text.chars().next()?, behind) {
        ('{', _) => format!("JSON has braces and names in quotes; a machine file is RON: {RON}"),
        ('<', _) => {
            "this is XML: `vfio-run import FILE -o win11.ron` makes a machine file from a libvirt domain".to_owned()
        }
        ('[', _) | (_, Some('=')) => {
            format!("a machine file is RON: fields in parentheses, `name: value`, with commas between: {RON}")
        }
        (_, Some(':')) if name > 0 => {
            format!("put `(` before the first field, `)` behind the last, and a comma behind each: {RON}")
        }
        ('-', _) => format!("this looks like YAML; a machine file is RON: {RON}"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_of_others_leads_to_a_field_and_is_none_itself() {
        let fields = Fields::of_machine();
        for (part, names, field) in NAMES {
            assert!(fields.snippet(field).is_some(), "{field}");
            for name in *names {
                let path = if part.is_empty() { (*name).to_owned() } else { format!("{part}.{name}") };
                assert!(fields.get(&path).is_none(), "{path} is a field");
            }
        }
        for (part, names, _) in ELSEWHERE {
            assert!(names.iter().all(|name| fields.get(&format!("{part}.{name}")).is_none()), "{names:?}");
        }
    }

    #[test]
    fn names_of_others_are_told_in_their_part_alone() {
        let fields = Fields::of_machine();
        let told = |name, part| in_place_of(name, part, fields).unwrap_or_default();
        assert!(told("gpu", "").starts_with("write `pci: [\"01:00.*\"]`"), "{}", told("gpu", ""));
        assert!(told("path", "disks[1]").starts_with("write `disks: [(file: "), "{}", told("path", "disks[1]"));
        assert_eq!(in_place_of("listen", "", fields), None);
        assert_eq!(in_place_of("nonsense", "", fields), None);
    }
}
