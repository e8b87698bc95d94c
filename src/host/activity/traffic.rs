//! What goes through a network interface of the host's.
//! Source: `Documentation/ABI/testing/sysfs-class-net-statistics` of the kernel.

use crate::host::Root;

/// Bytes since the interface was made, as the host sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// What the interface has received.
    pub received: u64,
    /// What was sent through it.
    pub sent: u64,
}

impl Traffic {
    /// That of the interface of this name; `None` if it is not there.
    pub fn read(root: &Root, interface: &str) -> Option<Self> {
        let count = |what: &str| root.parse(format!("/sys/class/net/{interface}/statistics/{what}"));
        Some(Self { received: count("rx_bytes")?, sent: count("tx_bytes")? })
    }
}

/// The name of the interface behind a process's descriptor of a tap device (`tun_chr_show_fdinfo()` in the kernel's
/// `drivers/net/tun.c`).
pub fn interface_of(root: &Root, process: i32, fd: i32) -> Option<String> {
    let text = root.text_up_to(format!("/proc/{process}/fdinfo/{fd}"), 4096)?;
    let name = text.lines().find_map(|line| line.strip_prefix("iff:"))?.trim();
    // A name of an interface has no slash, so it stays in its folder.
    (!name.is_empty() && !name.contains('/')).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::sample_tree;

    #[test]
    fn bytes_are_read_by_the_interface_or_by_a_descriptor_of_it() {
        let folder = sample_tree::tree(&[
            ("sys/class/net/tap0/statistics/rx_bytes", "1200\n"),
            ("sys/class/net/tap0/statistics/tx_bytes", "34\n"),
            ("proc/7/fdinfo/5", "pos:\t0\nflags:\t02\niff:\ttap0\n"),
            ("proc/7/fdinfo/6", "pos:\t0\niff:\t../x\n"),
        ]);
        let root = Root::new(folder.path());
        assert_eq!(Traffic::read(&root, "tap0"), Some(Traffic { received: 1200, sent: 34 }));
        assert_eq!(Traffic::read(&root, "tap1"), None);
        let names = [5, 6, 7].map(|fd| interface_of(&root, 7, fd));
        assert_eq!(names, [Some("tap0".to_owned()), None, None]);
    }
}
