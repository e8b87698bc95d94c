//! What a host looks like, as far as a handover may change it, and how two such looks differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Everything that a handover may change: a value for each thing, by a name that a reader knows it by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<String, String>);

/// A difference between two looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The thing.
    pub name: String,
    /// What it was; nothing when it was not there.
    pub before: Option<String>,
    /// What it is; nothing when it is gone.
    pub after: Option<String>,
}

/// All differences between two looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff(pub Vec<Change>);

/// Path prefixes as the host prints them, and what a reader calls them. The longest come first, in case two fit.
const NAMES: &[(&str, &str)] = &[
    ("/sys/bus/pci/devices/", "pci "),
    ("/sys/bus/usb/devices/", "usb "),
    ("/sys/bus/platform/devices/", "platform "),
    ("/sys/bus/workqueue/devices/", "workqueue "),
    ("/sys/devices/virtual/workqueue/", "workqueue "),
    ("/sys/devices/system/cpu/cpufreq/", "frequency "),
    ("/sys/devices/system/cpu/", "cpu "),
    ("/sys/devices/system/node/", "memory "),
    ("/sys/kernel/mm/", "memory "),
    ("/sys/class/vtconsole/", "console "),
    ("/sys/class/net/", "network "),
    ("/sys/module/", "module-parameter "),
    ("/sys/fs/cgroup/", "cgroup "),
    ("/proc/sys/", "sysctl "),
    ("/proc/irq/", "irq "),
    ("/proc/modules/", "module "),
    ("/proc/mounts/", "mount /"),
    ("/proc/process/", "process "),
    ("/proc/fb", "framebuffers"),
    ("/firewall", "firewall"),
    ("/unit/", "unit "),
    ("/run/", "run /run/"),
    ("/dev/", "dev /dev/"),
];

/// What changes on its own, without anybody handing anything over: name prefixes.
const RESTLESS: &[&str] = &[
    // Counters and random numbers.
    "sysctl fs/dentry-state",
    "sysctl fs/file-nr",
    "sysctl fs/inode-",
    "sysctl kernel/ns_last_pid",
    "sysctl kernel/random/",
    "sysctl kernel/pty/nr",
    "sysctl fs/quota/",
    "sysctl fs/aio-nr",
    "sysctl kernel/tainted",
    // Made up when somebody listens for the first time.
    "sysctl net/ipv4/tcp_fastopen_key",
    // Learned from the last handover by the network stack or the scheduler.
    "sysctl net/netfilter/",
    "sysctl net/nf_conntrack_max",
    "sysctl kernel/sched_domain",
    "sysctl vm/stat_refresh",
    // Records of systemd's about what happened, not what is.
    "run /run/systemd/journal/",
    "run /run/systemd/units/",
    "run /run/systemd/generator",
    "run /run/systemd/propagate",
    "run /run/systemd/transient",
    "run /run/systemd/timesync",
    "run /run/systemd/inaccessible",
    "run /run/utmp",
    "run /run/mount/",
    "run /run/blkid",
    "run /run/initctl",
    "run /run/credentials",
    "run /run/agetty.reload",
    "run /run/systemd/userdb",
    // Terminals come and go with the processes that look. (What else does is in folders that `l1/host-state.rs` leaves out.)
    "dev /dev/tty",
    "dev /dev/vcs",
    // The programs that read all this, and their short-lived helpers.
    "process bash",
    "process agent",
    "process host-state",
    "process sleep",
    "process sed",
    "process grep",
    "process cat",
    "process flock",
    "process (sd-",
    "process (udev-worker)",
    "process systemd-udevd",
    "process date",
    "process tail",
    "process stty",
    // Started by the first process that asks, gone when idle.
    "unit systemd-hostnamed.service",
    "unit systemd-timedated.service",
    "unit systemd-localed.service",
    "unit user@",
    "unit user-",
    "unit session-",
    "unit run-user-",
    "unit systemd-tmpfiles-clean",
    "cgroup user.slice/user-",
    "cgroup system.slice/systemd-hostnamed",
];

