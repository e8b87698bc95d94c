//! Disks that somebody gives a running guest, or takes from it.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::access::Access;
use super::attach::attached;
use super::devices::{LateDevices, Slot};
use super::give_disk;
use crate::machine::UsbDevice;
use crate::plan::{Late, LateDisk};

impl LateDevices {
    /// Gives the guest a disk until it ends. Says what it is.
    pub async fn attach_disk(&mut self, access: &mut Access<'_>, disk: &LateDisk) -> Result<String> {
        let shown = disk.file.display().to_string();
        if self.disk_slot(&disk.file).is_ok() {
            bail!("the guest has {shown} already");
        }
        let has = |id: &str| access.plan.command.options.iter().any(|option| option.has_id(id));
        let guest_port = match (has(LateDisk::SCSI), has(UsbDevice::CONTROLLER)) {
            (true, _) => None,
            (false, true) => Some(self.free_port(access.plan)?),
            (false, false) => {
                bail!(
                    "{} has neither a SCSI nor a USB controller; `usb: []` in its file gives it one of the latter",
                    access.plan.name
                )
            }
        };
        let disk = LateDisk { guest_port, ..disk.clone() };
        let id = self.free_id("hot")?;
        give_disk::give(access, &id, &disk).await?;
        let identity = shown.clone();
        let slot = attached(access, id, Late::Disk(disk))?;
        Ok(self.add(access, slot, identity, shown, None))
    }

    /// Where the disk is that somebody means.
    pub(super) fn disk_slot(&self, file: &Path) -> Result<usize> {
        let is_meant = |slot: &Slot| matches!(&slot.device.what, Late::Disk(disk) if disk.file == file);
        let at = self.slots.iter().position(is_meant);
        at.with_context(|| format!("{} was not attached to the guest", file.display()))
    }
}
