//! A share by QEMU's own 9p server, which has the rights of QEMU's account.

use super::folder::{self, Server};
use super::virtiofs;
use crate::host::FileFact;
use crate::machine::{Guest, Share, ShareKind, ShareOwner};
use crate::plan::Severity::{Hard, Soft};
use crate::plan::draft::{Draft, by_default, text};
use crate::qemu::command::QemuOption;
use crate::qemu::device::Device;

/// The server and the device of a share.
pub(super) fn write(draft: &mut Draft, index: usize, share: &Share, file: Option<&FileFact>) {
    let key = |name: &str| format!("share.{}.{name}", share.tag);
    if share.kind == ShareKind::Auto
        && let Some((why, remedy)) = virtiofs::hindrance(draft, share)
    {
        let detail = format!("{why}, so `{}` is shared by 9p, which is slower: `mount -t 9p {0} /mnt`", share.tag);
        draft.no(&key("kind"), Soft, detail, remedy);
        draft.about(&format!("shares[{index}]"));
    }
    if matches!(draft.machine.guest, Guest::Windows10 | Guest::Windows11) {
        draft.no(&key("kind"), Hard, "Windows has no driver for 9p", "remove `kind: NineP` from `shares`");
        draft.about(&format!("shares[{index}].kind"));
    }
    if share.owner == ShareOwner::Guest {
        let detail = format!("by 9p all files that the guest makes in `{}` belong to QEMU's account", share.tag);
        draft.no(&key("owner"), Soft, detail, "remove `owner: Guest` from `shares`");
        draft.about(&format!("shares[{index}].owner"));
    }
    if !draft.option_has("fsdev", "path") {
        let detail = format!("{} has no 9p server (`-fsdev`)", draft.qemu.binary.display());
        draft.no(&key("qemu"), Hard, detail, "install virtiofsd (package `virtiofsd`), or another QEMU");
    }
    if let Some(file) = file {
        let process = &draft.host.process;
        let server = match &draft.account {
            Some(account) => Server { uid: account.uid, gid: account.gid, groups: Some(account.groups.clone()) },
            None => Server { uid: process.uid, gid: process.gid, groups: None },
        };
        folder::access(draft, index, share, file, &server);
    }
    let (id, origin) = (format!("share{index}"), draft.file(&format!("shares[{index}]")));
    // Files belong to QEMU's account, with the guest's modes; the host's own symbolic links work. `remap`: a folder may hold
    // other file systems, whose inode numbers meet.
    let mut server = QemuOption::keys("-fsdev", Some("local"), origin.clone()).with("id", &id);
    server = server.with("path", text(&share.folder)).with("security_model", "none").with("multidevs", "remap");
    if share.read_only {
        server.set("readonly", "on");
    }
    draft.push(server);
    // A QEMU that has the server has the device.
    let Some(port) = draft.port(&id, None) else { return };
    let device = Device::new("virtio-9p-pci", &id).on(port.id.as_str());
    draft.device(port, by_default("each PCI Express device has a root port of its own"));
    draft.push(device.with("fsdev", id.as_str()).with("mount_tag", &*share.tag).option(origin));
}
