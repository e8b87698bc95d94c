//! The guest's vsock: sockets between the host and the guest that need no network.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::machine::named::Named;
use crate::machine::problems::Problems;
use crate::machine::subject::Subject;

/// The guest's vsock (`AF_VSOCK`): programs of the host reach those of the guest by its context id (CID) and a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum Vsock {
    /// None.
    #[default]
    None,
    /// One whose CID follows from the machine's UUID, so it is the same at each start; `vfio-run plan` shows it.
    Auto,
    /// One with this CID, from 3 on, which no other guest on the host may have: `Cid(42)`.
    Cid(u32),
}

impl Vsock {
    /// The device node by which QEMU joins the guest to the kernel's vsock.
    pub const NODE: &str = "/dev/vhost-vsock";
}

impl Subject for Vsock {
    fn check(&self, problems: &mut Problems) {
        // vsock(7): 0 to 2 are the hypervisor, the local machine and the host; the last one stands for any.
        if let Self::Cid(cid @ (0..=2 | u32::MAX)) = self {
            problems
                .add("vsock.Cid", format!("`vsock` cannot have the CID {cid}"))
                .allowed(format!("3 to {}", u32::MAX - 1))
                .help("write `vsock: Auto` for one that follows from the machine's UUID");
        }
    }

    fn name(&self, named: &mut Named) {
        if *self != Self::None {
            named.files.push(PathBuf::from(Self::NODE));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::machine::parse;

    #[test]
    fn a_cid_that_no_guest_can_have_is_refused() {
        for (written, expected) in [
            ("Auto", None),
            ("Cid(3)", None),
            ("Cid(2)", Some("m.ron:1:52: `vsock` cannot have the CID 2")),
            ("Cid(4294967295)", Some("m.ron:1:52: `vsock` cannot have the CID 4294967295")),
        ] {
            let text = format!("(guest: Linux, memory: (size: \"1 GiB\"), vsock: {written})");
            let refused = parse(Path::new("m.ron"), &text).err().map(|refused| refused.to_string());
            assert_eq!(refused.as_deref().and_then(|text| text.lines().next()), expected, "{written}");
        }
    }
}
