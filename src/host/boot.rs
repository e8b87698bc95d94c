//! How the kernel's command line of the next boot is changed on this host: by which boot loader, or which program above it.
//! Nothing of it is ever written; it is looked up so that what only a boot parameter can do is told with the line itself.
//!
//! What booted says so itself where it can (`LoaderInfo`, systemd's Boot Loader Interface); else files decide.

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::Root;

/// The variable in which a boot loader names itself; UTF-16 behind four bytes of attributes.
const LOADER_INFO: &str = "/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// Longer than any line that a boot loader passes on (`COMMAND_LINE_SIZE` is 2048 on x86).
const MAX_LINE: usize = 4096;

/// Where the command line of the next boot is kept, and what puts a change of it into force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Boot {
    /// `rpm-ostree kargs` (Silverblue, Bazzite, CoreOS).
    RpmOstree,
    /// `boot.kernelParams` of NixOS.
    NixOs,
    /// `kernelstub` (Pop!_OS).
    Kernelstub,
    /// `grubby` (Fedora, RHEL).
    Grubby,
    /// `/etc/default/grub`, and then a command.
    Grub {
        /// What `GRUB_CMDLINE_LINUX_DEFAULT` is; `None`: it is not there, or a shell would have to read it.
        line: Option<String>,
        /// The command.
        command: String,
    },
    /// `/etc/kernel/cmdline` (systemd-boot, unified kernel images), and then a command.
    KernelCmdline {
        /// The line in it.
        line: String,
        /// The command.
        command: String,
    },
    /// `/etc/default/limine` and `limine-update`.
    LimineUpdate,
    /// An entry of a boot loader's own, in this file or folder, by this word in front of the parameters.
    Entry {
        /// The file or folder.
        place: String,
        /// The word: `options`, `cmdline:`.
        word: String,
    },
}

/// The name of a boot loader, and what tells how it is configured here.
type Reader = (&'static str, fn(&Root, &str) -> Option<Boot>);

impl Boot {
    pub(super) fn read(root: &Root, kernel: &str) -> Option<Self> {
        let is_there = |path: &str| root.path(path).exists();
        if is_there("/run/ostree-booted") {
            return Some(Self::RpmOstree);
        }
        if is_there("/etc/NIXOS") {
            return Some(Self::NixOs);
        }
        if is_there("/etc/kernelstub/configuration") {
            return Some(Self::Kernelstub);
        }
        let readers: [Reader; 4] =
            [("grub", grub), ("systemd-boot", systemd_boot), ("limine", limine), ("refind", refind)];
        let loader = loader(root).unwrap_or_default();
        let booted = readers.iter().find(|(name, _)| loader.contains(name)).and_then(|(_, read)| read(root, kernel));
        booted.or_else(|| readers.iter().find_map(|(_, read)| read(root, kernel)))
    }
}

/// What the boot loader calls itself, in lower case.
fn loader(root: &Root) -> Option<String> {
    let bytes = std::fs::read(root.path(LOADER_INFO)).ok()?;
    let units = bytes.get(4..)?.chunks_exact(2).take(64).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    Some(char::decode_utf16(units).flatten().collect::<String>().to_lowercase())
}

fn grub(root: &Root, _: &str) -> Option<Boot> {
    let defaults = root.text("/etc/default/grub")?;
    let is_there = |path: &str| root.path(path).exists();
    if is_there("/boot/grub2") && (is_there("/usr/sbin/grubby") || is_there("/usr/bin/grubby")) {
        return Some(Boot::Grubby);
    }
    let command = if is_there("/usr/sbin/update-grub") || is_there("/usr/bin/update-grub") {
        "update-grub"
    } else if is_there("/boot/grub2") {
        "grub2-mkconfig -o /boot/grub2/grub.cfg"
    } else {
        "grub-mkconfig -o /boot/grub/grub.cfg"
    };
    let line = defaults.lines().rev().find_map(|line| line.trim().strip_prefix("GRUB_CMDLINE_LINUX_DEFAULT="));
    Some(Boot::Grub { line: line.and_then(shell_word), command: command.to_owned() })
}

/// The text that a shell makes of this word, if that takes no more than taking its quotes off.
fn shell_word(word: &str) -> Option<String> {
    let word = word.trim();
    let quoted = |quote: char| word.strip_prefix(quote)?.strip_suffix(quote);
    let bare = || (!word.contains(char::is_whitespace)).then_some(word);
    let text = quoted('"').or_else(|| quoted('\'')).or_else(bare)?;
    let plain = text.len() <= MAX_LINE && !text.contains(['"', '\'', '$', '`', '\\', '#']);
    plain.then(|| text.to_owned())
}

fn systemd_boot(root: &Root, kernel: &str) -> Option<Boot> {
    let is_there = |path: &str| root.path(path).exists();
    if let Some(line) = root.text_up_to("/etc/kernel/cmdline", MAX_LINE).filter(|line| !line.contains('\n')) {
        let command = if is_there("/etc/kernel/proxmox-boot-uuids") {
            "proxmox-boot-tool refresh".to_owned()
        } else if is_there("/etc/mkinitcpio.d") {
            "mkinitcpio -P".to_owned()
        } else if is_there("/usr/bin/reinstall-kernels") {
            "reinstall-kernels".to_owned()
        } else {
            format!("kernel-install add {kernel} /lib/modules/{kernel}/vmlinuz")
        };
        return Some(Boot::KernelCmdline { line, command });
    }
    let mut folders = ["/boot", "/efi", "/boot/efi"].into_iter().map(|folder| format!("{folder}/loader/entries"));
    let place = folders.find(|folder| root.names(folder).iter().any(|name| name.ends_with(".conf")))?;
    Some(Boot::Entry { place, word: "options".to_owned() })
}

fn limine(root: &Root, _: &str) -> Option<Boot> {
    if root.path("/etc/default/limine").exists() {
        return Some(Boot::LimineUpdate);
    }
    let mut files =
        ["/boot/limine.conf", "/boot/limine/limine.conf", "/boot/EFI/limine/limine.conf", "/efi/limine.conf"]
            .into_iter();
    let place = files.find(|file| root.path(file).exists())?;
    Some(Boot::Entry { place: place.to_owned(), word: "cmdline:".to_owned() })
}

fn refind(root: &Root, _: &str) -> Option<Boot> {
    let place = "/boot/refind_linux.conf";
    root.path(place).exists().then(|| Boot::Entry { place: place.to_owned(), word: "\"Boot".to_owned() })
}
