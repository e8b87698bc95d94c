//! What of the host depends on a PCI function: mounted file systems, swap, the default route.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::details::Details;
use crate::host::Root;
use crate::host::block::{Mounts, is_claimed, mounted};
use crate::units::PciAddress;

/// Network interfaces that can stand upon each other; the search ends there.
const MAX_LEVELS: usize = 16;

/// Fills in what depends on each function.
pub(super) fn find(root: &Root, details: &mut BTreeMap<PciAddress, Details>) {
    let has_disks = details.values().any(|d| d.nodes.iter().any(|node| node.subsystem == "block"));
    let mounts = if has_disks { Mounts::read(root) } else { Mounts::default() };
    let routes = default_routes(root);
    for (address, details) in details.iter_mut() {
        let mut uses = BTreeSet::new();
        for node in details.nodes.iter().filter(|node| node.subsystem == "block") {
            uses.extend(mounted(root, (node.major.into(), node.minor.into()), &mounts));
        }
        if uses.is_empty() && root.is_real() {
            let disks = details.nodes.iter().filter(|node| node.subsystem == "block" && is_claimed(&node.path));
            uses.extend(disks.map(|node| claimed(&node.path)));
        }
        for interface in interfaces(root, *address) {
            let all = with_upper(root, &interface);
            uses.extend(all.intersection(&routes).map(|route| format!("default route ({route})")));
        }
        details.uses = uses.into_iter().collect();
    }
}

/// A disk that the kernel keeps for somebody.
fn claimed(node: &Path) -> String {
    format!("{} (claimed: ZFS, or a mount that this process does not see)", node.display())
}

/// The interfaces that the default routes lead through.
fn default_routes(root: &Root) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    // Interface, destination, gateway, …, mask.
    for line in root.text("/proc/net/route").unwrap_or_default().lines().skip(1) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        if words.get(1) == Some(&"00000000") && words.get(7) == Some(&"00000000") {
            found.insert(words[0].to_owned());
        }
    }
    // Destination, its length, …, interface. `lo` has the route that says that there is none.
    for line in root.text("/proc/net/ipv6_route").unwrap_or_default().lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        if let [to, "00", .., interface] = words.as_slice()
            && to.bytes().all(|b| b == b'0')
            && *interface != "lo"
        {
            found.insert((*interface).to_owned());
        }
    }
    found
}

/// The function's own interfaces; those of virtio are one level down.
fn interfaces(root: &Root, address: PciAddress) -> Vec<String> {
    root.names("/sys/class/net")
        .into_iter()
        .filter(|name| {
            let device = std::fs::canonicalize(root.path(format!("/sys/class/net/{name}/device")));
            device.is_ok_and(|path| path.components().any(|part| part.as_os_str() == address.to_string().as_str()))
        })
        .collect()
}

/// The interface, and the bridges, bonds and VLANs upon it.
fn with_upper(root: &Root, interface: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![interface.to_owned()];
    while let Some(name) = open.pop() {
        if found.len() >= MAX_LEVELS || !found.insert(name.clone()) {
            continue;
        }
        let folder = format!("/sys/class/net/{name}");
        open.extend(root.link(format!("{folder}/master")));
        open.extend(root.names(folder).iter().filter_map(|entry| entry.strip_prefix("upper_").map(str::to_owned)));
    }
    found
}
