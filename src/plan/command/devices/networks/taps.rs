//! What all tap devices have in common: the queues, each a descriptor that the launcher opens, and vhost-net.

use std::path::Path;

use serde_json::{Map, Value};

use super::card::{Card, Connected};
use crate::machine::{Backend, NetworkModel};
use crate::plan::Inherited;
use crate::plan::Severity::{Hard, Soft};
use crate::plan::draft::Draft;
use crate::plan::process::permission::may_open;
use crate::qemu::Role;

/// As many queues as a card has at most if the file does not say: each costs a worker of the kernel's, and the host's CPUs
/// that run them are few.
const SENSIBLE_QUEUES: u32 = 4;

/// The name of a tap device that is ours to make: it names the machine, and the card by its place.
pub(super) fn name(draft: &Draft, index: usize) -> String {
    let uuid = draft.machine.uuid();
    let bytes = uuid.as_bytes();
    format!("vfio-{:02x}{:02x}{:02x}-{index}", bytes[13], bytes[14], bytes[15])
}

/// How many queues the card has on a tap device that may have more than one.
pub(super) fn queues(card: &Card, vhost: bool) -> u32 {
    match (card.network.model, card.network.queues) {
        (NetworkModel::Virtio, Some(written)) => written,
        // Without vhost one thread of QEMU serves all queues.
        (NetworkModel::Virtio, None) if vhost => card.vcpus.clamp(1, SENSIBLE_QUEUES),
        _ => 1,
    }
}

/// The `-netdev` of a tap device whose queues are these descriptors.
pub(super) fn connect(
    draft: &mut Draft,
    queues: u32,
    vhost: bool,
    mtu: Option<u32>,
    mut queue: impl FnMut(u32) -> Inherited,
) -> Connected {
    let fds: Vec<i32> = (0..queues).map(|number| draft.inherit(queue(number))).collect();
    let mut props = Map::new();
    descriptors(&mut props, "fd", &fds);
    if vhost {
        // Never without the descriptors: QEMU would open the node itself, which its account may not, and 7.2 aborts then.
        let fds: Vec<i32> = (0..queues).map(|_| draft.inherit(Inherited::Device(Backend::VHOST.into()))).collect();
        props.insert("vhost".to_owned(), true.into());
        descriptors(&mut props, "vhostfd", &fds);
    }
    Connected { kind: "tap", props, role: Role::HostDevice, queues, mtu }
}

/// One descriptor by its number, several with colons between.
fn descriptors(props: &mut Map<String, Value>, key: &str, fds: &[i32]) {
    let numbers = fds.iter().map(ToString::to_string).collect::<Vec<_>>().join(":");
    let key = if fds.len() == 1 { key.to_owned() } else { format!("{key}s") };
    props.insert(key, numbers.into());
}

/// Whether the kernel's vhost-net serves the card; without it QEMU does, which costs more of the host's CPU time. QEMU has
/// it for virtio alone.
pub(super) fn vhost(draft: &mut Draft, card: &Card) -> bool {
    if card.network.model != NetworkModel::Virtio {
        return false;
    }
    let (key, node) = (card.key("vhost"), Backend::VHOST);
    let without = "QEMU carries the packets itself, which is slower";
    let Some(file) = draft.host.files.get(Path::new(node)).cloned() else {
        draft.unknown(&key, Soft, format!("vfio-run did not look for {node}: {without}"));
        return false;
    };
    let (detail, remedy) = match file.kind.map(|_| may_open(&file, &draft.host.process)) {
        Some(Some(true)) => {
            draft.yes(&key, Soft, format!("{node} is there: the kernel carries the packets"));
            return true;
        }
        Some(None) => {
            let detail = format!("whether you can open {node} depends on your groups, so {without}");
            draft.unknown(&key, Soft, detail);
            draft.remedy("start as root, or give your account access to it with a udev rule");
            return false;
        }
        None => (format!("there is no {node}: {without}"), "load the module: `modprobe vhost_net`"),
        Some(Some(false)) => (
            format!("you cannot open {node} (group {}, mode {:o}): {without}", file.gid, file.mode & 0o7777),
            "start as root, or give your account access to it with a udev rule",
        ),
    };
    draft.no(&key, Soft, detail, remedy);
    false
}

/// Whether the launcher can open the kernel's device for tap devices.
pub(super) fn tun(draft: &mut Draft, card: &Card) {
    let (key, node) = (card.key("tun"), Backend::TUN);
    let Some(file) = draft.host.files.get(Path::new(node)).cloned() else {
        return draft.unknown(&key, Hard, format!("vfio-run did not look for {node}"));
    };
    let (detail, remedy) = match file.kind.map(|_| may_open(&file, &draft.host.process)) {
        Some(Some(true)) => return draft.yes(&key, Hard, format!("{node} is there")),
        Some(None) => {
            return draft.unknown(&key, Hard, format!("whether you can open {node} depends on your groups"));
        }
        None => (format!("there is no {node}"), "load the module: `modprobe tun`"),
        Some(Some(false)) => (
            format!("you cannot open {node} (owner {}, mode {:o})", file.uid, file.mode & 0o7777),
            "start as root, or `chmod 666` it as most distributions do",
        ),
    };
    draft.no(&key, Hard, detail, remedy);
    draft.about(&card.field("backend"));
}
