//! An event device on its way to QEMU, which takes no descriptor of one: QEMU's account has a node of its own for a moment.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::fcntl::AtFlags;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{Gid, Uid, fchownat};
use serde_json::json;

use super::access::Access;
use crate::host::Root;
use crate::host::input::EventDevice;
use crate::plan::{Account, LateInput};
use crate::qemu::{Qmp, QmpError};

/// Gives QEMU a device under this id. QEMU grabs it at once, or as soon as no key is pressed.
pub(super) async fn give(
    access: &mut Access<'_>,
    root: &Root,
    id: &str,
    input: &LateInput,
    device: &EventDevice,
) -> Result<()> {
    let node = match (&input.node, &access.plan.account) {
        (Some(node), Some(account)) => {
            make_node(root, node, device, account)
                .with_context(|| format!("cannot make the node {}", node.display()))?;
            Some(node)
        }
        _ => None,
    };
    let arguments = json!({
        "qom-type": "input-linux",
        "id": id,
        "evdev": node.unwrap_or(&input.path),
        "grab_all": input.grab_all,
        "repeat": input.repeat,
        "grab-toggle": input.toggle,
    });
    let added = access.qmp.execute_raw("object-add", arguments).await;
    // QEMU has it open by now, or will never open it.
    if let Some(node) = node {
        std::fs::remove_file(root.path(node)).with_context(|| format!("cannot remove the node {}", node.display()))?;
    }
    added?;
    Ok(())
}

/// Takes a device from QEMU, which gives it back to the host at once. One that is gone already is no error.
pub(super) async fn withdraw(qmp: &mut Qmp, id: &str) -> Result<(), QmpError> {
    match qmp.execute_raw("object-del", json!({ "id": id })).await {
        Err(QmpError::Refused { detail, .. }) if detail.contains("not found") => Ok(()),
        other => other.map(drop),
    }
}

/// Makes a node of the device that only this account may open.
fn make_node(root: &Root, node: &Path, device: &EventDevice, account: &Account) -> Result<()> {
    let numbers = root.text(format!("/sys/class/input/{}/dev", device.event)).unwrap_or_default();
    let numbers = numbers.split_once(':').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    let (major, minor): (u64, u64) = numbers.context("it is gone")?;
    let path = root.path(node);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    mknod(&path, SFlag::S_IFCHR, Mode::S_IRUSR | Mode::S_IWUSR, makedev(major, minor))?;
    let made = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(&path)?;
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    fchownat(&made, "", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH)?;
    Ok(())
}
