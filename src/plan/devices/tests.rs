//! Which functions a machine is given, what is done to the host for them, and what speaks against it.

use crate::change::Change;
use crate::host::pci::vfio::Answer;
use crate::host::pci::{Bar, Console, Details, Holder, Link, Node, PciFunction, Resizable};
use crate::host::{Host, Pci};
use crate::plan::sample::{self, Shape};
use crate::plan::{Plan, Severity, Verdict};
use crate::units::Size;

pub(super) fn function(address: &str, ids: &str, class: u32, driver: &str, group: u32) -> PciFunction {
    let methods = vec!["flr".to_owned(), "bus".to_owned()];
    let details = Details { header: Some(0), answers: Some(true), reset_methods: Some(methods), ..Details::default() };
    PciFunction {
        address: address.parse().unwrap(),
        ids: ids.parse().unwrap(),
        subsystem: Some("1458:40bf".parse().unwrap()),
        class,
        driver: Some(driver.to_owned()),
        group: Some(group),
        port: Some("00:01.0".parse().unwrap()),
        details: Some(Box::new(details)),
    }
}

/// A host that root has started us on, with a graphics card in use, its sound, and a port above them.
pub(super) fn host() -> Host {
    let mut host = sample::host(Shape::simple(4, 2));
    host.process.uid = 0;
    let mut port = function("00:01.0", "8086:460d", 0x06_0400, "pcieport", 1);
    port.port = None;
    details(&mut port).header = Some(1);
    details(&mut port).d3cold_allowed = Some(true);
    let mut gpu = function("01:00.0", "10de:2684", 0x03_0000, "nvidia", 2);
    let its = details(&mut gpu);
    its.boot_vga = Some(true);
    its.power_control = Some("auto".to_owned());
    its.modules = ["nvidia_drm", "nvidia_modeset", "nvidia"].map(str::to_owned).to_vec();
    its.nodes = vec![Node { path: "/dev/dri/card0".into(), major: 226, minor: 0, subsystem: "drm".to_owned() }];
    its.holders = vec![holder("gnome-shell", "gdm.service")];
    its.bars = vec![Bar { index: 1, start: 1 << 38, size: gib(32), memory: true, wide: true, prefetch: true }];
    its.link = Some(Link { speed: None, width: None, max_speed: Some("16.0 GT/s PCIe".into()), max_width: Some(16) });
    let sound = function("01:00.1", "10de:22ba", 0x04_0300, "snd_hda_intel", 2);
    let mut pci = Pci { functions: vec![port, gpu, sound], iommu: Some(true), ..Pci::default() };
    pci.screen.consoles = vec![
        Console { name: "vtcon0".into(), kind: "(S) dummy device".into(), bound: false },
        Console { name: "vtcon1".into(), kind: "(M) frame buffer device".into(), bound: true },
    ];
    pci.screen.framebuffers = vec![("fb0".into(), Some("01:00.0".parse().unwrap()))];
    pci.screen.display_manager = Some("gdm.service".into());
    pci.screen.display_manager_runs = true;
    pci.address_bits = Some(46);
    host.pci = Some(pci);
    host
}

pub(super) fn holder(comm: &str, unit: &str) -> Holder {
    let (comm, unit, nodes) = (comm.to_owned(), Some(unit.to_owned()), vec!["/dev/dri/card0".into()]);
    Holder {
        pid: 812,
        comm,
        uid: Some(1000),
        user: None,
        unit,
        manager: None,
        manager_name: None,
        session: None,
        nodes,
    }
}

/// What makes an otherwise good host bad.
type Spoil = fn(&mut Host);

fn gib(n: u64) -> Size {
    Size::bytes(n << 30)
}

pub(super) fn details(function: &mut PciFunction) -> &mut Details {
    function.details.as_mut().unwrap()
}

pub(super) fn at<'a>(host: &'a mut Host, address: &str) -> &'a mut PciFunction {
    let address = address.parse().unwrap();
    host.pci.as_mut().unwrap().functions.iter_mut().find(|f| f.address == address).unwrap()
}

pub(super) fn plan(more: &str, host: &Host) -> Plan {
    sample::plan(&format!("(guest: Linux, memory: (size: \"4 GiB\"), firmware: Bios, networks: [], {more})"), host)
}

pub(super) fn changes(plan: &Plan) -> Vec<String> {
    plan.changes.iter().map(|planned| planned.change.to_string()).collect()
}

