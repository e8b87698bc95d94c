//! How to add parameters to the kernel's command line, as the line or the command itself for this host.

use crate::host::{Boot, Host};

/// Parameters that may be there several times, each with a meaning of its own.
const REPEATED: [&str; 4] = ["hugepagesz", "hugepages", "console", "default_hugepagesz"];

/// What to do so that the next boot has these parameters: an imperative sentence without its full stop.
pub(super) fn add(host: &Host, words: &[String]) -> String {
    let all = words.join(" ");
    let how = match &host.boot {
        None => return format!("add `{all}` to the kernel command line"),
        Some(Boot::RpmOstree) => {
            let words: Vec<String> = words.iter().map(|word| format!("--append-if-missing={word}")).collect();
            format!("run `rpm-ostree kargs {}`", words.join(" "))
        }
        Some(Boot::NixOs) => {
            let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
            format!(
                "add `boot.kernelParams = [ {} ];` to /etc/nixos/configuration.nix, run `nixos-rebuild boot`",
                words.join(" ")
            )
        }
        Some(Boot::Kernelstub) => format!("run `kernelstub --add-options \"{all}\"`"),
        Some(Boot::Grubby) => format!("run `grubby --update-kernel=ALL --args=\"{all}\"`"),
        Some(Boot::Grub { line: Some(line), command }) => {
            let line = with(line, words);
            format!("write `GRUB_CMDLINE_LINUX_DEFAULT=\"{line}\"` into /etc/default/grub, run `{command}`")
        }
        Some(Boot::Grub { line: None, command }) => {
            format!("add `{all}` to GRUB_CMDLINE_LINUX_DEFAULT in /etc/default/grub, run `{command}`")
        }
        Some(Boot::KernelCmdline { line, command }) => {
            format!("write `{}` into /etc/kernel/cmdline, run `{command}`", with(line, words))
        }
        Some(Boot::LimineUpdate) => {
            format!("add `KERNEL_CMDLINE[default]+=\" {all}\"` to /etc/default/limine, run `limine-update`")
        }
        Some(Boot::Entry { place, word }) => {
            format!("add `{all}` to the line of the entry that begins with `{word}`, in {place}")
        }
    };
    format!("{how}, then restart the host")
}

/// The line with these parameters, in place of others of the same names.
fn with(line: &str, words: &[String]) -> String {
    let name = |word: &str| word.split('=').next().unwrap_or_default().to_owned();
    let replaced = |old: &&str| {
        let old = name(old);
        !REPEATED.contains(&&*old) && words.iter().any(|word| name(word) == old)
    };
    let stays = line.split_ascii_whitespace().filter(|old| !replaced(old));
    stays.chain(words.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::sample::{self, Shape};

    #[test]
    fn each_boot_loader_has_its_line_or_command() {
        let mut host = sample::host(Shape::simple(4, 1));
        let mut told = |boot| {
            host.boot = boot;
            add(&host, &["intel_iommu=on".to_owned(), "iommu=pt".to_owned()])
        };
        assert_eq!(told(None), "add `intel_iommu=on iommu=pt` to the kernel command line");
        let grub = |line: Option<&str>| Boot::Grub { line: line.map(str::to_owned), command: "update-grub".to_owned() };
        let entry = Boot::Entry { place: "/efi/loader/entries".to_owned(), word: "options".to_owned() };
        let cmdline = Boot::KernelCmdline { line: "ro quiet".to_owned(), command: "mkinitcpio -P".to_owned() };
        for (boot, expected) in [
            (Boot::RpmOstree, "run `rpm-ostree kargs --append-if-missing=intel_iommu=on --append-if-missing=iommu=pt`"),
            (
                Boot::NixOs,
                "add `boot.kernelParams = [ \"intel_iommu=on\" \"iommu=pt\" ];` to /etc/nixos/configuration.nix, \
                 run `nixos-rebuild boot`",
            ),
            (Boot::Kernelstub, "run `kernelstub --add-options \"intel_iommu=on iommu=pt\"`"),
            (Boot::Grubby, "run `grubby --update-kernel=ALL --args=\"intel_iommu=on iommu=pt\"`"),
            (
                grub(Some("quiet intel_iommu=off splash")),
                "write `GRUB_CMDLINE_LINUX_DEFAULT=\"quiet splash intel_iommu=on iommu=pt\"` into /etc/default/grub, \
                 run `update-grub`",
            ),
            (
                grub(None),
                "add `intel_iommu=on iommu=pt` to GRUB_CMDLINE_LINUX_DEFAULT in /etc/default/grub, run `update-grub`",
            ),
            (cmdline, "write `ro quiet intel_iommu=on iommu=pt` into /etc/kernel/cmdline, run `mkinitcpio -P`"),
            (
                Boot::LimineUpdate,
                "add `KERNEL_CMDLINE[default]+=\" intel_iommu=on iommu=pt\"` to /etc/default/limine, run `limine-update`",
            ),
            (
                entry,
                "add `intel_iommu=on iommu=pt` to the line of the entry that begins with `options`, in /efi/loader/entries",
            ),
        ] {
            assert_eq!(told(Some(boot)), format!("{expected}, then restart the host"));
        }
    }

    #[test]
    fn pages_of_another_size_stay_reserved() {
        let words = ["hugepagesz=1G".to_owned(), "hugepages=8".to_owned()];
        assert_eq!(with("hugepagesz=2M hugepages=64", &words), "hugepagesz=2M hugepages=64 hugepagesz=1G hugepages=8");
    }
}
