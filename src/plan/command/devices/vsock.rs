//! The guest's vsock.

use std::path::Path;

use crate::machine::Vsock;
use crate::plan::Inherited;
use crate::plan::Severity::Hard;
use crate::plan::draft::Draft;
use crate::plan::process::permission::may_open;
use crate::qemu::device::Device;

/// The first CID that is no guest's name for somebody else (vsock(7)).
const FIRST_CID: u32 = 3;
/// How many CIDs `Auto` chooses from: enough that two machines of a host do not meet.
const CIDS: u128 = 1 << 31;

/// The vsock, if the machine has one.
pub(in crate::plan::command) fn write(draft: &mut Draft) {
    let cid = match draft.machine.vsock {
        Vsock::None => return,
        // Smaller than CIDS, which fits.
        Vsock::Auto => FIRST_CID + (draft.machine.uuid().as_u128() % CIDS) as u32,
        Vsock::Cid(cid) => cid,
    };
    node(draft);
    let fd = draft.inherit(Inherited::Device(Vsock::NODE.into()));
    let device = Device::new("vhost-vsock-pci", "vsock0").with("guest-cid", cid).with_descriptor("vhostfd", fd);
    draft.pcie_device(device, draft.file("vsock"));
}

/// Whether the launcher can open the kernel's node.
fn node(draft: &mut Draft) {
    const KEY: &str = "vsock.node";
    let node = Vsock::NODE;
    let Some(file) = draft.host.files.get(Path::new(node)).cloned() else {
        return draft.unknown(KEY, Hard, format!("vfio-run did not look for {node}"));
    };
    let (detail, remedy) = match file.kind.map(|_| may_open(&file, &draft.host.process)) {
        None => (
            format!("the kernel offers no vsock for guests: there is no {node}"),
            "load the module (`modprobe vhost_vsock`), or use a kernel with CONFIG_VHOST_VSOCK",
        ),
        Some(Some(true)) => return draft.yes(KEY, Hard, format!("{node} is there")),
        Some(None) => {
            return draft.unknown(KEY, Hard, format!("whether you can open {node} depends on your groups"));
        }
        Some(Some(false)) => (
            format!("you cannot open {node} (owner {}, group {}, mode {:o})", file.uid, file.gid, file.mode & 0o7777),
            "start as root, or give your account access to it with a udev rule",
        ),
    };
    draft.no(KEY, Hard, detail, remedy);
    draft.about("vsock");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{FileFact, FileKind};
    use crate::plan::sample::{Shape, host, plan};
    use crate::plan::{Plan, Verdict};

    fn with(vsock: &str, us: u32, node: FileFact) -> Plan {
        let mut host = host(Shape::simple(4, 1));
        (host.process.uid, host.process.gid) = (us, us);
        host.files.insert(Vsock::NODE.into(), node);
        plan(&format!("(guest: Other, memory: (size: \"1 GiB\"), vsock: {vsock})"), &host)
    }

    fn node(mode: u32) -> FileFact {
        FileFact { kind: Some(FileKind::Character), gid: 106, mode, ..FileFact::default() }
    }

    fn has(plan: &Plan, words: &str) -> bool {
        plan.command.argv().iter().any(|word| word.contains(words))
    }

    #[test]
    fn the_guest_has_the_cid_of_the_file_or_one_of_its_uuid() {
        assert!(has(&with("Cid(42)", 0, node(0o600)), r#""guest-cid":42,"vhostfd":""#));
        let chosen = with("Auto", 0, node(0o600));
        assert!(has(&chosen, r#""guest-cid":"#) && !has(&chosen, r#""guest-cid":42,"#));
        assert!(!has(&with("None", 0, node(0o600)), "vhost-vsock-pci"));
    }

    #[test]
    fn a_node_that_cannot_be_opened_is_told() {
        for (us, node, expected) in [
            (0, FileFact::default(), Verdict::No),
            (0, node(0o600), Verdict::Yes),
            (1000, node(0o666), Verdict::Yes),
            (1000, node(0o660), Verdict::Unknown),
            (1000, node(0o600), Verdict::No),
        ] {
            let plan = with("Auto", us, node.clone());
            let found = plan.findings.iter().find(|finding| finding.key == "vsock.node").unwrap();
            assert_eq!(found.ok, expected, "{us} {node:?}");
        }
    }
}
