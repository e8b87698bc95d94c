//! Words in place of a command that are none: misspelt ones, and those of other programs that start machines.

use std::path::Path;

use crate::machine::nearest;

/// What `virsh` and others call something, and how it is done here.
const OF_OTHERS: &[(&[&str], &str)] = &[
    (&["start", "create", "boot", "launch", "up", "install"], "`vfio-run win11.ron` starts the machine of this file"),
    (&["shutdown", "poweroff", "down", "halt"], "`vfio-run stop win11` asks the guest win11 to power off"),
    (&["destroy", "kill", "quit"], "`vfio-run stop --force win11` ends the guest win11 without asking it"),
    (&["list", "ls", "ps"], "`vfio-run status` lists the machines that run"),
    (
        &["vncdisplay", "domdisplay", "viewer", "connect", "vnc", "spice"],
        "`vfio-run view win11` opens the screen of the guest win11",
    ),
    (&["suspend"], "`vfio-run pause win11` stops the guest's vCPUs, `vfio-run resume win11` lets them go on"),
    (&["continue", "cont", "unpause"], "`vfio-run resume win11` lets a paused guest go on"),
    (&["screendump"], "`vfio-run screenshot win11 screen.png` writes what the emulated screen shows"),
    (
        &["htop", "virt-top", "domstats", "cpu-stats", "vcpuinfo", "domblkstat", "domifstat", "dommemstat"],
        "`vfio-run top win11` shows what the guest does, `vfio-run status win11` what happened since its start",
    ),
    (
        &["history", "stats", "timeline", "analyze"],
        "`vfio-run report win11` shows what the last run came to, step by step",
    ),
    (&["log", "logs"], "`vfio-run status win11` says why the last start failed, and which log has more"),
    (&["ssh"], "`vfio-run agent win11 addresses` tells the guest's addresses, for `ssh`"),
    (&["rm", "delete", "remove"], "a machine is its file: without the file and its disks nothing of it is left"),
    (&["version"], "`vfio-run --version` tells the version"),
    (&["dominfo", "info", "domstate"], "`vfio-run status win11` says how the machine win11 is"),
    (&["domifaddr", "ip"], "`vfio-run agent win11 addresses` tells the guest's addresses"),
    (
        &["attach-device", "attach-disk", "hotplug"],
        "`vfio-run attach win11 046d:c547` gives a running guest a device, `… ./data.qcow2` a disk",
    ),
    (&["detach-device", "detach-disk"], "`vfio-run detach win11 046d:c547` takes a device from a running guest"),
    (&["change-media", "eject"], "`vfio-run cd win11 win.iso` puts a CD in, `vfio-run cd win11 --eject` takes it out"),
    (&["qemu-monitor-command", "monitor"], "`vfio-run qmp win11 query-status` has QEMU's monitor do something"),
    (&["qemu-agent-command", "guest-agent"], "`vfio-run agent win11 info` asks the guest agent"),
    (&["domif-setlink"], "`vfio-run link win11 down` unplugs the guest's cables"),
    (
        &["save", "managedsave", "restore", "snapshot", "snapshot-create", "migrate"],
        "a running guest is neither saved nor moved; `vfio-run agent win11 freeze -- …` copies its disks as they are at one moment",
    ),
    (
        &["edit", "undefine", "dumpxml", "rename", "setvcpus", "setmem", "set"],
        "a machine is its file: edit it, and the next start uses it",
    ),
    (&["convert", "define"], "`vfio-run import win11.xml` makes a machine file from a libvirt domain"),
    (
        &["reboot", "restart"],
        "the guest restarts by itself; `vfio-run reset win11` presses its reset button, `vfio-run stop win11` and \
         `vfio-run win11.ron` start it anew",
    ),
    (&["autostart", "enable"], "`vfio-run unit --install win11.ron` makes a unit that systemd can start at boot"),
    (&["validate", "verify", "test"], "`vfio-run check win11.ron` says whether the machine can start"),
    (&["lspci", "nodedev-list", "gpus"], "`vfio-run devices` lists the PCI devices by IOMMU group"),
    (&["lstopo", "lscpu", "topology", "numactl"], "`vfio-run cpus` draws the host's CPUs"),
    (&["show", "explain"], "`vfio-run plan --explain win11.ron` shows what a start would do, and why"),
];

