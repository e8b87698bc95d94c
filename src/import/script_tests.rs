//! What becomes of scripts: which command is QEMU's, what is around it, and what only a run would tell.

use super::*;

fn imported(text: &str) -> Imported {
    let beside = Beside { root: None, home: None, hooks: None, path: Path::new("/machine.ron") };
    script(text, "/x/a.sh", beside).unwrap_or_else(|refused| panic!("{text}: {refused}"))
}

/// The verdict of what an entry quotes, and why.
fn verdict(imported: &Imported, quoted: &str) -> (Verdict, String) {
    let quotes = |entry: &&Entry| entry.places.iter().any(|place| place.text.contains(quoted));
    let entry = imported.entries.iter().find(quotes);
    let entry = entry.unwrap_or_else(|| panic!("{quoted}: {:#?}", imported.entries));
    (entry.verdict, entry.words.clone())
}

/// The remark with these words.
fn remark(imported: &Imported, words: &str) -> Option<Verdict> {
    imported.entries.iter().find(|entry| entry.words.contains(words)).map(|entry| entry.verdict)
}

#[test]
fn qemu_is_the_program_and_no_word_of_another_command() {
    let groups = imported(
        "ip tuntap add dev tap0 mode tap user me group kvm and more words than qemu has\nsudo modprobe kvm\n\
         sudo usermod -aG kvm $USER\nsystemctl start kvm\nqemu-system-x86_64 -M q35 -m 4G\n",
    );
    assert!(groups.file.contains("4 GiB"), "{}", groups.file);
    assert_eq!(remark(&groups, "more than one way"), None, "{:#?}", groups.entries);
    for text in [
        "tmux new-session -d -s qemu \"cd /x; qemu-system-x86_64 -M q35 -m 4G\"\n",
        "tmux new-session -d -s qemu qemu-system-x86_64 -M q35 -m 4G\n",
        "screen -dmS kvm kvm -M q35 -m 4G\n",
        "QEMU=$(which qemu-system-x86_64)\n$QEMU -M q35 -m 4G\n",
        "QEMU=\"$(command -v kvm || command -v qemu-system-x86_64)\"\n\"$QEMU\" -M q35 -m 4G\n",
        "`which qemu-kvm` -M q35 -m 4G\n",
        "sudo -Hu me bash -c \"taskset -c 0-7 qemu-system-x86_64 -M q35 -m 4G\"\n",
    ] {
        let imported = imported(text);
        assert!(imported.file.contains("4 GiB") && !imported.file.contains("extra_args"), "{text}: {}", imported.file);
        assert!(!imported.needs_person(), "{text}: {:#?}", imported.entries);
    }
    let beside = Beside { root: None, home: None, hooks: None, path: Path::new("/machine.ron") };
    for text in ["pgrep -f qemu-system-x86_64 -l\n", "sudo pkill qemu\n", "x=$(pidof qemu-system-x86_64)\n"] {
        assert!(script(text, "a.sh", beside).is_err(), "{text}");
    }
}

#[test]
fn each_word_before_qemu_has_an_entry() {
    let text = "XDG_RUNTIME_DIR=/run/user/1 sudo -u me env QEMU_PA_SERVER=/run/x MINE=1 taskset -c 2,3 chrt -f 1 nice -n -10 wrap --all qemu-system-x86_64 -m 4G\n";
    let imported = imported(text);
    for (quoted, expected, words) in [
        ("XDG_RUNTIME_DIR=/run/user/1", Verdict::DoneByItself, "the desktop"),
        ("sudo -u me", Verdict::DoneByItself, "user id of its own"),
        ("QEMU_PA_SERVER=/run/x", Verdict::DoneByItself, "sound server"),
        ("MINE=1", Verdict::NeedsYou, "without what these words do"),
        ("taskset -c 2,3", Verdict::DoneByItself, "pin: \"2,3\""),
        ("chrt -f 1", Verdict::DoneByItself, "real time"),
        ("nice -n -10", Verdict::DoneByItself, "real time"),
        ("wrap --all", Verdict::NeedsYou, "without what these words do"),
    ] {
        let (verdict, why) = verdict(&imported, quoted);
        assert_eq!(verdict, expected, "{quoted}: {why}");
        assert!(why.contains(words), "{quoted}: {why}");
    }
    let isolated = self::imported("cset proc -e -s vm -- qemu-system-x86_64 -m 4G\n");
    assert!(isolated.file.contains("isolate: Partition"), "{}", isolated.file);
    assert_eq!(verdict(&isolated, "cset proc -e -s vm").0, Verdict::TakenOver);
}

#[test]
fn options_that_the_end_of_a_line_cut_off_are_qemus() {
    for text in [
        "qemu-system-x86_64 \\\n  -enable-kvm \\\n  # memory\n  -m 4G \\\n  # CPU\n  -smp 2\n",
        "qemu-system-x86_64 -enable-kvm\n  -m 4G -smp 2\n",
        "qemu-system-x86_64 -enable-kvm \\ \n  -m 4G -smp 2\n",
    ] {
        let imported = imported(text);
        assert!(imported.file.contains("4 GiB") && imported.file.contains("vcpus: 2"), "{text}: {}", imported.file);
        assert!(!imported.file.contains("extra_args") && !imported.file.contains("hooks"), "{}", imported.file);
        assert_eq!(remark(&imported, "lacks `\\`"), Some(Verdict::Improved), "{:#?}", imported.entries);
        assert!(!imported.needs_person(), "{:#?}", imported.entries);
    }
    // Elsewhere it is nobody's, and still no program.
    let elsewhere = imported("qemu-system-x86_64 -m 4G > /tmp/log\necho done\n-vga none\n");
    let (verdict, why) = verdict(&elsewhere, "-vga none");
    assert_eq!(verdict, Verdict::NeedsYou);
    assert!(why.contains("no program begins with `-`"), "{why}");
}

