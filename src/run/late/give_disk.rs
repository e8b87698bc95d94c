//! A disk that somebody gives the running guest: on the machine's SCSI controller if it has one, else a USB disk, for which
//! each guest has a driver.

use anyhow::Result;
use serde_json::json;

use super::access::Access;
use super::fdset::FdSet;
use super::image::{self, Image};
use super::withdraw_device;
use crate::machine::UsbDevice;
use crate::plan::LateDisk;
use crate::qemu::{Qmp, QmpError};

/// Gives QEMU a disk under this id.
pub(super) async fn give(access: &mut Access<'_>, id: &str, disk: &LateDisk) -> Result<()> {
    let image = Image::open(&disk.file, disk.read_only)?;
    let set = FdSet::add(access.qmp, image.descriptor()).await?;
    let given = plug(access.qmp, id, disk, &image, &set).await;
    set.remove(access.qmp, &given).await;
    given
}

async fn plug(qmp: &mut Qmp, id: &str, disk: &LateDisk, image: &Image, set: &FdSet) -> Result<()> {
    let node = node(id);
    image.add(qmp, set, &node, disk.format).await?;
    let mut device = match disk.guest_port {
        None => json!({ "driver": "scsi-hd", "bus": format!("{}.0", LateDisk::SCSI) }),
        Some(port) => {
            let bus = format!("{}.0", UsbDevice::CONTROLLER);
            json!({ "driver": "usb-storage", "bus": bus, "port": port.to_string(), "removable": true })
        }
    };
    device["id"] = id.into();
    device["drive"] = node.as_str().into();
    if let Some(serial) = &disk.serial {
        device["serial"] = serial.as_str().into();
    }
    if let Err(error) = qmp.execute_raw("device_add", device).await {
        if let Err(error) = image::remove(qmp, &node).await {
            tracing::warn!("{} stays open in QEMU: {error:#}", disk.file.display());
        }
        return Err(error.into());
    }
    Ok(())
}

/// Takes a disk from QEMU, which closes the image.
pub(super) async fn withdraw(qmp: &mut Qmp, id: &str) -> Result<(), QmpError> {
    withdraw_device::withdraw(qmp, id).await?;
    image::remove(qmp, &node(id)).await
}

fn node(id: &str) -> String {
    format!("{id}-image")
}
