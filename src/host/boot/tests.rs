use super::*;

/// A host with these files; of a folder only the name counts.
fn host(files: &[(&str, &str)]) -> Option<Boot> {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    Boot::read(&Root::new(folder.path()), "6.12.1-amd64")
}

const DEBIAN: (&str, &str) = (
    "etc/default/grub",
    "GRUB_DEFAULT=0\n# GRUB_CMDLINE_LINUX_DEFAULT=no\nGRUB_CMDLINE_LINUX_DEFAULT=\"quiet splash\"\n",
);

fn grub(line: Option<&str>, command: &str) -> Option<Boot> {
    Some(Boot::Grub { line: line.map(str::to_owned), command: command.to_owned() })
}

fn cmdline(command: &str) -> Option<Boot> {
    Some(Boot::KernelCmdline { line: "root=UUID=1 ro".to_owned(), command: command.to_owned() })
}

fn entry(place: &str, word: &str) -> Option<Boot> {
    Some(Boot::Entry { place: place.to_owned(), word: word.to_owned() })
}

#[test]
fn each_kind_of_host_is_known_by_its_files() {
    let line = ("etc/kernel/cmdline", "root=UUID=1 ro\n");
    for (what, files, expected) in [
        ("nothing", &[][..], None),
        ("Debian", &[DEBIAN, ("usr/sbin/update-grub", "")], grub(Some("quiet splash"), "update-grub")),
        ("Arch", &[DEBIAN], grub(Some("quiet splash"), "grub-mkconfig -o /boot/grub/grub.cfg")),
        (
            "openSUSE",
            &[DEBIAN, ("boot/grub2/grub.cfg", "")],
            grub(Some("quiet splash"), "grub2-mkconfig -o /boot/grub2/grub.cfg"),
        ),
        ("Fedora", &[DEBIAN, ("boot/grub2/grub.cfg", ""), ("usr/sbin/grubby", "")], Some(Boot::Grubby)),
        ("Silverblue", &[DEBIAN, ("run/ostree-booted", "")], Some(Boot::RpmOstree)),
        ("NixOS", &[("etc/NIXOS", ""), ("boot/loader/entries/a.conf", "")], Some(Boot::NixOs)),
        ("Pop!_OS", &[DEBIAN, ("etc/kernelstub/configuration", "{}")], Some(Boot::Kernelstub)),
        ("Proxmox", &[line, ("etc/kernel/proxmox-boot-uuids", "")], cmdline("proxmox-boot-tool refresh")),
        ("Arch, unified image", &[line, ("etc/mkinitcpio.d/linux.preset", "")], cmdline("mkinitcpio -P")),
        ("EndeavourOS", &[line, ("usr/bin/reinstall-kernels", "")], cmdline("reinstall-kernels")),
        ("kernel-install", &[line], cmdline("kernel-install add 6.12.1-amd64 /lib/modules/6.12.1-amd64/vmlinuz")),
        ("entries by hand", &[("efi/loader/entries/arch.conf", "")], entry("/efi/loader/entries", "options")),
        ("Limine", &[("boot/limine.conf", "")], entry("/boot/limine.conf", "cmdline:")),
        ("CachyOS", &[("boot/limine.conf", ""), ("etc/default/limine", "")], Some(Boot::LimineUpdate)),
        ("rEFInd", &[("boot/refind_linux.conf", "")], entry("/boot/refind_linux.conf", "\"Boot")),
    ] {
        assert_eq!(host(files), expected, "{what}");
    }
}

#[test]
fn what_booted_counts_more_than_files_of_another_boot_loader() {
    let info: String = "....systemd-boot 257".chars().flat_map(|c| [c, '\0']).skip(4).collect();
    let info = (LOADER_INFO.trim_start_matches('/'), &*info);
    let line = ("etc/kernel/cmdline", "root=UUID=1 ro\n");
    let kernel_install = cmdline("kernel-install add 6.12.1-amd64 /lib/modules/6.12.1-amd64/vmlinuz");
    assert_eq!(host(&[DEBIAN, line, info]), kernel_install);
    assert_eq!(host(&[DEBIAN, line]), grub(Some("quiet splash"), "grub-mkconfig -o /boot/grub/grub.cfg"));
    // It says nothing that is known.
    assert_eq!(host(&[DEBIAN, (info.0, "x")]), grub(Some("quiet splash"), "grub-mkconfig -o /boot/grub/grub.cfg"));
}

#[test]
fn a_line_that_a_shell_must_read_is_not_repeated() {
    for (written, line) in [
        ("'quiet'", Some("quiet")),
        ("quiet", Some("quiet")),
        ("\"\"", Some("")),
        ("\"$MORE quiet\"", None),
        ("\"a\\\"b\"", None),
        ("quiet splash", None),
        ("\"quiet\" # why", None),
    ] {
        let text = format!("GRUB_CMDLINE_LINUX_DEFAULT={written}\n");
        let found = host(&[("etc/default/grub", &text)]);
        assert_eq!(found, grub(line, "grub-mkconfig -o /boot/grub/grub.cfg"), "{written}");
    }
}
