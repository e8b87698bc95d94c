//! Which family the guest is of: libosinfo's id tells, else what the domain has.

use crate::import::xml::{Node, child, text};
use crate::machine::Guest;

/// The family.
pub fn of(root: Node) -> Guest {
    let ids: Vec<&str> = root
        .descendants()
        .filter(|node| node.is_element() && node.tag_name().name() == "os" && node.ancestors().nth(1).is_some())
        .filter_map(|node| node.attribute("id"))
        .collect();
    let name = child(root, "name").map(text).unwrap_or_default().to_ascii_lowercase();
    if let Some(guest) = ids.into_iter().find_map(by_id) {
        // Older lists of systems end with Windows 10.
        return if guest == Guest::Windows10 && name.contains("11") { Guest::Windows11 } else { guest };
    }
    let all = root.document().input_text().to_ascii_lowercase();
    if all.contains("isa-applesmc")
        || ["macos", "osx", "catalina", "ventura", "monterey", "sonoma"].iter().any(|word| name.contains(word))
    {
        return Guest::Other;
    }
    let has = |path: &[&str]| path.iter().try_fold(root, |node, name| child(node, name)).is_some();
    let local = child(root, "clock").and_then(|clock| clock.attribute("offset")) == Some("localtime");
    let windows = name.contains("win") || has(&["features", "hyperv"]) || local;
    let tpm = has(&["devices", "tpm"]);
    match () {
        () if name.contains("11") && windows => Guest::Windows11,
        () if windows && tpm && !name.contains("10") => Guest::Windows11,
        () if windows => Guest::Windows10,
        () => Guest::Linux,
    }
}

/// Words in names of Linux machines and of their images.
const LINUX: [&str; 20] = [
    "linux",
    "ubuntu",
    "debian",
    "fedora",
    "centos",
    "rhel",
    "rocky",
    "opensuse",
    "gentoo",
    "nixos",
    "guix",
    "manjaro",
    "alpine",
    "mint",
    "void",
    "slackware",
    "kali",
    "lfs",
    "pop-os",
    "proxmox",
];

/// What a script calls its machine and the images that it has.
fn names(text: &str) -> Vec<&str> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let mut found = Vec::new();
    for line in lines {
        let mut before = "";
        for word in line.split(|c: char| c.is_whitespace() || "\"'=,;(){}".contains(c)).filter(|word| !word.is_empty())
        {
            let last = word.rsplit('/').next().unwrap_or(word);
            let image =
                [".qcow2", ".img", ".iso", ".raw", ".vmdk", ".vdi", ".qcow"].iter().any(|end| last.ends_with(end));
            if image || matches!(before, "-name" | "name" | "guest" | "vm_name" | "vmname") {
                found.push(last);
            }
            before = word;
        }
    }
    found
}

/// The family of a machine that a script starts, by its words.
pub fn of_script(text: &str) -> Guest {
    let text = text.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let names = names(&text);
    let named = |words: &[&str]| names.iter().any(|name| words.iter().any(|word| name.contains(word)));
    match () {
        () if has(&["isa-applesmc", "macos", "opencore"]) => Guest::Other,
        // Interfaces of Hyper-V and local time are no Windows, if machine or image say that they are none.
        () if named(&LINUX) && !named(&["win"]) => Guest::Linux,
        () if has(&["windows11", "win11", "windows 11", "windows-11"]) => Guest::Windows11,
        () if has(&[
            "hv_",
            "hv-",
            "base=localtime",
            "windows",
            "win10",
            "win7",
            "win8",
            "virtio-win",
            "win.",
            "win_",
            "win-",
        ]) =>
        {
            Guest::Windows10
        }
        () => Guest::Linux,
    }
}

fn by_id(id: &str) -> Option<Guest> {
    let id = id.to_ascii_lowercase();
    let rest = id.split_once("://").map_or(id.as_str(), |(_, rest)| rest);
    if let Some(version) = rest.strip_prefix("microsoft.com/win/") {
        return Some(if matches!(version, "11" | "2k25") { Guest::Windows11 } else { Guest::Windows10 });
    }
    let linux = [
        "fedoraproject.org",
        "ubuntu.com",
        "debian.org",
        "archlinux.org",
        "redhat.com",
        "centos.org",
        "opensuse.org",
        "suse.com",
        "gentoo.org",
        "nixos.org",
        "linuxmint.com",
        "manjaro.org",
        "alpinelinux.org",
        "rockylinux.org",
        "almalinux.org",
        "linux",
    ];
    if linux.iter().any(|name| rest.contains(name)) {
        return Some(Guest::Linux);
    }
    rest.starts_with("apple.com").then_some(Guest::Other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_machine_or_image_says_more_than_hyper_v_and_local_time() {
        for (text, family) in [
            ("qemu-kvm -name CentOS -rtc base=localtime", Guest::Linux),
            ("qemu-kvm -cpu host,hv_vendor_id=a -cdrom /iso/guix-1.4.iso", Guest::Linux),
            ("DISK=qemu-debian.qcow2\nqemu-kvm -cpu host,hv_relaxed -hda $DISK", Guest::Linux),
            // Words of a comment, or of a folder, are no name.
            ("# as on ubuntu\nqemu-kvm -cpu host,hv_relaxed -hda /home/debian/a.img", Guest::Windows10),
            ("qemu-kvm -name win10 -cdrom ubuntu.iso", Guest::Windows10),
            ("qemu-kvm -name win11 -hda a.img", Guest::Windows11),
            ("qemu-kvm -hda a.img", Guest::Linux),
        ] {
            assert_eq!(of_script(text), family, "{text}");
        }
    }
}
