//! Command lines of scripts: nothing of an option is lost without a word, and what goes into `extra_args` has all that it needs.

use std::path::Path;

use crate::import::{Beside, Imported, Verdict, script};

fn imported(options: &str) -> Imported {
    let beside = Beside { root: None, home: None, hooks: None, path: Path::new("/machine.ron") };
    script(&format!("qemu-system-x86_64 -m 4G -display none {options}\n"), "/x/a.sh", beside).unwrap()
}

/// All that needs a person, in one text.
fn needs(imported: &Imported) -> String {
    let entries = imported.entries.iter().filter(|entry| entry.verdict == Verdict::NeedsYou);
    entries.map(|entry| format!("{} {:?}\n", entry.words, entry.places)).collect()
}

/// The words of `extra_args`.
fn extra(imported: &Imported) -> Vec<String> {
    let read = crate::machine::parse(Path::new("/machine.ron"), &imported.file);
    read.unwrap_or_else(|refused| panic!("{refused}\n{}", imported.file)).machine.extra_args
}

/// Options, what the file then says, and what needs a person (nothing if empty).
fn holds(cases: &[(&str, &str, &str)]) {
    for (options, file, person) in cases {
        let made = imported(options);
        let needs = needs(&made);
        extra(&made);
        assert!(made.file.contains(file), "{options}: {file} is not in {}", made.file);
        assert!(needs.contains(person), "{options}: {person} is not in {needs:?}");
        assert_eq!(needs.is_empty(), person.is_empty(), "{options}: {needs}");
    }
}

#[test]
fn what_extra_args_refer_to_comes_along() {
    for (options, words) in [
        // No field says this device, so it is QEMU's with its thread and its nodes.
        (
            "-object iothread,id=io0 -blockdev null-co,node-name=q1 -device virtio-blk-pci,drive=q1,iothread=io0",
            vec!["iothread,id=io0", "null-co,node-name=q1", "virtio-blk-pci,drive=q1,iothread=io0"],
        ),
        (
            "-device usb-ccid,id=reader -chardev pty,id=card -device ccid-card-passthru,chardev=card",
            vec!["usb-ccid", "pty,id=card", "ccid-card-passthru"],
        ),
        (
            "-object memory-backend-file,id=m,size=1M,mem-path=/dev/shm/mine,share=on -device ivshmem-plain,memdev=m",
            vec!["memory-backend-file,id=m", "ivshmem-plain,memdev=m"],
        ),
        ("-audiodev none,id=a -device virtio-sound-pci,audiodev=a", vec!["none,id=a", "virtio-sound-pci,audiodev=a"]),
        (
            "-M q35 -machine memory-encryption=sev0,vmport=off -object sev-guest,id=sev0",
            vec!["memory-encryption=sev0", "sev-guest,id=sev0"],
        ),
        ("-netdev user,id=n -device usb-net,netdev=n", vec!["user,id=n", "usb-net"]),
    ] {
        let made = imported(options);
        let extra = extra(&made).join(" ");
        words.iter().for_each(|word| assert!(extra.contains(word), "{options}: {word} is not in {extra}"));
        assert_eq!(needs(&made), "", "{options}");
    }
    // What only dropped words refer to goes with them.
    let dropped = imported(
        "-M q35,memory-backend=m -object memory-backend-file,id=m,size=4G,mem-path=/dev/shm -numa node,memdev=m",
    );
    assert_eq!(extra(&dropped), Vec::<String>::new());
    let usb_net = imported("-netdev user,id=n -device usb-net,netdev=n");
    assert!(usb_net.file.contains("networks: []"), "{}", usb_net.file);
}

