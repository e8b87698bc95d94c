//! Mistakes that people make in a machine file, and what they are told: each says what to write.

use std::path::Path;

use super::{Refused, parse};

fn refused(text: &str) -> Refused {
    parse(Path::new("m.ron"), text).map(|source| panic!("{text} is taken: {source:?}")).unwrap_err()
}

/// The help that a machine with this field gets.
fn help(field: &str) -> String {
    let refused = refused(&format!("(guest: Linux, memory: (size: \"1 GiB\"),\n{field})"));
    assert_eq!(refused.line(), Some(2), "{field}: {refused}");
    refused.help.or(refused.allowed.map(String::from)).unwrap_or_default()
}

#[track_caller]
fn table(rows: &[(&str, &str)]) {
    for (field, expected) in rows {
        assert_eq!(help(field), *expected, "{field}");
    }
}

#[test]
fn another_form_of_file_is_named_and_shown_as_ron() {
    for (text, help) in [
        ("# comment\n(guest: Linux)", "comments begin with `//`"),
        ("guest: Linux,\nmemory: (size: \"1 GiB\"),", "put `(` before the first field, `)` behind the last"),
        ("{\"guest\": \"Linux\"}", "JSON has braces and names in quotes; a machine file is RON: `(guest: Linux,"),
        ("---\nguest: Linux", "this looks like YAML; a machine file is RON: `(guest: Linux,"),
        ("guest = \"Linux\"\n[memory]\nsize = \"1 GiB\"", "a machine file is RON: fields in parentheses"),
        ("[machine]\nguest = \"Linux\"", "a machine file is RON: fields in parentheses"),
        ("<domain type=\"kvm\">", "`vfio-run import FILE -o win11.ron` makes a machine file from a libvirt domain"),
    ] {
        let said = refused(text).help.unwrap_or_default();
        assert!(said.contains(help), "{text}: {said}");
    }
}

#[test]
fn a_size_is_written_as_it_was_meant() {
    for (memory, help) in [
        ("(size: “1 GiB”)", "text stands in straight double quotes: `\"1 GiB\"`"),
        ("(size: '1 GiB')", "text stands in straight double quotes: `\"1 GiB\"`"),
        ("(size: 16 GiB)", "write `\"16 GiB\"`"),
        ("(size: 16384)", "write it with its unit: `\"16384 MiB\"`"),
        ("(size: \"16384\")", "write it with its unit: `\"16384 MiB\"`"),
        ("(size: \"16\")", "write it with its unit: `\"16 GiB\"`"),
        ("\"16G\"", "write `memory: (size: \"16G\")`"),
        ("size: \"1 GiB\"", "write `memory: (size: …)`"),
        ("{size: \"1 GiB\"}", "write `memory: (size: \"16 GiB\")`"),
        ("{\"size\": \"1 GiB\"}", "write `memory: (size: \"16 GiB\")`"),
        ("(size: \"1 GiB\", pages: Huge)", "write `Huge(\"2 MiB\")`"),
        ("(size: \"1 GiB\", pages: \"2M\")", "write `Huge(\"2M\")`"),
        ("(size: \"1 GiB\", pages: huge)", "write `pages: Huge(\"2 MiB\")`"),
        ("(size: \"1 GiB\", pages: true)", "write `pages: Auto`"),
    ] {
        let said = refused(&format!("(guest: Linux, memory: {memory})"));
        assert_eq!(said.help.as_deref(), Some(help), "{memory}: {said}");
    }
}

