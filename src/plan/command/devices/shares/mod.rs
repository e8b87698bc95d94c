//! Folders of the host that the guest mounts: by virtiofsd, a helper, or by QEMU's own 9p server.

mod folder;
mod nine_p;
#[cfg(test)]
mod tests;
mod virtiofs;

use crate::machine::{Guest, Share, ShareKind};
use crate::plan::Severity::{Hard, Soft};
use crate::plan::draft::Draft;

/// How a share reaches the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Virtiofs,
    NineP,
}

/// Whether a helper must be able to map the guest's memory.
pub(in crate::plan::command) fn need_shared_memory(draft: &Draft) -> bool {
    draft.machine.shares.iter().any(|share| by(draft, share) == By::Virtiofs)
}

/// All shares.
pub(in crate::plan::command) fn write(draft: &mut Draft) {
    let shares = &draft.machine.shares;
    if shares.is_empty() {
        return;
    }
    if need_shared_memory(draft) {
        virtiofs::program(draft);
        if draft.machine.memory.shared == Some(false) {
            let detail = "virtiofsd cannot map the guest's memory, and a guest that mounts a share would hang";
            draft.no(
                "shares.memory",
                Hard,
                detail,
                "remove `memory.shared: false`, or write `kind: NineP` in `shares`",
            );
            draft.about("memory.shared");
        }
    }
    if matches!(draft.machine.guest, Guest::Windows10 | Guest::Windows11) {
        draft.unknown("shares.windows", Soft, "Windows mounts shares only with a driver of virtio-win and WinFsp");
        draft.remedy(
            "install WinFsp and the viofs driver of virtio-win in the guest, and start the service VirtioFsSvc",
        );
    }
    for (index, share) in shares.iter().enumerate() {
        let folder = folder::look(draft, index, share);
        match by(draft, share) {
            By::Virtiofs => virtiofs::write(draft, index, share, folder.as_ref()),
            By::NineP => nine_p::write(draft, index, share, folder.as_ref()),
        }
    }
}

/// How a share reaches the guest. What the user did not choose falls back to 9p, for which Windows has no driver.
fn by(draft: &Draft, share: &Share) -> By {
    match share.kind {
        ShareKind::Virtiofs => By::Virtiofs,
        ShareKind::NineP => By::NineP,
        ShareKind::Auto if matches!(draft.machine.guest, Guest::Windows10 | Guest::Windows11) => By::Virtiofs,
        ShareKind::Auto if virtiofs::hindrance(draft, share).is_some() => By::NineP,
        ShareKind::Auto => By::Virtiofs,
    }
}