#[test]
fn memory_that_is_not_known_needs_the_user() {
    for (text, needs) in [
        ("qemu-system-x86_64 -m $(free -g)G\n", true),
        ("qemu-system-x86_64 $OPTS\n", true),
        ("qemu-system-x86_64 -M q35 \"$@\"\n", false),
        ("qemu-system-x86_64 -m 128\n", false),
        ("qemu-system-x86_64 -m 4G -name $NAME\n", false),
    ] {
        let imported = imported(text);
        let expected = needs.then_some(Verdict::NeedsYou);
        assert_eq!(remark(&imported, "memory is not known"), expected, "{text}: {:#?}", imported.entries);
    }
}

#[test]
fn what_a_machine_file_may_not_say_is_left_out_with_a_word() {
    let text = "qemu-system-x86_64 -M q35 -m 4G -nic user,mac=01:00:5e:00:00:01 -nic user,mac=52:54:0:0:0:1 -nic user,mac=52:54:00:00:00:01 \
                -device vfio-pci,host=01:00.0,x-vga=on -device vfio-pci,host=02:00.0,x-vga=on\n";
    let imported = imported(text);
    assert_eq!(remark(&imported, "would be refused"), None, "{:#?}", imported.entries);
    assert!(!imported.file.contains("01:00:5e") && imported.file.contains("52:54:00:00:00:01"), "{}", imported.file);
    assert_eq!(imported.file.matches("52:54").count(), 1, "{}", imported.file);
    assert_eq!(remark(&imported, "is another card's"), Some(Verdict::Improved));
    assert_eq!(imported.file.matches("x_vga").count(), 1, "{}", imported.file);
    assert_eq!(remark(&imported, "multicast"), Some(Verdict::Improved));
    assert_eq!(remark(&imported, "`x_vga` of 0000:02:00.0"), Some(Verdict::Improved), "{:#?}", imported.entries);
}

#[test]
fn one_computed_member_does_not_take_its_option_along() {
    let text = "qemu-system-x86_64 -M q35 -m 4G -netdev bridge,id=n,br=br0 -device virtio-net-pci,netdev=n,mac=$(cat /m) \
                -netdev user,id=u,hostfwd=tcp::$PORT-:22,hostfwd=tcp::3389-:3389 -device e1000e,netdev=u \
                -device vfio-pci,host=01:00.0,romfile=$ROM -drive file=/a.img,if=virtio,serial=$S\n";
    let imported = imported(text);
    for part in ["Bridge(\"br0\")", "3389", "01:00.0", "/a.img"] {
        assert!(imported.file.contains(part), "{part}: {}", imported.file);
    }
    assert!(!imported.file.contains("extra_args") && !imported.file.contains('$'), "{}", imported.file);
    for quoted in ["mac=$(cat /m)", "hostfwd=tcp::$PORT-:22", "romfile=$ROM", "serial=$S"] {
        let (verdict, why) = verdict(&imported, quoted);
        assert_eq!(verdict, Verdict::NeedsYou, "{quoted}");
        assert!(why.contains("only the rest is taken over"), "{why}");
    }
}

#[test]
fn a_tap_device_that_the_script_puts_on_a_bridge_is_a_bridges_port() {
    let qemu =
        "qemu-system-x86_64 -M q35 -m 4G -netdev tap,id=n,ifname=tap0,script=no -device virtio-net-pci,netdev=n\n";
    for before in [
        "sudo ip tuntap add mode tap tap0\nsudo ip link set tap0 master br0\nsudo ip link set tap0 up\n",
        "tunctl -t tap0 -u me\nbrctl addif br0 tap0\nifconfig tap0 0.0.0.0 promisc up\n",
        "ip tuntap add dev tap0 mode tap group kvm && ip link set dev tap0 master br0 up\n",
    ] {
        let imported = imported(&format!("{before}{qemu}ip link set tap0 down\nip tuntap del tap0 mode tap\n"));
        assert!(imported.file.contains("Bridge(\"br0\")"), "{before}: {}", imported.file);
        assert!(!imported.needs_person(), "{before}: {:#?}", imported.entries);
    }
    // One that is only made has no bridge, and one of which only that is known stays.
    let routed = imported(&format!("ip tuntap add tap0 mode tap\nip addr add 10.0.0.1/24 dev tap0\n{qemu}"));
    assert!(routed.file.contains("Tap(\"tap0\")") && routed.needs_person(), "{}", routed.file);
    let other = imported(&format!("ip link set eth0 master br0\n{qemu}"));
    assert!(other.file.contains("Tap(\"tap0\")") && other.needs_person(), "{}", other.file);
}

#[test]
fn rights_and_owners_need_no_commands() {
    for command in [
        "[ $EUID -eq 0 ] || exec sudo \"$0\" \"$@\"",
        "[ $EUID -eq 0 ] || exec sudo bash \"$0\"",
        "exec su -c \"$0 $@\"",
        "exec sudo \"$(readlink -f \"$0\")\"",
        "sudo -v",
        "sudo chown me /dev/vfio/* /dev/input/by-id/a /sys/bus/pci/devices/0000:02:00.0/config",
        "setfacl -m g:kvm:rw /dev/vfio/12",
        "chmod 666 /dev/kvm",
    ] {
        let imported = imported(&format!("{command}\nqemu-system-x86_64 -m 4G\n"));
        assert!(!imported.needs_person(), "{command}: {:#?}", imported.entries);
    }
    let other = imported("chown me /dev/vfio/1 /srv/a.img\nqemu-system-x86_64 -m 4G\n");
    assert!(other.needs_person());
}