#[test]
fn a_field_of_libvirt_or_qemu_leads_to_ours() {
    let explained = |field: &str, snippet: &str| format!("write `{snippet}`; `vfio-run help {field}` explains it");
    for (written, field, snippet) in [
        ("vcpu: 8", "cpu.vcpus", "cpu: (vcpus: 8)"),
        ("gpu: \"01:00.0\"", "pci", "pci: [\"01:00.*\"]"),
        ("hostdev: []", "pci", "pci: [\"01:00.*\"]"),
        ("cputune: ()", "cpu.pin", "cpu: (pin: \"4-11\")"),
        ("vcpupin: []", "cpu.pin", "cpu: (pin: \"4-11\")"),
        ("numatune: ()", "memory.nodes", "memory: (size: \"16 GiB\", nodes: \"0\")"),
        ("hugepages: true", "memory.pages", "memory: (size: \"16 GiB\", pages: Huge(\"2 MiB\"))"),
        ("os: ()", "guest", "guest: Windows11"),
        ("clock: \"utc\"", "rtc", "rtc: Utc"),
        ("ram: \"1 GiB\"", "memory.size", "memory: (size: \"16 GiB\")"),
        ("romfile: \"x\"", "pci.rom", "pci: [(address: \"01:00.*\", rom: \"card.rom\")]"),
        ("vendor_id: \"x\"", "cpu.hide_kvm", "cpu: (hide_kvm: true)"),
        ("path: \"x\"", "disks.file", "disks: [(file: \"disk.qcow2\")]"),
        ("source: \"x\"", "disks.file", "disks: [(file: \"disk.qcow2\")]"),
        ("network: (bridge: \"br0\")", "networks.backend", "networks: [(backend: Bridge(\"br0\"))]"),
        ("networks: [(bridge: \"br0\")]", "networks.backend", "networks: [(backend: Bridge(\"br0\"))]"),
        ("cpu: (sockets: 1)", "cpu.topology.cores", "cpu: (topology: (cores: 4))"),
        ("disks: [(device: \"/dev/sda\")]", "disks.file", "disks: [(file: \"disk.qcow2\")]"),
        (
            "shares: [(source: \"/tmp\", tag: \"x\")]",
            "shares.folder",
            "shares: [(tag: \"data\", folder: \"/srv/data\")]",
        ),
        (
            "shares: [(folder: \"/tmp\", target: \"x\")]",
            "shares.tag",
            "shares: [(tag: \"data\", folder: \"/srv/data\")]",
        ),
        ("disks: [(path: \"x\")]", "disks.file", "disks: [(file: \"disk.qcow2\")]"),
        (
            "disks: [(file: \"x\", size: \"64G\")]",
            "disks.create",
            "disks: [(file: \"win11.qcow2\", create: \"128 GiB\")]",
        ),
        ("disks: [(file: \"x\", type: \"qcow2\")]", "disks.format", "disks: [(file: \"disk.qcow2\", format: Qcow2)]"),
        ("pci: [(bus: \"01\")]", "pci.address", "pci: [(address: \"01:00.*\")]"),
        ("sockets: 1", "cpu.topology.cores", "cpu: (topology: (cores: 4))"),
        ("hostfwd: \"x\"", "networks.forward", "networks: [(forward: [\"tcp 3389\", \"8080:80\"])]"),
        ("sound: true", "audio", "audio: Auto"),
        ("filesystems: []", "shares", "shares: [(tag: \"data\", folder: \"/srv/data\")]"),
        ("ivshmem: ()", "looking_glass", "looking_glass: (width: 2560, height: 1440)"),
    ] {
        assert_eq!(help(written), explained(field, snippet), "{written}");
    }
    let one_device = "leave it out: the functions of a card that are passed through are one device in the guest";
    table(&[
        ("multifunction: true", one_device),
        ("pci: [(address: \"01:00.0\", multifunction: true)]", one_device),
        ("cpu: (vendor_id: \"x\")", "leave it out: KVM is hidden by `hide_kvm: true`"),
        ("tablet: true", "leave it out: a guest with an emulated screen has a pointer"),
        ("cdrom: \"x.iso\"", "write `disks: [(file: \"setup.iso\")]`: a file that ends in .iso is a CD"),
        ("spice: true", "write `display: Spice`; `vfio-run help display` explains it"),
        ("shares: [\"/srv\"]", "write `(tag: \"data\", folder: \"/srv\")`"),
        ("looking-glass: ()", "field names are written with `_`: `looking_glass`"),
        (
            "autostart: true",
            "`vfio-run unit --install FILE` makes a unit, which systemd starts at boot once it is enabled",
        ),
        ("description: \"x\"", "write a comment: `// …`"),
    ]);
}

