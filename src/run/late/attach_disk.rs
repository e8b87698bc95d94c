//! Disks that somebody gives a running guest, or takes from it.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::access;
use super::attach::attached;
use super::devices::{LateDevices, Slot};
use super::{give_disk, medium};
use crate::host::Root;
use crate::machine::UsbDevice;
use crate::plan::{Access, Inherited, Late, LateDisk, Opened, Plan};

/// The file of the machine's own that this disk's image is, if one of the two would be written.
fn own_image<'p>(plan: &'p Plan, root: &Root, disk: &LateDisk) -> Option<&'p Path> {
    let own = own_file(plan, root, &disk.file, |opened| opened.access != Access::Read || !disk.read_only);
    own.map(|opened| opened.path.as_path())
}

/// The file of the machine's own that this file is, if it is such a one.
fn own_file<'p>(plan: &'p Plan, root: &Root, file: &Path, which: impl Fn(&Opened) -> bool) -> Option<&'p Opened> {
    let identity = |path: &Path| {
        let data = std::fs::metadata(root.path(path)).ok()?;
        // Two nodes of one block device are the same disk.
        Some(if data.file_type().is_block_device() { (0, data.rdev()) } else { (data.dev(), data.ino()) })
    };
    let meant = identity(file)?;
    own_files(plan).filter(|opened| which(opened)).find(|opened| identity(&opened.path) == Some(meant))
}

fn own_files(plan: &Plan) -> impl Iterator<Item = &Opened> {
    plan.descriptors.iter().filter_map(|descriptor| match &descriptor.what {
        Inherited::File(opened) => Some(opened),
        _ => None,
    })
}

/// Why a disk that nobody attached is not detached, and what can be done instead.
///
/// Goes by paths alone: a file may be on a server that does not answer, and the launcher waits for none.
fn why_not_detached(plan: &Plan, file: &Path) -> String {
    let (name, shown) = (&plan.name, file.display());
    let Some(own) = own_files(plan).find(|own| own.path == file) else {
        return format!("{shown} was not attached to the guest");
    };
    let cd = match own.access == Access::Read && medium::has_drive(plan) {
        true => format!("; if it is a CD, `vfio-run cd {name} --eject` takes it out of its drive"),
        false => String::new(),
    };
    format!(
        "{shown} is in the machine file of {name}, so the guest has it until it ends; take it out of the file, and the guest has it \
         no more from its next start on{cd}"
    )
}

impl LateDevices {
    /// Gives the guest a disk until it ends. Says what it is.
    pub async fn attach_disk(&mut self, access: &mut access::Access<'_>, disk: &LateDisk) -> Result<String> {
        let shown = disk.file.display().to_string();
        if self.disk_at(&disk.file).is_some() {
            bail!("the guest has {shown} already");
        }
        if let Some(own) = own_image(access.plan, &self.root, disk) {
            bail!(
                "the guest has {shown} already: its machine file names {}; two disks that write one image would destroy what is \
                 on it",
                own.display()
            );
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
    pub(super) fn disk_slot(&self, plan: &Plan, file: &Path) -> Result<usize> {
        self.disk_at(file).with_context(|| why_not_detached(plan, file))
    }

    fn disk_at(&self, file: &Path) -> Option<usize> {
        let is_meant = |slot: &Slot| matches!(&slot.device.what, Late::Disk(disk) if disk.file == file);
        self.slots.iter().position(is_meant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Descriptor;
    use crate::plan::sample::{self, Shape};
    use crate::units::DiskFormat;

    #[test]
    fn a_disk_of_the_machine_is_known_by_every_name_that_it_has() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["own.raw", "cd.iso", "other.raw"] {
            std::fs::write(at(name), "").unwrap();
        }
        std::os::unix::fs::symlink(at("own.raw"), at("link.raw")).unwrap();
        std::fs::hard_link(at("own.raw"), at("second.raw")).unwrap();
        let mut plan = sample::plan("(guest: Linux, memory: (size: \"1 GiB\"))", &sample::host(Shape::simple(4, 1)));
        let opened = |name: &str, access| Inherited::File(Opened { path: at(name), access, direct: false });
        plan.descriptors = vec![
            Descriptor { fd: 3, what: Inherited::Qmp },
            Descriptor { fd: 4, what: opened("own.raw", Access::Write) },
            Descriptor { fd: 5, what: opened("cd.iso", Access::Read) },
            Descriptor { fd: 6, what: opened("gone.raw", Access::Write) },
        ];
        for (name, read_only, own) in [
            ("own.raw", false, Some("own.raw")),
            ("link.raw", false, Some("own.raw")),
            ("second.raw", true, Some("own.raw")),
            ("cd.iso", false, Some("cd.iso")),
            ("cd.iso", true, None),
            ("other.raw", false, None),
            ("gone.raw", false, None),
        ] {
            let disk = LateDisk { file: at(name), format: DiskFormat::Raw, read_only, serial: None, guest_port: None };
            assert_eq!(own_image(&plan, &Root::new("/"), &disk), own.map(at).as_deref(), "{name} {read_only}");
        }
        let why = |plan: &Plan, name: &str| why_not_detached(plan, &at(name));
        assert!(why(&plan, "own.raw").contains("own.raw is in the machine file of "), "{}", why(&plan, "own.raw"));
        assert!(!why(&plan, "cd.iso").contains("--eject"), "it has no drive: {}", why(&plan, "cd.iso"));
        assert!(why(&plan, "other.raw").ends_with("other.raw was not attached to the guest"));
        let drive = "(guest: Linux, memory: (size: \"1 GiB\"), disks: [(media: Cd)])";
        let drive = sample::plan(drive, &sample::host(Shape::simple(4, 1)));
        let with_drive = Plan { descriptors: plan.descriptors, ..drive };
        assert!(why(&with_drive, "cd.iso").ends_with("--eject` takes it out of its drive"));
        assert!(!why(&with_drive, "own.raw").contains("--eject"));
    }
}
