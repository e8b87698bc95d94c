use std::path::Path;

use crate::machine::parse;

fn first_line(more: &str) -> String {
    let text = format!("(guest: Linux, memory: (size: \"1 GiB\"),\n{more})");
    match parse(Path::new("m.ron"), &text) {
        Ok(_) => "ok".to_owned(),
        Err(refused) => refused.to_string().lines().next().unwrap_or_default().to_owned(),
    }
}

#[track_caller]
fn table(rows: &[(&str, &str)]) {
    for (written, expected) in rows {
        assert_eq!(first_line(written), *expected, "{written}");
    }
}

#[test]
fn platform() {
    table(&[
        (r#"name: "win-11_a.b""#, "ok"),
        (r#"name: "a b""#, r#"m.ron:2:7: "a b" cannot be a machine's name"#),
        (r#"name: ".a""#, r#"m.ron:2:7: ".a" cannot be a machine's name"#),
        (r#"name: "../a""#, r#"m.ron:2:7: "../a" cannot be a machine's name"#),
        (r#"machine_type: "pc-q35-7.2""#, "ok"),
        (r#"machine_type: "q53""#, "ok"),
        (
            r#"machine_type: "pc-i440fx-7.2""#,
            r#"m.ron:2:15: `machine_type` cannot be "pc-i440fx-7.2": it has no PCI Express, which the devices of a plan need"#,
        ),
        (
            r#"machine_type: "microvm""#,
            r#"m.ron:2:15: `machine_type` cannot be "microvm": it has no PCI Express, which the devices of a plan need"#,
        ),
        ("boot_menu: 60", "ok"),
        ("boot_menu: 0", "m.ron:2:12: `boot_menu` cannot be 0"),
        ("cpu: (phys_bits: 39)", "ok"),
        ("cpu: (phys_bits: 64)", "m.ron:2:18: `cpu.phys_bits` cannot be 64"),
        (r#"firmware: Uefi(mmio_window: "256 GiB")"#, "ok"),
        (r#"firmware: Uefi(mmio_window: "1 MiB")"#, r#"m.ron:2:29: `firmware.mmio_window` cannot be "1 MiB""#),
        ("watchdog: ()", "ok"),
        ("watchdog: (action: Rest)", "m.ron:2:20: unknown value `Rest` for `watchdog.action`; did you mean `Reset`?"),
        ("panic_device: (action: Pause), sleep: (s3: true)", "ok"),
        (r#"second_serial: File("a.log")"#, "ok"),
        ("second_serial: Console", "m.ron:2:16: unknown value `Console` for `second_serial`"),
        (r#"apple_smc: (key_file: "")"#, "m.ron:2:23: `apple_smc.key_file` is empty"),
        (r#"tpm: Passthrough("/dev/tpm0")"#, "ok"),
        (r#"machine_type: "q35,accel=tcg""#, r#"m.ron:2:15: `machine_type` cannot be "q35,accel=tcg""#),
        (r#"user: "1000""#, "ok"),
        (r#"user: "a:b""#, r#"m.ron:2:7: `user` cannot be "a:b""#),
        ("shutdown_timeout: 3601", "m.ron:2:19: `shutdown_timeout` cannot be 3601"),
        ("give_back_unless: (within: 120)", "ok"),
        ("give_back_unless: None", "ok"),
        ("give_back_unless: (sign: Disk, within: 0)", "m.ron:2:40: `give_back_unless.within` cannot be 0"),
        (
            "give_back_unless: (sign: Screen, within: 9)",
            "m.ron:2:26: unknown value `Screen` for `give_back_unless.sign`",
        ),
        (r#"extra_args: ["-S", "--daemonize"]"#, "m.ron:2:20: `--daemonize` would take QEMU away from its launcher"),
        (r#"extra_args: ["a\u{0}"]"#, r#"m.ron:2:14: `extra_args[0]`: "a\0" has a control character in it"#),
        ("firmware: Uefi(vars: \"x\")", "m.ron:2:22: `firmware` has `vars` but no `code`"),
        ("firmware: Uefi(code: \"x\", vars: \"y\")", "ok"),
        (
            "firmware: Uefi(secure_boot: false, enrolled_keys: true)",
            "m.ron:2:51: `enrolled_keys: true` contradicts `secure_boot: false`",
        ),
        (r#"kernel: (image: "k"), firmware: Uefi()"#, "ok"),
    ]);
    let long = "x".repeat(2048);
    table(&[(&format!("kernel: (image: \"k\", cmdline: \"{long}\")"), "m.ron:2:31: `kernel.cmdline` has 2048 bytes")]);
}

#[test]
fn the_files_name_is_the_machines() {
    let text = "(guest: Linux, memory: (size: \"1 GiB\"))";
    assert_eq!(parse(Path::new("/etc/vfio-run/win11.ron"), text).unwrap().machine.name, "win11");
    let refused = parse(Path::new("my machine.ron"), text).unwrap_err();
    assert_eq!(
        refused.to_string().lines().next(),
        Some(r#"my machine.ron:1:1: "my machine" cannot be a machine's name"#)
    );
}

#[test]
fn memory() {
    let rows = [
        (r#"size: "16 GiB", pages: Huge("1 GiB")"#, "ok"),
        (r#"size: "0 GiB""#, "m.ron:1:31: `memory.size` cannot be 0 KiB"),
        (r#"size: "100 KiB""#, "m.ron:1:31: `memory.size` cannot be 100 KiB"),
        (r#"size: "4097 TiB""#, "m.ron:1:31: `memory.size` cannot be 4097 TiB"),
        (r#"size: "3 GiB", pages: Huge("4 MiB")"#, "m.ron:1:52: there are no huge pages of 4 MiB"),
        (
            r#"size: "1537 MiB", pages: Huge("2 MiB")"#,
            "m.ron:1:31: `memory.size` of 1537 MiB is not a whole number of 2 MiB pages",
        ),
        (r#"size: "1 GiB", nodes: """#, "m.ron:1:47: `memory.nodes` names no node"),
        (r#"size: "1 GiB", nodes: "1024""#, "m.ron:1:47: there is no NUMA node 1024"),
    ];
    for (written, expected) in rows {
        let read = parse(Path::new("m.ron"), &format!("(guest: Linux, memory: ({written}))"));
        let line = read.map_or_else(|e| e.to_string().lines().next().unwrap().to_owned(), |_| "ok".to_owned());
        assert_eq!(line, expected, "{written}");
    }
}

#[test]
fn cpu() {
    table(&[
        (r#"cpu: (vcpus: 4, pin: "0-3", topology: (cores: 2, threads: 2))"#, "ok"),
        ("cpu: (vcpus: 0)", "m.ron:2:14: `cpu.vcpus` cannot be 0"),
        ("cpu: (vcpus: 4097)", "m.ron:2:14: `cpu.vcpus` cannot be 4097"),
        (r#"cpu: (vcpus: 4, pin: "3")"#, "m.ron:2:14: `cpu.vcpus` is 4, but `cpu.pin` names 1 CPU"),
        (r#"cpu: (pin: "")"#, "m.ron:2:12: `cpu.pin` names no CPU"),
        ("cpu: (topology: (cores: 0))", "m.ron:2:25: `cpu.topology.cores` cannot be 0"),
        ("cpu: (vcpus: 4, topology: (cores: 3))", "m.ron:2:27: `cpu.topology` has 3 vCPUs, but `cpu.vcpus` is 4"),
        (r#"cpu: (pin: "0-3", topology: (cores: 1))"#, "m.ron:2:29: `cpu.topology` has 1 vCPU, but `cpu.pin` is for 4"),
        ("cpu: (topology: (cores: 99999, threads: 99999))", "m.ron:2:17: `cpu.topology` has too many vCPUs"),
        (r#"cpu: (model: "host,kvm=off")"#, r#"m.ron:2:14: `cpu.model` cannot be "host,kvm=off""#),
        (r#"cpu: (features: ["+topoext", "svm"])"#, r#"m.ron:2:30: "svm" does not switch a CPU feature"#),
        (r#"cpu: (features: ["+svm", "-svm"])"#, r#"m.ron:2:26: "-svm" contradicts an earlier `svm`"#),
    ]);
}

#[test]
fn disks() {
    let sata = r#"(file: "F", bus: Sata),"#;
    let seven: String = (0..7).map(|i| sata.replace('F', &i.to_string())).collect();
    table(&[
        (r#"disks: [(file: "a", id: "os"), (file: "b.iso"), (file: "b.iso")]"#, "ok"),
        (r#"disks: [(file: "a", create: "8 GiB")]"#, "ok"),
        (r#"disks: [(file: "a", create: "1537 KiB")]"#, "m.ron:2:29: `create` cannot be 1537 KiB"),
        (r#"disks: [(file: "a", create: "128 TiB")]"#, "m.ron:2:29: `create` cannot be 128 TiB"),
        (r#"disks: [(file: "/dev/sda", create: "8 GiB")]"#, "m.ron:2:36: `create` makes no block device"),
        (
            r#"disks: [(file: "a.iso", create: "8 GiB")]"#,
            "m.ron:2:33: a file that ends in .iso is a CD, and `create` makes no CDs",
        ),
        (r#"disks: [(file: "a", id: "1a")]"#, r#"m.ron:2:25: "1a" cannot be a disk's id"#),
        (
            r#"disks: [(file: "a", id: "x"), (file: "b", id: "x")]"#,
            r#"m.ron:2:47: id "x" is given to `disks[0]` and `disks[1]`"#,
        ),
        (
            r#"disks: [(file: "a", id: "disk1"), (file: "b")]"#,
            r#"m.ron:2:25: id "disk1" is given to `disks[0]` and `disks[1]`"#,
        ),
        (
            r#"disks: [(file: "a", boot: 1), (file: "b", boot: 1)]"#,
            "m.ron:2:49: `boot: 1` is already that of `disks[0]`",
        ),
        (r#"disks: [(file: "a", boot: 0), (file: "b", boot: 0)]"#, "ok"),
        (r#"disks: [(file: "a"), (file: "./a")]"#, "m.ron:2:29: `disks[0]` is the same file"),
        (r#"disks: [(file: "a"), (file: "./b/../a")]"#, "ok"),
        (r#"disks: [(file: "a"), (file: "b/../a", create: "8 GiB")]"#, "m.ron:2:29: `disks[0]` is the same file"),
        (
            r#"disks: [(file: "new/", create: "8 GiB")]"#,
            "m.ron:2:16: `create` makes a file, and this is the name of a folder",
        ),
        (r#"disks: [(file: "a.iso", bus: VirtioBlk)]"#, "m.ron:2:30: `bus: VirtioBlk` has no CD drives"),
        (r#"disks: [(file: "a.iso", bus: VirtioBlk, media: Disk)]"#, "ok"),
        (r#"disks: [(file: "a.iso", read_only: false)]"#, "m.ron:2:36: a CD cannot be written"),
        (r#"disks: [(file: "a", bus: Nvme, queues: 2)]"#, "m.ron:2:40: `bus: Nvme` has no `queues`"),
        (r#"disks: [(file: "a", queues: 0)]"#, "m.ron:2:29: `queues` cannot be 0"),
        (r#"disks: [(file: "a", bus: Sata, iothread: true)]"#, "m.ron:2:42: `bus: Sata` cannot use an I/O thread"),
        (r#"disks: [(file: "a", aio: Native)]"#, "ok"),
        (r#"disks: [(file: "a", aio: Native, cache: None)]"#, "ok"),
        (
            r#"disks: [(file: "a", aio: Native, cache: Writeback)]"#,
            "m.ron:2:26: `aio: Native` does not work with `cache: Writeback`",
        ),
        (
            r#"disks: [(file: "a", serial: "012345678901234567890")]"#,
            r#"m.ron:2:29: "012345678901234567890" cannot be a serial number"#,
        ),
        (
            r#"disks: [(file: "a", bus: VirtioScsi, queues: 2), (file: "b", bus: VirtioScsi, queues: 3)]"#,
            "m.ron:2:87: `queues: 3` differs from the 2 of `disks[0]`",
        ),
        ("disks: [(media: Cd), (media: Cd)]", "ok"),
        (r#"disks: [(file: "/dev/sg0", media: Lun), (file: "/dev/sdb", media: Lun, queues: 2)]"#, "ok"),
        (
            r#"disks: [(file: "/dev/sg0", media: Lun, bus: Sata)]"#,
            "m.ron:2:45: `bus: Sata` carries no commands of SCSI",
        ),
        (
            r#"disks: [(file: "/dev/sg0", media: Lun, cache: Unsafe)]"#,
            "m.ron:2:47: `media: Lun` has no `cache`: the guest speaks to the device itself",
        ),
        (r#"disks: [(file: "a", sector: (logical: 4096)), (file: "b", bus: Sata, sector: (physical: 4096))]"#, "ok"),
        (r#"disks: [(file: "a", sector: (logical: 520))]"#, "m.ron:2:39: a logical sector cannot have 520 bytes"),
        (r#"disks: [(file: "a", sector: (logical: 8192))]"#, "m.ron:2:39: a logical sector cannot have 8192 bytes"),
        (
            r#"disks: [(file: "a", bus: Sata, sector: (logical: 4096))]"#,
            "m.ron:2:50: `bus: Sata` has no logical sectors of 4096 bytes",
        ),
        (
            r#"disks: [(file: "a", sector: (physical: 131072))]"#,
            "m.ron:2:40: a physical sector cannot have 131072 bytes",
        ),
        (
            r#"disks: [(file: "a", sector: (logical: 4096, physical: 512))]"#,
            "m.ron:2:55: a physical sector of 512 bytes is smaller than a logical one of 4096",
        ),
        (r#"disks: [(file: "a.iso", sector: (logical: 4096))]"#, "m.ron:2:33: a CD's sectors have 2048 bytes"),
        (&format!("disks: [{seven}]"), "m.ron:2:147: this is the seventh SATA disk"),
    ]);
}

#[test]
fn networks() {
    table(&[
        (r#"networks: [(mac: "52:54:00:aa:BB:0c", backend: Bridge("br0"))]"#, "ok"),
        ("networks: []", "ok"),
        (r#"networks: [(mac: "52:54:00:aa:BB")]"#, r#"m.ron:2:18: "52:54:00:aa:BB" is not a MAC address"#),
        (r#"networks: [(mac: "52-54-00-aa-bb-cc")]"#, r#"m.ron:2:18: "52-54-00-aa-bb-cc" is not a MAC address"#),
        (r#"networks: [(mac: "00:00:00:00:00:00")]"#, r#"m.ron:2:18: "00:00:00:00:00:00" is no card's address"#),
        (
            r#"networks: [(mac: "01:00:5e:00:00:01")]"#,
            r#"m.ron:2:18: "01:00:5e:00:00:01" is a multicast address, no card's own: its first byte is odd"#,
        ),
        (
            r#"networks: [(mac: "52:54:00:aa:bb:cc"), (mac: "52:54:00:AA:BB:CC")]"#,
            r#"m.ron:2:46: "52:54:00:AA:BB:CC" is already the address of `networks[0]`"#,
        ),
        (r#"networks: [(backend: Tap("tap0,script=x"))]"#, "ok"),
        (r#"networks: [(backend: Tap("tap%d"))]"#, r#"m.ron:2:26: "tap%d" cannot be a network interface"#),
        (
            r#"networks: [(backend: Tap("t0")), (backend: Tap("t0"))]"#,
            r#"m.ron:2:48: "t0" is already the tap device of `networks[0]`"#,
        ),
        (r#"networks: [(backend: Bridge("br0"), queues: 8, link: Down)]"#, "ok"),
        (r#"networks: [(backend: Macvtap(interface: "eth0", mode: Passthru), queues: 2)]"#, "ok"),
        (
            r#"networks: [(backend: Macvtap(interface: "eth 0"))]"#,
            r#"m.ron:2:41: "eth 0" cannot be a network interface"#,
        ),
        (r#"networks: [(backend: Nat, subnet: "10.0.0.0/24", forward: ["80", "udp 80"]), (forward: ["81"])]"#, "ok"),
        (
            r#"networks: [(backend: Nat), (backend: Nat)]"#,
            "m.ron:2:38: a machine has one card on the shared network of `Nat`",
        ),
        (r#"networks: [(backend: Nat, forward: ["192.0.2.1:80", "0.0.0.0:81"])]"#, "ok"),
        (
            r#"networks: [(backend: Nat, forward: ["80", "127.0.0.1:8080:80"])]"#,
            "m.ron:2:43: no port of the host's loopback address leads into the shared network of `Nat`",
        ),
        (
            r#"networks: [(backend: Nat, forward: ["[2001:db8::1]:80"])]"#,
            "m.ron:2:37: the shared network of `Nat` has no IPv6",
        ),
        (r#"networks: [(subnet: "10.0.0.0/24")]"#, "m.ron:2:21: only the backend `Nat` has a `subnet`"),
        (r#"networks: [(backend: Nat, subnet: "8.8.8.0/24")]"#, "m.ron:2:35: `subnet` cannot be 8.8.8.0/24"),
        (r#"networks: [(backend: Nat, subnet: "10.0.0.0/29")]"#, "m.ron:2:35: `subnet` cannot be 10.0.0.0/29"),
        (r#"networks: [(backend: Bridge("br0"), queues: 0)]"#, "m.ron:2:45: `queues` cannot be 0"),
        (r#"networks: [(backend: Bridge("br0"), queues: 9)]"#, "m.ron:2:45: `queues` cannot be 9"),
        ("networks: [(queues: 2)]", "m.ron:2:21: a card of this model or backend has no `queues`"),
        (
            r#"networks: [(backend: Bridge("br0"), model: E1000e, queues: 2)]"#,
            "m.ron:2:60: a card of this model or backend has no `queues`",
        ),
        (
            r#"networks: [(backend: Tap("a-much-too-long-name"))]"#,
            r#"m.ron:2:26: "a-much-too-long-name" cannot be a network interface"#,
        ),
        (r#"networks: [(forward: ["tcp 3389", "udp 3389", "127.0.0.1:8080:80", "127.0.0.2:8080:80"])]"#, "ok"),
        (r#"networks: [(backend: Slirp, forward: ["6000-6010"])]"#, "ok"),
        (
            r#"networks: [(forward: ["0:80"])]"#,
            r#"m.ron:2:23: `networks[0].forward[0]`: "0:80" is not a port of the host that leads to the guest"#,
        ),
        (
            r#"networks: [(backend: Tap("tap0"), forward: ["80"])]"#,
            "m.ron:2:44: a network of this `backend` has no `forward`",
        ),
        (
            r#"networks: [(forward: ["8080:80"]), (forward: ["8000-9000"])]"#,
            "m.ron:2:47: port 8080 of the host already leads to the guest by `networks[0].forward[0]`",
        ),
        (r#"networks: [(forward: ["1-2000"])]"#, "m.ron:2:23: 2000 ports are too many"),
    ]);
}

#[test]
fn screen() {
    table(&[
        ("display: Vnc()", "ok"),
        ("display: Vnc(port: 5900)", "ok"),
        ("display: Vnc(port: 80)", "m.ron:2:20: `display.port` cannot be 80"),
        ("display: Spice(port: 80)", "ok"),
        ("display: Spice(port: 0)", "m.ron:2:22: `display.port` cannot be 0"),
        (r#"display: Vnc(address: "::1")"#, "m.ron:2:23: `display` has an `address` but no `port`"),
        ("display: Gtk, video: None", "m.ron:2:22: `video: None` leaves `display: Gtk` nothing to show"),
        ("display: Spice(), video: None", "ok"),
        ("display: Gtk(gl: true), video: VirtioGl", "ok"),
        ("display: Gtk(gl: false), video: VirtioGl", "m.ron:2:18: `gl: false` contradicts `video: VirtioGl`"),
        ("video: VirtioGl", "m.ron:2:8: `video: VirtioGl` needs a `display` that renders"),
        (r#"display: DBus(bus: "unix:path=/run/user/1000/bus", clipboard: true)"#, "ok"),
        (r#"display: DBus(bus: "/run/user/1000/bus")"#, "m.ron:2:20: `bus` cannot be \"/run/user/1000/bus\""),
        ("display: DBus, video: None", "m.ron:2:23: `video: None` leaves `display: DBus` nothing to show"),
        ("display: EglHeadless, video: VirtioGl(render_node: \"/dev/dri/renderD128\")", "ok"),
        (
            "display: EglHeadless, video: None",
            "m.ron:2:30: `video: None` leaves `display: EglHeadless` nothing to show",
        ),
        (r#"display: Spice(for_user: "alice", password_file: "pw", clipboard: false, usb_redirection: 8)"#, "ok"),
        ("display: Spice(usb_redirection: 9)", "m.ron:2:33: `usb_redirection` cannot be 9"),
        ("display: Vnc(usb_redirection: 1)", "m.ron:2:31: VNC redirects no USB devices"),
        (r#"display: Vnc(for_user: "a b")"#, r#"m.ron:2:24: `for_user` cannot be "a b""#),
        (
            r#"display: Vnc(port: 5900, for_user: "a")"#,
            "m.ron:2:36: `for_user` has no effect with a `port`, which every user of the host reaches",
        ),
        (r#"display: Vnc(port: 5900, tls: (cert: "c", key: "k"))"#, "ok"),
        (r#"display: Vnc(tls: (cert: "c", key: "k"))"#, "m.ron:2:19: `display` has `tls` but no `port`"),
        (r#"display: Vnc(port: 5900, tls: (cert: "c"))"#, "m.ron:2:31: missing field `key` in `display.tls`"),
        (
            r#"display: Vnc(password: "x")"#,
            "m.ron:2:14: unknown field `password` in `display`; did you mean `password_file`?",
        ),
        (
            r#"display: Vnc(password_file: "~/pw")"#,
            "m.ron:2:29: `display.password_file`: `~` is not your home folder here",
        ),
        (r#"display: Spice, video: Qxl, video_memory: "64 MiB""#, "ok"),
        (r#"display: Spice, video: Qxl, video_memory: "48 MiB""#, "m.ron:2:43: `video_memory` cannot be 48 MiB"),
        (r#"display: Spice, video: Cirrus, video_memory: "32 MiB""#, "m.ron:2:46: `video_memory` cannot be 32 MiB"),
        (
            r#"display: Spice, video_memory: "32 MiB""#,
            "m.ron:2:31: only the cards `Std`, `Qxl` and `Cirrus` have memory of a size to choose",
        ),
    ]);
}

#[test]
fn the_first_problem_in_the_files_order_is_told() {
    table(&[("shutdown_timeout: 0,\ncpu: (vcpus: 0)", "m.ron:2:19: `shutdown_timeout` cannot be 0")]);
    table(&[("cpu: (vcpus: 0),\nshutdown_timeout: 0", "m.ron:2:14: `cpu.vcpus` cannot be 0")]);
}

#[test]
fn relative_paths_start_from_the_files_folder() {
    let text = r#"(guest: Linux, memory: (size: "1 GiB"), qemu: "qemu-system-x86_64",
        kernel: (image: "../k", initrd: "/boot/i"), disks: [(file: "./d/x.qcow2")], serial: File("log"))"#;
    let machine = parse(Path::new("/vm/conf/m.ron"), text).unwrap().machine;
    let kernel = machine.kernel.unwrap();
    assert_eq!(kernel.image, Path::new("/vm/conf/../k"));
    assert_eq!(kernel.initrd.unwrap(), Path::new("/boot/i"));
    assert_eq!(machine.disks[0].file.as_deref(), Some(Path::new("/vm/conf/d/x.qcow2")));
    assert_eq!(machine.serial, crate::machine::Serial::File("/vm/conf/log".into()));
    assert_eq!(machine.qemu.unwrap(), Path::new("qemu-system-x86_64"));
    table(&[
        (r#"disks: [(file: "~/x")]"#, "m.ron:2:16: `disks[0].file`: `~` is not your home folder here"),
        (r#"disks: [(file: "")]"#, "m.ron:2:16: `disks[0].file` is empty"),
    ]);
}

#[test]
fn pci() {
    table(&[
        (r#"pci: ["01:00.*", "02:00.0", (address: "02:00.1", expect: "10de:22ba")]"#, "ok"),
        (
            r#"pci: [(address: "1:0.0", rebar: Max, properties: {"x-no-mmap": true, "x-pci-sub-device-id": 4318})]"#,
            "ok",
        ),
        (r#"pci: [(address: "1:0.0", rebar: Size("256 MiB"), slot: 30, reset_method: "device_specific")]"#, "ok"),
        (r#"pci: ["01:00"]"#, r#"m.ron:2:7: `pci[0]`: "01:00" is not a PCI address"#),
        (r#"pci: [1]"#, "m.ron:2:7: `pci[0]` cannot be `1`"),
        (r#"pci: [(expect: "10de:2684")]"#, "m.ron:2:7: missing field `address` in `pci[0]`"),
        (
            r#"pci: [(address: "1:0.0", expekt: "10de:2684")]"#,
            "m.ron:2:26: unknown field `expekt` in `pci[0]`; did you mean `expect`?",
        ),
        (
            r#"pci: [(address: "1:0.0", expect: "10de")]"#,
            r#"m.ron:2:34: `pci[0].expect`: "10de" is not a pair of PCI ids"#,
        ),
        (r#"pci: ["01:00.*", "01:00.1"]"#, "m.ron:2:18: `0000:01:00.1` is listed twice, as `0000:01:00.*` before"),
        (r#"pci: [(address: "1:0.0", rebar: Size("3 MiB"))]"#, "m.ron:2:38: `rebar` cannot be 3 MiB"),
        (r#"pci: [(address: "1:0.0", slot: 2)]"#, "m.ron:2:32: `pci[0].slot` cannot be 2"),
        (r#"pci: [(address: "1:0.0", reset_method: "flr bus")]"#, r#"m.ron:2:40: `reset_method` cannot be "flr bus""#),
        (
            r#"pci: [(address: "1:0.0", properties: {"host": "2:0.0"})]"#,
            "m.ron:2:47: the property `host` follows from `address`",
        ),
        (
            r#"pci: [(address: "1:0.0", x_vga: true), (address: "2:0.0", x_vga: true)]"#,
            "m.ron:2:66: `x_vga: true` for a second device",
        ),
        (r#"pci: [(address: "1:0.0", rom: "~/a.rom")]"#, "m.ron:2:31: `pci[0].rom`: `~` is not your home folder here"),
    ]);
}

#[test]
fn handover() {
    table(&[
        (r#"handover: (display_manager: None, units: ["a@b.service"], modules: ["nvidia-drm"], holders: End)"#, "ok"),
        (r#"handover: (display_manager: Unit("sddm.service"))"#, "ok"),
        (r#"handover: (display_manager: Unit("sddm"))"#, r#"m.ron:2:34: `handover.display_manager` cannot be "sddm""#),
        (r#"handover: (units: ["-.slice"])"#, r#"m.ron:2:20: `handover.units[0]` cannot be "-.slice""#),
        (r#"handover: (modules: ["a b"])"#, r#"m.ron:2:22: "a b" is not the name of a kernel module"#),
    ]);
}