#[test]
fn one_value_in_place_of_a_part_or_a_list_gets_its_parentheses_or_brackets() {
    table(&[
        ("cpu: 8", "write `cpu: (vcpus: 8)`"),
        ("cpu: vcpus: 2", "write `cpu: (vcpus: …)`"),
        (
            "cpu: (threads: 2)",
            "write `cpu: (vcpus: 8, topology: (cores: 4, threads: 2))`; `vfio-run help cpu.topology.threads` explains it",
        ),
        ("pci: [\"/sys/bus/pci/devices/0000:01:00.0\"]", "write `\"01:00.0\"`"),
        ("pci: [\"/sys/bus/pci/devices/0001:01:00.0/\"]", "write `\"0001:01:00.0\"`"),
        ("networks: [(user: true)]", "write `(backend: User)`; `vfio-run help networks.backend` explains it"),
        ("display: Vnc(\":0\")", "write `Vnc(port: 5900)`"),
        ("display: Vnc(\"127.0.0.1:5901\")", "write `Vnc(port: 5901)`"),
        ("display: Vnc(\"anna\")", "write `Vnc(for_user: \"anna\")`"),
        ("give_back_unless: (within: \"3 min\")", "write `180`: a number of seconds, without unit and quotes"),
        ("cpu: (cores: 4)", "the number of vCPUs is `vcpus`: write `cpu: (vcpus: 4)`"),
        ("disks: [\"x.qcow2\"]", "write `(file: \"x.qcow2\")`"),
        ("disks: \"x.qcow2\"", "write `disks: [(file: \"x.qcow2\")]`"),
        ("disks: (file: \"x\")", "write `disks: [(file: …)]`"),
        ("pci: \"01:00.0\"", "write `pci: [\"01:00.0\"]`"),
        ("pci: [01:00.0]", "write `\"01:00.0\"`"),
        ("usb: \"046d:c547\"", "write `usb: [\"046d:c547\"]`"),
        ("usb: [046d:c547]", "write `\"046d:c547\"`"),
        ("extra_args: \"-device foo\"", "write `extra_args: [\"-device\", \"foo\"]`"),
        ("extra_args: [\"-device foo\"]", "write [\"-device\", \"foo\"]"),
        ("hooks: (before: \"/x\")", "write `before: [[\"/x\"]]`"),
        ("hooks: (before: [\"/x\"])", "write `[\"/x\"]`"),
        ("networks: [\"br0\"]", "write `(backend: Bridge(\"br0\"))`"),
        ("networks: false", "write `networks: []`"),
        ("give_back_unless: 180", "write `give_back_unless: (within: 180)`"),
        ("display: Spice(5900)", "write `Spice(port: 5900)`"),
        ("vsock: 3", "write `vsock: Cid(3)`"),
        ("networks: [(backend: Macvtap(\"eth0\"))]", "write `Macvtap(interface: \"eth0\")`"),
        ("looking_glass: true", "write `looking_glass: (width: 2560, height: 1440)`"),
    ]);
}

#[test]
fn a_list_of_cpus_is_written_as_it_was_meant() {
    table(&[
        ("cpu: (pin: [0, 1])", "write `\"0,1\"` in place of the list"),
        ("cpu: (pin: \"3-1\")", "write `\"1-3\"`"),
        ("cpu: (pin: \"all\")", "leave it out"),
        ("cpu: (pin: \"0-1,\")", "write `\"0-1\"`"),
        ("cpu: (pin: \"0,0\")", "CPU 0 is named twice"),
        ("cpu: (pin: \"0-3,2\")", "CPU 2 is named twice"),
        ("cpu: (vcpus: -1)", "a whole number from 1 to 4096"),
        ("cpu: (vcpus: 4.0)", "a whole number from 1 to 4096"),
        ("cpu: (vcpus: 2,,)", "one comma is enough"),
    ]);
}

