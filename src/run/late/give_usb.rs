//! A USB device on its way to QEMU: opened by the launcher, handed over as a descriptor, so that its node stays the host's.

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};

use anyhow::{Context as _, Result, bail};
use nix::sys::stat::{major, minor};
use serde_json::json;

use super::access::Access;
use super::fdset::FdSet;
use super::withdraw_device;
use crate::change::{Change, TakeUsb, unattended};
use crate::host::Root;
use crate::host::usb::Plugged;
use crate::machine::UsbDevice;
use crate::plan::LateUsb;
use crate::qemu::{Qmp, QmpError};
use crate::run::kept::leases::Lease;

/// Gives QEMU a device under this id; its lease.
pub(super) async fn give(
    access: &mut Access<'_>,
    root: &Root,
    id: &str,
    usb: &LateUsb,
    device: &Plugged,
) -> Result<Lease> {
    if let Some(mounted) = device.mounted.first() {
        bail!("the host uses it ({mounted}); unmount it and plug it in again");
    }
    let lease = Lease::take(access.plan, &device.lease_name())?;
    match hand_over(access, root, id, usb, device).await {
        Ok(()) => Ok(lease),
        Err(error) => {
            lease.release();
            Err(error)
        }
    }
}

async fn hand_over(access: &mut Access<'_>, root: &Root, id: &str, usb: &LateUsb, device: &Plugged) -> Result<()> {
    let node = open(root, device)?;
    let change = Change::from(TakeUsb { port: device.port.clone() });
    // What is in a port now is put back by the change that was made for what was in it before.
    if !access.journal.open_changes().iter().any(|open| open.change == change) {
        access.journal.make(root, &change, &unattended)?;
    }
    let set = FdSet::add(access.qmp, node.as_fd()).await?;
    let mut arguments = json!({
        "driver": "usb-host",
        "id": id,
        "bus": format!("{}.0", UsbDevice::CONTROLLER),
        "hostdevice": set.path(),
    });
    if let Some(port) = usb.guest_port {
        arguments["port"] = port.to_string().into();
    }
    let added = access.qmp.execute_raw("device_add", arguments).await.map(drop).map_err(Into::into);
    set.remove(access.qmp, &added).await;
    added
}

/// Takes a device from QEMU; its host drivers come back by themselves.
pub(super) async fn withdraw(qmp: &mut Qmp, id: &str) -> Result<(), QmpError> {
    withdraw_device::withdraw(qmp, id).await
}

/// Opens the node of just this device: its number on the bus is another one's after it was unplugged.
fn open(root: &Root, device: &Plugged) -> Result<File> {
    let path = root.path(device.node());
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY);
    let file = options.open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    let meta = file.metadata()?;
    let numbers = format!("{}:{}", major(meta.rdev()), minor(meta.rdev()));
    let wanted = root.text(format!("/sys/bus/usb/devices/{}/dev", device.port));
    if !meta.file_type().is_char_device() || wanted.as_deref() != Some(numbers.as_str()) {
        bail!("{} is not its node", path.display());
    }
    Ok(file)
}