/// The findings about devices that speak against it, hard ones marked.
pub(super) fn against(plan: &Plan) -> Vec<String> {
    let pci = plan.findings.iter().filter(|f| f.key.starts_with("pci.") && f.ok == Verdict::No);
    pci.map(|f| format!("{}{}", if f.blocks() { "!" } else { "" }, f.detail)).collect()
}

/// The fields that these are about.
pub(super) fn fields(plan: &Plan) -> Vec<String> {
    let pci = plan.findings.iter().filter(|f| f.key.starts_with("pci.") && f.ok == Verdict::No);
    pci.map(|f| f.origin.as_ref().map_or_else(|| format!("{} names no field", f.key), ToString::to_string)).collect()
}

#[test]
fn devices_that_a_captured_host_does_not_have_are_missed() {
    let mut host = host();
    host.pci = None;
    let plan = plan(r#"pci: ["01:00.*"]"#, &host);
    let missed = plan.findings.iter().find(|f| f.key == "pci.exists").unwrap();
    assert_eq!((missed.ok, missed.severity), (Verdict::Unknown, Severity::Hard));
    assert!(missed.remedy.as_ref().unwrap().contains("capture the host anew") && missed.origin.is_some());
}

#[test]
fn the_screen_goes_last_and_what_is_harmless_first() {
    let plan = plan(r#"pci: [(address: "01:00.*", expect: "10de:2684")], user: "1000""#, &host());
    let own = "give /dev/vfio/2 to user 1000, group 1000";
    let changes: Vec<String> = changes(&plan).into_iter().filter(|c| !c.contains("cgroup")).collect();
    assert_eq!(
        changes,
        [
            r#"write "0" to /sys/bus/pci/devices/0000:00:01.0/d3cold_allowed"#,
            r#"write "on" to /sys/bus/pci/devices/0000:01:00.0/power/control"#,
            "stop gdm.service",
            "see that no program holds /dev/dri/card0",
            "unbind the consoles from vtcon1",
            "remove the module nvidia_drm",
            "remove the module nvidia_modeset",
            "remove the module nvidia",
            "bind 0000:01:00.1 to vfio-pci",
            "bind 0000:01:00.0 to vfio-pci",
            "wake 0000:01:00.0, 0000:01:00.1 if dead after the guest, by a reset, then a reset of its bus",
            own,
        ]
    );
    assert_eq!(plan.leases.len(), 2);
    assert!(plan.lock_memory);
}

#[test]
fn a_dead_card_is_woken_by_what_the_machine_says() {
    let wakes = |entry: &str| {
        let all = changes(&plan(&format!("pci: [{entry}]"), &host()));
        all.into_iter().filter(|change| change.starts_with("wake")).collect::<Vec<_>>()
    };
    assert_eq!(
        wakes(r#"(address: "01:00.*", revive: [Suspend, Rescan])"#),
        ["wake 0000:01:00.0, 0000:01:00.1 if dead after the guest, by suspending the host, then looking for it anew"]
    );
    assert_eq!(wakes(r#"(address: "01:00.*", revive: [])"#), [""; 0]);
    // Nothing goes back to a driver of the host's.
    let mut ready = host();
    at(&mut ready, "01:00.0").driver = Some("vfio-pci".into());
    at(&mut ready, "01:00.1").driver = None;
    assert!(!changes(&plan(r#"pci: ["01:00.*"]"#, &ready)).iter().any(|change| change.starts_with("wake")));
}

#[test]
fn what_speaks_against_a_device_is_named() {
    let rows: [(&str, Spoil, &[&str]); 22] = [
        (r#""02:00.0""#, |_| (), &["!no PCI device is at 0000:02:00.0"]),
        (
            r#""01:00.*""#,
            |host| {
                let (detail, remedy) = ("cannot open /dev/vfio/2: denied".to_owned(), "start as root".to_owned());
                host.pci.as_mut().unwrap().vfio = Some(Answer::Refuses { detail, remedy });
            },
            &["!cannot open /dev/vfio/2: denied"],
        ),
        (
            r#""01:00.*""#,
            |host| host.pci.as_mut().unwrap().has_vfio = Some(false),
            &["!this kernel has no vfio-pci driver, and no module of that name"],
        ),
        (
            r#"(address: "02:00.0", expect: "10de:2684")"#,
            |_| (),
            &["!no PCI device is at 0000:02:00.0; 10de:2684 is at 0000:01:00.0 now"],
        ),
        (
            r#"(address: "01:00.*", expect: "10de:22ba")"#,
            |_| (),
            &["!0000:01:00.0 is 10de:2684, not 10de:22ba as `expect` says, which is at 0000:01:00.1 now"],
        ),
        (
            r#""01:00.0""#,
            |_| (),
            &["!IOMMU group 2 can only be passed through as a whole, but the host uses 0000:01:00.1 (snd_hda_intel)"],
        ),
        (r#""00:01.0""#, |_| (), &["!0000:00:01.0 is a PCI bridge and cannot be passed through"]),
        (
            r#""01:00.*""#,
            |host| details(at(host, "01:00.1")).uses = vec!["/".into(), "swap".into()],
            &["!0000:01:00.1 holds the mounted file system / and holds swap space"],
        ),
        (
            r#""01:00.*""#,
            |host| details(at(host, "01:00.0")).lease = Some("other".into()),
            &["!the machine other has 0000:01:00.0"],
        ),
        (
            r#""01:00.*""#,
            |host| details(at(host, "01:00.0")).left = Some("other".into()),
            &["!0000:01:00.0 still belongs to other: its launcher died before restoring it"],
        ),
        (
            r#""01:00.*""#,
            |host| details(at(host, "01:00.0")).holders.push(holder("sunshine", "sunshine.service")),
            &["!0000:01:00.0 is open in sunshine (process 812, sunshine.service)"],
        ),
        (
            r#""01:00.*""#,
            |host| {
                let nodes = vec!["/dev/input/event3".into()];
                let logind = Holder { nodes, ..holder("systemd-logind", "systemd-logind.service") };
                details(at(host, "01:00.0")).holders.push(logind);
            },
            &[],
        ),
        (
            r#""01:00.*""#,
            |host| {
                // The kernel waits for it without end.
                let (path, subsystem) = ("/dev/i2c-4".into(), "i2c-dev".to_owned());
                let its = details(at(host, "01:00.0"));
                its.nodes.push(Node { path, major: 89, minor: 4, subsystem });
                its.holders.push(Holder { nodes: vec!["/dev/i2c-4".into()], ..holder("openrgb", "openrgb.service") });
            },
            &["!0000:01:00.0 is open in openrgb (process 812, openrgb.service)"],
        ),
        (
            r#""01:00.*""#,
            |host| host.pci.as_mut().unwrap().iommu = Some(false),
            &["!no IOMMU is enabled, so no device can be passed through"],
        ),
        (
            r#""01:00.1""#,
            |host| at(host, "01:00.1").group = None,
            &["!0000:01:00.1 is in no IOMMU group: the IOMMU does not cover it, so it cannot be passed through"],
        ),
        (
            r#""01:00.*""#,
            |host| details(at(host, "01:00.1")).answers = Some(false),
            &["!0000:01:00.1 does not answer: its configuration space reads as all ones"],
        ),
        (
            r#""01:00.*""#,
            |host| host.process.uid = 1000,
            &["!only root can bind 0000:01:00.0, 0000:01:00.1 to vfio-pci"],
        ),
        (
            r#""01:00.*""#,
            |host| {
                (host.process.uid, host.process.memlock) = (1000, Some(8 << 20));
                at(host, "01:00.0").driver = Some("vfio-pci".into());
                at(host, "01:00.1").driver = Some("vfio-pci".into());
                details(at(host, "01:00.0")).holders.clear();
            },
            &[
                "!passing a device through locks all guest memory (4 GiB), but this process may lock only 8 MiB (RLIMIT_MEMLOCK)",
            ],
        ),
        (
            r#""01:00.*""#,
            |host| host.pci.as_mut().unwrap().barriers.remaps_interrupts = Some(false),
            &["!the IOMMU does not remap interrupts, so VFIO refuses all devices"],
        ),
        (
            r#""01:00.*""#,
            |host| {
                let barriers = &mut host.pci.as_mut().unwrap().barriers;
                (barriers.remaps_interrupts, barriers.unsafe_interrupts) = (Some(false), true);
            },
            &["the IOMMU does not remap interrupts, so a guest with a device can send the host any"],
        ),
        (
            r#""01:00.*""#,
            |host| {
                let reserved = &mut host.pci.as_mut().unwrap().barriers.reserved;
                *reserved = [(2, vec![(0x7b80_0000, 0x7fff_ffff)]), (3, vec![(0, 1)])].into();
            },
            &[
                "!the firmware reserves memory for IOMMU group 2 (0x7b800000 to 0x7fffffff), so the kernel does not let a guest have it",
            ],
        ),
        (
            r#""02:00.0""#,
            |host| {
                let mut network = function("02:00.0", "8086:15f3", 0x02_0000, "igc", 3);
                details(&mut network).reset_methods = Some(vec!["bus".to_owned()]);
                let other = function("02:00.1", "8086:15f3", 0x02_0000, "igc", 4);
                host.pci.as_mut().unwrap().functions.extend([network, other]);
            },
            &["the kernel resets 0000:02:00.0 with its whole bus, and that would reset 0000:02:00.1"],
        ),
    ];
    for (entry, change, expected) in rows {
        let mut host = host();
        details(at(&mut host, "01:00.0")).boot_vga = None;
        change(&mut host);
        let plan = plan(&format!("pci: [{entry}]"), &host);
        assert_eq!(against(&plan), expected, "{entry}");
        let about = |field: &String| field.starts_with("pci") || field == "memory.size";
        assert!(fields(&plan).iter().all(about), "{:?}", fields(&plan));
    }
}

#[test]
fn a_program_that_nothing_ends_forbids_the_start_and_others_do_not() {
    let found = |spoil: fn(&mut Holder), handover: &str| {
        let mut host = host();
        let mut other = holder("sunshine", "sunshine.service");
        spoil(&mut other);
        details(at(&mut host, "01:00.0")).holders = vec![other];
        let plan = plan(&format!(r#"pci: ["01:00.*"], handover: ({handover})"#), &host);
        let finding = plan.findings.into_iter().find(|finding| finding.key == "pci.0000:01:00.0.held");
        finding.map(|finding| (finding.severity, finding.remedy.unwrap()))
    };
    let remedy = r#"write `handover: (units: ["a.service", "sunshine.service"])` to stop them for the run, or end them before the start"#;
    assert_eq!(found(|_| (), r#"units: ["a.service"]"#), Some((Severity::Hard, remedy.to_owned())));
    assert_eq!(found(|_| (), r#"units: ["sunshine.service"]"#), None);
    assert_eq!(found(|_| (), "holders: End").unwrap().0, Severity::Soft);
    // Its user may end it, or the compositor that it shows on.
    let of_a_user: fn(&mut Holder) = |holder| (holder.manager, holder.unit) = (Some(7), Some("a.service".to_owned()));
    assert_eq!(found(of_a_user, r#"display_manager: None"#).unwrap().0, Severity::Soft);
    let seated: fn(&mut Holder) = |holder| holder.session = Some("3".to_owned());
    assert_eq!(found(seated, r#"display_manager: None"#).unwrap().0, Severity::Soft);
}

#[test]
fn what_a_device_has_now_is_told_also_where_it_is_in_nobodys_way() {
    let mut host = host();
    host.pci.as_mut().unwrap().screen.boot_memory = vec![(1 << 38, (1 << 38) + 0xff_ffff)];
    let broker = Holder { uid: Some(0), ..holder("systemd-logind", "systemd-logind.service") };
    details(at(&mut host, "01:00.0")).holders.push(broker);
    let plan = plan(r#"pci: ["01:00.*"]"#, &host);
    let told = plan.findings.iter().find(|finding| finding.key == "pci.0000:01:00.0.uses").unwrap();
    assert_eq!(
        told.detail,
        "in use on 0000:01:00.0: gnome-shell (process 812, gdm.service), which ends with a unit that vfio-run stops; systemd-logind \
         (process 812, systemd-logind.service), which closes it when its sessions end; the consoles on fb0; the firmware's \
         framebuffer; the modules nvidia_drm, nvidia_modeset, nvidia"
    );
    assert_eq!(told.ok, Verdict::Yes);
}

#[test]
fn what_to_add_to_the_kernels_command_line_depends_on_it() {
    let remedy = |vendor: &str, cmdline: &str| {
        let mut host = host();
        host.pci.as_mut().unwrap().iommu = Some(false);
        host.cpus.vendor = Some(vendor.to_owned());
        host.cmdline = cmdline.split_whitespace().map(str::to_owned).collect();
        let plan = plan(r#"pci: ["01:00.*"]"#, &host);
        plan.findings.into_iter().find(|finding| finding.key == "pci.iommu").unwrap().remedy.unwrap()
    };
    assert!(remedy("GenuineIntel", "quiet").starts_with("add `intel_iommu=on` to the kernel command line"));
    assert_eq!(remedy("GenuineIntel", "intel_iommu=off"), "remove `intel_iommu=off` from the kernel command line");
    let firmware = "switch VT-d (Intel) or the IOMMU (AMD) on in the firmware's setup";
    assert_eq!(remedy("GenuineIntel", "intel_iommu=on"), firmware);
    assert_eq!(remedy("AuthenticAMD", ""), firmware);
}

#[test]
fn units_are_stopped_by_their_own_names() {
    let mut host = host();
    let screen = &mut host.pci.as_mut().unwrap().screen;
    screen.aliases = [("gdm3.service".to_owned(), "gdm.service".to_owned())].into();
    for fields in [r#"display_manager: Unit("gdm3.service")"#, r#"display_manager: None, units: ["gdm3.service"]"#] {
        let plan = plan(&format!(r#"pci: ["01:00.*"], handover: ({fields})"#), &host);
        assert!(changes(&plan).contains(&"stop gdm.service".to_owned()), "{:?}", changes(&plan));
        // What ends with it is known, so nobody is named as a holder.
        assert!(!against(&plan).iter().any(|detail| detail.contains("gnome-shell")), "{:?}", against(&plan));
    }
}

#[test]
fn a_group_in_use_names_the_card_that_its_other_members_are_on() {
    let mut host = host();
    let network = function("02:00.0", "8086:15f3", 0x02_0000, "igc", 3);
    host.pci.as_mut().unwrap().functions.push(network);
    let plan = plan(r#"pci: ["02:00.0", "01:00.0"]"#, &host);
    let finding = plan.findings.iter().find(|finding| finding.key == "pci.group2.complete").unwrap();
    assert_eq!(finding.remedy.as_deref(), Some(r#"pass the whole card through: `address: "0000:01:00.*"`"#));
    assert_eq!(finding.origin.as_ref().unwrap().to_string(), "pci[1]");
}

#[test]
fn the_field_that_is_wrong_has_its_place() {
    let lines = |known: &'static str| move |field: &str| (field == known).then_some(7);
    let at = |entry: &str, known| {
        let machine = sample::machine(&format!("(guest: Linux, memory: (size: \"4 GiB\"), pci: [{entry}])"));
        let plan = crate::plan::plan(&machine, &lines(known), &host(), &sample::qemu());
        let finding = plan.findings.into_iter().find(|finding| finding.key.ends_with(".exists") && finding.blocks());
        let finding = finding.unwrap();
        (finding.origin.unwrap().to_string(), finding.remedy.unwrap())
    };
    let remedy = |field| format!("correct `{field}`; `vfio-run devices` lists what there is");
    let whole = ("line 7: pci[0]".to_owned(), remedy("pci[0]"));
    assert_eq!(at(r#""05:00.*""#, "pci[0]"), whole);
    let field = ("line 7: pci[0].address".to_owned(), remedy("pci[0].address"));
    assert_eq!(at(r#"(address: "05:00.*")"#, "pci[0].address"), field);
}

#[test]
fn a_range_is_resized_while_no_driver_is_bound() {
    let mut host = host();
    details(at(&mut host, "01:00.0")).resizable = vec![Resizable { bar: 1, sizes: 0b1111_1100_0000_0000 }];
    details(at(&mut host, "01:00.0")).bars[0].size = gib(16);
    let bind = |plan: &Plan| {
        let changes = plan.changes.iter().map(|planned| &planned.change);
        let wanted = changes.filter(|c| matches!(c, Change::BindDriver(_) | Change::ResizeBar(_)));
        wanted.map(ToString::to_string).skip(1).collect::<Vec<_>>()
    };
    let gives = "bind 0000:01:00.0 to vfio-pci";
    assert_eq!(
        bind(&plan(r#"pci: [(address: "01:00.*", rebar: Max)]"#, &host)),
        [
            "unbind 0000:01:00.0 from its driver",
            "make BAR 1 of 0000:01:00.0 32 GiB large, or as large as its bridge has room for",
            gives
        ]
    );
    assert_eq!(bind(&plan(r#"pci: [(address: "01:00.*", rebar: Size("16 GiB"))]"#, &host)), [gives]);
    // A card that vfio-pci has from boot on goes back to it.
    at(&mut host, "01:00.0").driver = Some("vfio-pci".into());
    assert_eq!(
        bind(&plan(r#"pci: [(address: "01:00.*", rebar: Max)]"#, &host)),
        [
            "unbind 0000:01:00.0 from its driver",
            "make BAR 1 of 0000:01:00.0 32 GiB large, or as large as its bridge has room for",
            gives
        ]
    );
    assert_eq!(bind(&plan(r#"pci: [(address: "01:00.*", rebar: Size("16 GiB"))]"#, &host)), [""; 0]);
    let refused = plan(r#"pci: [(address: "01:00.*", rebar: Size("256 MiB"))]"#, &host);
    assert!(against(&refused).contains(
        &"!BAR 1 of 0000:01:00.0 cannot have that size; it can have 1 GiB, 2 GiB, 4 GiB, 8 GiB, 16 GiB, 32 GiB".into()
    ));
}

#[test]
fn the_limit_of_locked_memory_has_room_for_more_than_the_guests() {
    let found = |mib: u64| {
        let mut host = host();
        (host.process.uid, host.process.memlock) = (1000, Some(mib << 20));
        let plan = plan(r#"pci: ["01:00.*"]"#, &host);
        plan.findings.into_iter().find(|finding| finding.key == "pci.memlock").map(|finding| finding.severity)
    };
    assert_eq!(found(4095), Some(Severity::Hard));
    assert_eq!(found(4096), Some(Severity::Soft));
    assert_eq!(found(4096 + 256), None);
}

#[test]
fn a_property_that_qemu_does_not_have_is_refused_with_the_nearest_name() {
    let properties = |written: &str| {
        let machine = format!(
            "(guest: Linux, memory: (size: \"4 GiB\"), firmware: Bios, networks: [], \
              pci: [(address: \"01:00.*\", properties: {{{written}}})])"
        );
        let mut qemu = sample::qemu();
        let known = ["host", "x-no-mmap", "x-pci-sub-device-id"].map(str::to_owned);
        qemu.devices.insert("vfio-pci".to_owned(), known.into());
        let plan = crate::plan::plan(&sample::machine(&machine), &|_| None, &host(), &qemu);
        let blocking = plan.findings.into_iter().filter(|finding| finding.blocks());
        blocking.map(|finding| finding.detail).collect::<Vec<_>>()
    };
    assert!(properties(r#""x-no-mmap": true"#).is_empty());
    let refused = properties(r#""x-no-nmap": true, "x-no-mmap": true"#);
    let words = "`vfio-pci` of /usr/bin/qemu-system-x86_64 has no property `x-no-nmap`; did you mean `x-no-mmap`?";
    assert_eq!(refused, [words]);
}

#[test]
fn a_card_for_windows_without_a_keyboard_is_told() {
    let told = |guest: &str, pci: &str, more: &str| {
        let disk = "disks: [(file: \"/a.qcow2\")]";
        let machine = format!("(guest: {guest}, memory: (size: \"4 GiB\"), {disk}, pci: [{pci}]{more})");
        sample::plan(&machine, &host()).findings.iter().any(|finding| finding.key == "input.any")
    };
    assert!(told("Windows11", "\"01:00.*\"", ""));
    assert!(!told("Windows11", "\"01:00.*\"", ", input: Auto"));
    assert!(!told("Windows11", "\"01:00.*\"", ", usb: []"));
    assert!(!told("Windows11", "\"01:00.*\"", ", display: Spice()"));
    assert!(!told("Windows11", "", ""));
    assert!(!told("Linux", "\"01:00.*\"", ""));
}

#[test]
fn what_the_host_needs_has_the_remedy_that_fits() {
    let remedy = |uses: &[&str]| {
        let mut host = host();
        details(at(&mut host, "01:00.0")).uses = uses.iter().map(|used| (*used).to_owned()).collect();
        let plan = plan(r#"pci: ["01:00.*"]"#, &host);
        plan.findings.into_iter().find(|finding| finding.key == "pci.0000:01:00.0.needed").unwrap().remedy.unwrap()
    };
    assert_eq!(remedy(&["default route (eth0)"]), "route through another card, or pass another one through");
    assert!(remedy(&["/home", "swap"]).starts_with("unmount it (`umount`, `swapoff`), or"));
    assert!(remedy(&["/home", "default route (eth0)"]).contains("`swapoff`) and route through"));
    assert!(remedy(&["/home", "/"]).contains("this host itself runs from it"));
}