#[test]
fn a_word_of_others_or_a_switch_leads_to_the_value() {
    table(&[
        ("disks: [(file: \"x\", bus: \"virtio\")]", "write `bus: VirtioBlk`"),
        ("disks: [(file: \"x\", bus: scsi)]", "write `bus: VirtioScsi`"),
        ("disks: [(file: \"x\", bus: \"ide\")]", "write `bus: Sata`"),
        ("disks: [(file: \"x\", bus: \"sata\")]", "did you mean `Sata`, without quotes?"),
        ("display: \"gtk\"", "did you mean `Gtk`, without quotes?"),
        ("firmware: \"efi\"", "write `firmware: Uefi`"),
        ("firmware: OVMF", "write `firmware: Uefi`"),
        ("tpm: true", "write `tpm: V2`"),
        ("tpm: V2(\"x\")", "write `V2(state: \"x\")`"),
        ("tpm: \"2.0\"", "write `tpm: V2`"),
        ("tpm: false", "write `tpm: None`"),
        ("serial: true", "write `serial: Console`"),
        ("pci: [(address: \"01:00.0\", rebar: true)]", "write `rebar: Max`"),
        ("pci: [(address: \"01:00.0\", rebar: false)]", "leave it out"),
        ("audio: true", "write `audio: Auto`"),
        ("input: \"auto\"", "write `input: Auto`"),
    ]);
}

#[test]
fn a_list_or_an_entry_that_is_wrong_as_a_whole_is_told_once() {
    for (field, expected) in [
        ("cpu: (pin: [0, 1])", "write `\"0,1\"` in place of the list"),
        ("cpu: (pin: [(0, 4), (1, 5)])", "write `[\"4\", \"5\"]`: the first entry is that of vCPU 0"),
        (
            "pci: [(domain: 0, bus: 1, slot: 0, function: 0)]",
            "write `\"01:00.0\"` in place of the parentheses, or `\"01:00.*\"` for the whole card",
        ),
        (
            "pci: [(domain: \"0x0001\", bus: \"0x0a\", slot: \"0x00\", function: \"0x3\")]",
            "write `\"0001:0a:00.3\"` in place of the parentheses, or `\"0001:0a:00.*\"` for the whole card",
        ),
        ("usb: [(vendor: 0x046d, product: 0xc52b)]", "write `\"046d:c52b\"` in place of the parentheses"),
        ("usb: [(vendor_id: \"46d\", product_id: \"c52b\")]", "write `\"046d:c52b\"` in place of the parentheses"),
    ] {
        let refused = refused(&format!("(guest: Linux, memory: (size: \"1 GiB\"), {field})"));
        assert_eq!(refused.help.as_deref(), Some(expected), "{field}: {refused}");
        assert!(refused.also.is_empty(), "{field}: {refused}");
    }
}