#[test]
fn a_member_without_a_field_is_told() {
    holds(&[
        ("-netdev user,id=u,restrict=on -device virtio-net-pci,netdev=u", "networks: [()]", "`restrict=on`"),
        ("-nic user,model=virtio,tftp=/t", "networks: [()]", "`tftp=/t`"),
        ("-netdev user,id=u,restrict=off -device virtio-net-pci,netdev=u", "networks: [()]", ""),
        ("-netdev user,id=u -device virtio-net-pci,netdev=u,host_mtu=9000", "networks: [()]", "`host_mtu=9000`"),
        ("-netdev user,id=u -device e1000-82545em,netdev=u", "model: E1000)", "`e1000-82545em`"),
        ("-netdev user,id=u -device virtio-net-pci,netdev=u,mac=53:54:00:00:00:01", "networks: [()]", ""),
        ("-net user -net nic,model=virtio,macaddr=52:54:00:00:00:01", r#"[(mac: "52:54:00:00:00:01")]"#, ""),
        ("-M q35,nvdimm=on", "", "`nvdimm=on`"),
        ("-M q35,mem-merge=off,dump-guest-core=on,usb=off,kernel_irqchip=on", "merge: false, dump: true", ""),
        ("-boot once=d,menu=on", "boot_menu: 3", "`once=d`"),
        ("-cpu host,host-phys-bits=off,pmu=off,migratable=no", r#"["-host-phys-bits", "-pmu"]"#, ""),
        ("-drive file=/a.img,if=virtio,throttling.bps-total=9,werror=stop", "/a.img", ""),
        ("-fda /a.img", "", "floppy"),
        ("-spice port=5930,password=abc", "Spice(port: 5930)", "password_file"),
        ("-spice port=5930,addr=127.0.0.1,disable-copy-paste=on", "clipboard: false", ""),
        ("-vnc :1,password=on", "Vnc(port: 5901)", "password_file"),
        ("-serial pty -serial file:/a.log", r#"second_serial: File("/a.log")"#, ""),
        ("-device usb-host,hostdevice=/dev/bus/usb/001/004", "", "lsusb"),
        (
            "-device virtio-blk-pci,drive=d,physical_block_size=4096 -drive id=d,if=none,file=/a.img",
            "physical: 4096",
            "",
        ),
        ("-device virtio-blk-pci,drive=d,foo=1 -drive id=d,if=none,file=/a.img", "/a.img", "`foo=1`"),
    ]);
}

#[test]
fn old_options_become_the_fields_that_say_them() {
    holds(&[
        ("-smp 2 -vcpu vcpunum=0,affinity=2 -vcpu vcpunum=1,affinity=8", r#"pin: ["2", "8"]"#, ""),
        ("-smp 2 -vcpu vcpunum=1,affinity=8", r#"pin: ["Any", "8"]"#, ""),
        ("-smb /srv/share", "/srv/share", ""),
        ("-netdev user,id=u,smb=./shared -device virtio-net-pci,netdev=u", r#"folder: "/x/shared""#, ""),
        ("-redir tcp:2222::22", r#"forward: ["tcp 2222:22"]"#, ""),
        ("-usbdevice host:1.4", "", "lsusb"),
        ("-usbdevice host:046d:c547", "046d:c547", ""),
        (
            "-netdev user,id=fox,hostfwd=tcp::24800-:24800 -net nic,netdev=fox",
            r#"[(model: E1000, forward: ["tcp 24800"])]"#,
            "",
        ),
        ("-smbios type=1,manufacturer=MSI,uuid=00000000-0000-0000-0000-309c236442bb", "309c236442bb", ""),
        ("-device piix4-ide,id=ide -drive id=d,if=none,file=/a.img -device ide-hd,drive=d,bus=ide.0", "/a.img", ""),
        (
            "-blockdev host_device,node-name=q,filename=/dev/x/y -device virtio-blk-pci,drive=q,iothread=i -object iothread,id=i",
            "/dev/x/y",
            "",
        ),
        (
            "-audiodev jack,id=a,out.client-name=vm,out.connect-ports=Built-in* -device ich9-intel-hda -device hda-output,audiodev=a",
            "Built-in*",
            "",
        ),
    ]);
}

#[test]
fn disks_come_in_the_order_of_their_places() {
    for (options, order) in [
        ("-hdb /b.img -hda /a.img", ["/a.img", "/b.img"]),
        ("-drive file=/b.img,index=1 -drive file=/a.img,index=0", ["/a.img", "/b.img"]),
        (
            "-drive file=/b.img,id=b,if=none -device ide-hd,bus=ide.1,drive=b -drive file=/a.img,id=a,if=none -device ide-hd,bus=ide.0,drive=a",
            ["/a.img", "/b.img"],
        ),
        ("-cdrom /a.iso -hda /b.img", ["/b.img", "/a.iso"]),
        ("-cdrom /a.iso -hda /b.img -boot d", ["/a.iso", "/b.img"]),
        ("-drive file=/a.img -drive file=/b.img", ["/a.img", "/b.img"]),
    ] {
        let file = imported(options).file;
        let at = |name: &str| file.find(name).unwrap_or_else(|| panic!("{name} is not in {file}"));
        assert!(at(order[0]) < at(order[1]), "{options}: {file}");
    }
}

#[test]
fn a_disk_that_forgets_keeps_its_words_and_its_place_in_the_boot_order() {
    let made = imported(
        "-device ich9-ahci,id=sata -drive id=OC,if=none,snapshot=on,format=qcow2,file=./OC.qcow2 \
         -device ide-hd,bus=sata.2,drive=OC -drive id=Mac,if=none,file=/mac.img,format=qcow2 -device ide-hd,bus=sata.4,drive=Mac",
    );
    assert_eq!(
        extra(&made),
        [
            "-device",
            r#"{"driver":"ide-hd","drive":"OC","bootindex":1}"#,
            "-drive",
            "if=none,id=OC,snapshot=on,format=qcow2,file=/x/OC.qcow2"
        ]
    );
    assert!(made.file.contains("boot: 2"), "{}", made.file);
    let alone = imported("-drive file=/b.img,if=virtio,snapshot=on,format=raw");
    assert!(extra(&alone)[1].contains("virtio-blk-pci") && extra(&alone)[3].starts_with("if=none,id=thrown0,file="));
    assert_eq!(needs(&alone), "");
}

#[test]
fn flash_whose_path_only_the_shell_knows_is_uefi() {
    let made = imported("-drive if=pflash,format=raw,file=$CODE -fw_cfg name=opt/ovmf/X-PciMmio64Mb,string=65536");
    assert!(!made.file.contains("Bios") && made.file.contains("64 GiB"), "{}", made.file);
    assert!(needs(&made).contains("$CODE"));
    let secure = imported(
        "-drive if=pflash,format=raw,file=/OVMF_CODE.fd -drive if=pflash,format=raw,file=/VARS.fd \
         -global driver=cfi.pflash01,property=secure,value=on",
    );
    assert!(secure.file.contains("secure_boot: true"), "{}", secure.file);
}

#[test]
fn a_store_that_is_a_copy_named_after_the_process_is_what_it_is_a_copy_of() {
    let of = |first: &str| {
        let beside = Beside { root: None, home: None, hooks: None, path: Path::new("/machine.ron") };
        let flash = "-drive if=pflash,file=/CODE.fd -drive if=pflash,file=/tmp/VARS.fd.$$";
        script(&format!("{first}\nqemu-system-x86_64 -m 4G -vga none {flash}\n"), "/x/a.sh", beside).unwrap()
    };
    let copied = of("cp /usr/VARS.fd /tmp/VARS.fd.$$");
    assert!(copied.file.contains(r#"Uefi(code: "/CODE.fd", vars: "/usr/VARS.fd")"#), "{}", copied.file);
    assert_eq!(needs(&copied), "");
    assert!(needs(&of("true")).contains("is a copy of"));
}

#[test]
fn a_second_machine_option_says_nothing_of_the_board() {
    let made = imported("-M q35 -machine vmport=off");
    assert!(!made.entries.iter().any(|entry| entry.words.contains("i440fx")), "{:?}", made.entries);
}

#[test]
fn a_card_that_nobody_would_see_has_the_window_that_qemu_gives_it() {
    let of = |options: &str| {
        let beside = Beside { root: None, home: None, hooks: None, path: Path::new("/machine.ron") };
        script(&format!("qemu-system-x86_64 -m 4G {options}\n"), "/x/a.sh", beside).unwrap().file
    };
    assert!(of("-vga virtio").contains("display: Gtk"));
    assert!(of("").contains("display: Gtk"));
    for options in ["-vga none", "-nographic", "-vga virtio -display none", "-device vfio-pci,host=01:00.0"] {
        assert!(!of(options).contains("display"), "{options}: {}", of(options));
    }
}

#[test]
fn a_guest_that_knows_no_ps2_keeps_its_usb_keyboard() {
    let made = imported("-name macos -usb -device usb-kbd,bus=usb-bus.0 -device usb-tablet");
    assert!(made.file.contains("usb: []"), "{}", made.file);
    assert_eq!(extra(&made), ["-device", r#"{"driver":"usb-kbd"}"#, "-device", r#"{"driver":"usb-tablet"}"#]);
}

#[test]
fn a_tpm_whose_state_nobody_names_is_told() {
    let tpm = "-chardev socket,id=c,path=/run/swtpm-sock -tpmdev emulator,id=t,chardev=c -device tpm-tis,tpmdev=t";
    assert!(needs(&imported(tpm)).contains("BitLocker"));
}

#[test]
fn a_machine_without_devices_of_qemus_own_has_no_network_either() {
    assert!(imported("-nodefaults").file.contains("networks: []"));
    assert!(!imported("").file.contains("networks"));
}