/// Why the first word of a command line is refused, if it is none of the `verbs`; `None` if it can be a file. With words
/// `behind` it, it cannot: a start takes one file.
pub(super) fn refused(word: &str, behind: &[&str], verbs: &[String]) -> Option<String> {
    if word.contains(['/', '.']) || Path::new(word).exists() {
        return None;
    }
    let none = format!("there is no command `{word}`");
    if let Some((_, instead)) = OF_OTHERS.iter().find(|(words, _)| words.contains(&word)) {
        return Some(format!("{none}: {}", of_machine(instead, behind.first().copied())));
    }
    match nearest(word, &verbs.iter().map(String::as_str).collect::<Vec<_>>()) {
        Some(near) => Some(format!("{none}; did you mean `{near}`? (A machine is named by its file: `{word}.ron`)")),
        None => (!behind.is_empty()).then(|| format!("{none}; `vfio-run --help` lists them")),
    }
}

/// The words with the machine that was named in place of win11, if it was, by its name or file.
fn of_machine(instead: &str, named: Option<&str>) -> String {
    let plain = |text: &&str| text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    let Some(named) = named.filter(plain) else { return instead.to_owned() };
    let file = Path::new(named);
    match (file.extension().and_then(|ending| ending.to_str()), file.file_stem().and_then(|stem| stem.to_str())) {
        (Some("xml"), _) => instead.replace("win11.xml", named),
        (Some("ron"), Some(name)) => {
            let between: Vec<_> = instead.split("win11.ron").map(|words| words.replace("win11", name)).collect();
            between.join(named)
        }
        (_, Some(_)) if crate::machine::is_name(named) => instead.replace("win11", named),
        _ => instead.to_owned(),
    }
}

/// What is written for an option that others have for what is a command here.
pub(super) fn in_place_of_option(option: &str) -> Option<String> {
    let instead = match option {
        "--check" | "--validate" | "--test" => "`vfio-run check win11.ron` says whether the machine can start",
        "--dry-run" | "--plan" | "--print" => "`vfio-run plan win11.ron` shows what a start would do",
        "--stop" | "--shutdown" => "`vfio-run stop win11` asks the guest win11 to power off",
        _ => return None,
    };
    Some(format!("there is no option `{option}`: {instead}"))
}

/// What is written for a name or file behind `new`, which asks for a name and has an option for a file.
pub(super) fn file_for_new(word: &str) -> Option<String> {
    let option = if word.ends_with(".ron") { "-o" } else { "--name" };
    (!word.starts_with('-'))
        .then(|| format!("`new` takes options alone: `vfio-run new {option} {}`", crate::units::quoted(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_of_others_is_there_once() {
        let mut all: Vec<&str> = OF_OTHERS.iter().flat_map(|(words, _)| words.iter().copied()).collect();
        let number = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), number);
    }

    #[test]
    fn a_word_can_be_a_file() {
        let refused = |word: &str, behind: &[&str]| refused(word, behind, &["check".to_owned(), "plan".to_owned()]);
        assert_eq!(refused("win11.ron", &[]), None);
        assert_eq!(refused("./start", &[]), None);
        assert_eq!(refused("win11", &[]), None);
        assert_eq!(refused("win11", &["a"]).unwrap(), "there is no command `win11`; `vfio-run --help` lists them");
        assert!(refused("chek", &[]).unwrap().contains("did you mean `check`?"));
    }

    #[test]
    fn the_machine_that_was_named_is_the_one_in_the_answer() {
        let said = |word: &str, named: &str| refused(word, &[named], &[]).unwrap();
        assert!(said("start", "vm/games.ron").contains("`vfio-run vm/games.ron`"), "{}", said("start", "vm/games.ron"));
        assert!(said("start", "games").contains("`vfio-run games.ron`"));
        assert!(said("start", "vm/win11-b.ron").contains("`vfio-run vm/win11-b.ron`"));
        assert!(said("destroy", "win11/win11-b.ron").contains("`vfio-run stop --force win11-b`"));
        assert!(said("destroy", "vm/games.ron").contains("`vfio-run stop --force games`"));
        assert!(said("shutdown", "games").contains("`vfio-run stop games` asks the guest games"));
        assert!(said("define", "/tmp/dom.xml").contains("`vfio-run import /tmp/dom.xml`"));
        for named in ["a b.ron", "$(id)", "/dev/sda", "--all"] {
            assert!(said("destroy", named).contains("`vfio-run stop --force win11`"), "{}", said("destroy", named));
        }
    }
}