#[test]
fn what_other_programs_have_leads_the_right_way() {
    let explained = |field: &str, snippet: &str| format!("write `{snippet}`; `vfio-run help {field}` explains it");
    for (written, field) in [
        ("boot: \"cd\"", "disks.boot"),
        ("boot_order: \"cd\"", "disks.boot"),
        ("graphics: Vnc", "display"),
        ("spice_port: 5900", "display"),
        ("vga: \"qxl\"", "video"),
        ("hostpci0: \"01:00\"", "pci"),
        ("net0: \"virtio\"", "networks.backend"),
        ("scsi0: \"local:vm\"", "disks.file"),
        ("disk_img: \"x\"", "disks.file"),
        ("mem_limit: \"4g\"", "memory.size"),
        ("ports: [\"80:80\"]", "networks.forward"),
        ("volumes: [\"/srv:/data\"]", "shares"),
        ("pci: [(host: \"01:00.0\")]", "pci.address"),
    ] {
        let snippet = super::schema::Fields::of_machine().snippet(field).unwrap();
        assert_eq!(help(written), explained(field, &snippet), "{written}");
    }
    let unit = "`vfio-run unit --install FILE` makes a unit, which systemd starts at boot once it is enabled";
    table(&[
        ("onboot: 1", unit),
        ("restart: \"always\"", unit),
        ("vmid: 100", "leave it out: a machine is named by its file, or by `name`"),
        (
            "emulator: \"/usr/bin/qemu-system-x86_64\"",
            "write `qemu: \"/usr/bin/qemu-system-x86_64\"`; `vfio-run help qemu` explains it",
        ),
        ("shares: [\"/srv:/data\"]", "write `(tag: \"data\", folder: \"/srv\")`"),
        (
            "pci: [\"10de:2684\"]",
            "these are ids, of which a host can have several: write `(address: \"01:00.*\", expect: \"10de:2684\")` with \
             the address that `vfio-run devices` shows",
        ),
        ("networks: [User]", "write `(backend: User)`"),
        ("networks: [Bridge(\"br0\")]", "write `(backend: Bridge(\"br0\"))`"),
        ("shutdown_timeout: \"300s\"", "write `300`: a number of seconds, without unit and quotes"),
        ("shutdown_timeout: 30;", "fields and entries are parted by commas"),
        ("disks: [(file: \"a.raw\", create: 68719476736)]", "write it with its unit: `\"64 GiB\"`"),
        ("disks: [(file: \"a.raw\", create: \"1.5 GiB\")]", "write a whole number: `\"1536 MiB\"`"),
    ]);
    for (text, help) in [
        ("(guest: Win11, memory: (size: \"1 GiB\"))", "write `guest: Windows11`"),
        ("(guest: Linux, memory: 4096)", "write `memory: (size: \"4096 MiB\")`"),
    ] {
        assert_eq!(refused(text).help.as_deref(), Some(help), "{text}");
    }
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let text = "(\n guest: Linux, memry: 3,\n memory: (size: \"256 MiB\", pagse: 3),\n disks: [(fiel: \"x.qcow2\"), (file: \"y\", bus: Scsi)],\n vcpus: 3, cpu: (vcpus: (1)),\n)";
    let refused = refused(text);
    let all: Vec<_> =
        std::iter::once(&refused).chain(&refused.also).map(|one| (one.line(), one.message.as_str())).collect();
    assert_eq!(
        all,
        [
            (Some(2), "unknown field `memry`; did you mean `memory`?"),
            (Some(3), "unknown field `pagse` in `memory`; did you mean `pages`?"),
            (Some(4), "unknown field `fiel` in `disks[0]`; did you mean `file`?"),
            (Some(4), "unknown value `Scsi` for `disks[1].bus`"),
            (Some(5), "unknown field `vcpus`"),
            (Some(5), "`cpu.vcpus` cannot be `(`"),
        ]
    );
    assert_eq!(refused.to_string().lines().filter(|line| line.starts_with("m.ron:")).count(), 6);
    // All fields of the machine are listed only where nobody can tell which was meant.
    let lists = |refused: &Refused| refused.allowed.as_ref().is_some_and(|allowed| allowed.contains("`networks`"));
    assert!(!lists(&refused) && lists(&self::refused("(guest: Linux, xyzzy: 3)")), "{refused}");
    // What is wrong with values that are of their type.
    let refused = self::refused("(guest: Linux, memory: (size: \"0 GiB\"), boot_menu: 0, disks: [(file: \"~/a\")])");
    assert_eq!(refused.also.len(), 2, "{refused}");
    // The text is not guessed at: what is behind a syntax error is not read.
    assert!(self::refused("(guest: Linux, memory: (size: 3), name = 4)").also.is_empty());
}