impl Snapshot {
    /// Reads what `l1/host-state.rs` prints.
    pub fn read(text: &str) -> Self {
        let mut values = BTreeMap::new();
        let mut repeated: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (path, value) in text.lines().filter_map(|line| line.split_once('\t')) {
            let Some(name) = name_of(path) else { continue };
            // A file of several lines, or several interrupts of one driver.
            repeated.entry(name).or_default().push(tidy(value));
        }
        for (name, lines) in repeated {
            values.insert(name, lines.join(" / "));
        }
        Self(values)
    }

    /// The value of one thing, by the name that a diff would show.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// How many things are noted.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// What is different in `later`.
    pub fn diff(&self, later: &Self) -> Diff {
        let names: BTreeSet<&String> = self.0.keys().chain(later.0.keys()).collect();
        let changes = names.into_iter().filter_map(|name| {
            let (before, after) = (self.0.get(name).cloned(), later.0.get(name).cloned());
            (before != after).then(|| Change { name: name.clone(), before, after })
        });
        Diff(changes.collect())
    }
}

impl Diff {
    /// Whether nothing is different.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Leaves out what a test expects to stay, by the beginnings of names, such as `"module vfio"`.
    #[must_use]
    pub fn except(self, names: &[&str]) -> Self {
        Self(self.0.into_iter().filter(|change| !names.iter().any(|name| change.name.starts_with(name))).collect())
    }
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return write!(f, "the host is as it was");
        }
        let width = self.0.iter().map(|change| change.name.len()).max().unwrap_or(0);
        for (n, Change { name, before, after }) in self.0.iter().enumerate() {
            let line_end = if n + 1 < self.0.len() { "\n" } else { "" };
            let text = |value: &Option<String>| match value.as_deref() {
                None => "absent".to_owned(),
                Some("") => "empty".to_owned(),
                Some(value) => value.to_owned(),
            };
            write!(f, "{name:width$}  {} → {}{line_end}", text(before), text(after))?;
        }
        Ok(())
    }
}

/// What a reader calls a path; nothing for what changes on its own.
fn name_of(path: &str) -> Option<String> {
    let (prefix, name) = NAMES.iter().find(|(prefix, _)| path.starts_with(prefix))?;
    let rest = &path[prefix.len()..];
    // A device and its property are two words: `pci 0000:01:00.0 driver`.
    let full = match *name {
        "pci " | "usb " | "platform " | "console " | "workqueue " => format!("{name}{}", rest.replacen('/', " ", 1)),
        _ => format!("{name}{rest}"),
    };
    let is_restless = RESTLESS.iter().any(|restless| full.starts_with(restless));
    (!is_restless).then_some(full)
}

/// A link says where a driver lives; its name is enough.
fn tidy(value: &str) -> String {
    if value.starts_with("../") {
        value.rsplit('/').next().unwrap_or(value).to_owned()
    } else {
        value.trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "/sys/bus/pci/devices/0000:01:00.0/driver\t../../../bus/pci/drivers/bochs-drm\n\
        /sys/bus/pci/devices/0000:01:00.0/driver_override\t(null)\n/run/systemd/units/7.out\tf\n/sys/class/vtconsole/vtcon1/bind\t1\n";

    #[test]
    fn a_diff_reads_well() {
        let after = BEFORE
            .replace("bochs-drm", "vfio-pci")
            .replace("(null)", "vfio-pci")
            .replace("/run/systemd/units/7", "/run/systemd/units/8");
        let after = after + "/proc/modules/vfio_pci\tloaded\n";
        let diff = Snapshot::read(BEFORE).diff(&Snapshot::read(&after));
        let text = "module vfio_pci                   absent → loaded\n\
                    pci 0000:01:00.0 driver           bochs-drm → vfio-pci\n\
                    pci 0000:01:00.0 driver_override  (null) → vfio-pci";
        assert_eq!(diff.to_string(), text);
        assert_eq!(diff.except(&["module vfio", "pci "]).to_string(), "the host is as it was");
    }

    #[test]
    fn the_same_look_twice_is_no_difference() {
        assert!(Snapshot::read(BEFORE).diff(&Snapshot::read(BEFORE)).is_empty());
        assert_eq!(Snapshot::read(BEFORE).get("console vtcon1 bind"), Some("1"));
        assert_eq!(Snapshot::read(BEFORE).len(), 3);
    }
}
