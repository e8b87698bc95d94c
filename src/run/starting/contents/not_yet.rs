//! What the first start makes and keeps, for a QEMU that is only tried before it: in memory, since nothing is to be left.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::unistd::{Gid, Uid, fchown};
use rustix::fs::{MemfdFlags, memfd_create};

use super::{Contents, fill};
use crate::host::Root;
use crate::plan::{Inherited, Keep, Opened, Plan};
use crate::run::kept::new_image;
use crate::trusted;

/// The files of a plan, as [`super::make`] makes them, but those in memory that are not there yet; and the numbers of these.
pub fn make_before_first_start(root: &Root, plan: &Plan) -> Result<(Contents, Vec<i32>)> {
    let (mut made, mut passing) = (Contents::new(), Vec::new());
    for descriptor in &plan.descriptors {
        let instead = match &descriptor.what {
            Inherited::File(Opened { path, .. }) if !root.path(path).exists() => in_memory(root, plan, path)?,
            _ => None,
        };
        match instead {
            Some(file) => {
                passing.push(descriptor.fd);
                made.push((descriptor.fd, file));
            }
            None => made.extend(fill(root, std::slice::from_ref(descriptor), plan.account.as_ref())?),
        }
    }
    Ok((made, passing))
}

/// What will be at this path after the first start; `None`, if the plan makes nothing there.
fn in_memory(root: &Root, plan: &Plan, path: &Path) -> Result<Option<OwnedFd>> {
    let is_it = |item: &&Keep| match item {
        Keep::Copy { to: at, .. } | Keep::Image { path: at, .. } => at == path,
        Keep::Folder(_) | Keep::TpmState { .. } => false,
    };
    let Some(item) = plan.keep.iter().find(is_it) else { return Ok(None) };
    let made = || -> Result<OwnedFd> {
        let mut file = File::from(memfd_create("vfio-run-not-yet", MemfdFlags::CLOEXEC)?);
        match item {
            Keep::Copy { from, .. } => drop(std::io::copy(&mut trusted::open_data(&root.path(from))?, &mut file)?),
            Keep::Image { format, size, .. } => new_image::fill(&file, *format, *size)?,
            Keep::Folder(_) | Keep::TpmState { .. } => {}
        }
        if let Some(account) = &plan.account {
            fchown(&file, Some(Uid::from_raw(account.uid)), Some(Gid::from_raw(account.gid)))?;
        }
        Ok(file.into())
    };
    made().map(Some).with_context(|| format!("cannot make what will be at {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;
    use crate::plan::sample::{Shape, host, plan};
    use crate::plan::{Access, Descriptor};
    use crate::units::{DiskFormat, Size};

    #[test]
    fn what_the_first_start_makes_is_in_memory_and_what_is_there_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("template"), "variables").unwrap();
        std::fs::write(at("there"), "the guest's").unwrap();
        let mut plan = plan("(guest: Other, memory: (size: \"1 GiB\"))", &host(Shape::simple(4, 1)));
        plan.account = None;
        plan.keep = vec![
            Keep::Copy { from: at("template"), to: at("vars.fd") },
            Keep::Image { path: at("new.qcow2"), format: DiskFormat::Qcow2, size: Size::bytes(1 << 30) },
        ];
        let file = |fd, name: &str| Descriptor {
            fd,
            what: Inherited::File(Opened { path: at(name), access: Access::Write, direct: false }),
        };
        plan.descriptors = vec![file(3, "vars.fd"), file(4, "new.qcow2"), file(5, "there")];
        let (made, passing) = make_before_first_start(&Root::new("/"), &plan).unwrap();
        assert_eq!(passing, [3, 4]);
        let begins: Vec<Vec<u8>> = made
            .into_iter()
            .map(|(_, fd)| {
                let mut bytes = vec![0; 4];
                File::from(fd).read_exact_at(&mut bytes, 0).unwrap();
                bytes
            })
            .collect();
        assert_eq!(begins, [b"vari", b"QFI\xfb", b"the "]);
        assert!(!at("vars.fd").exists() && !at("new.qcow2").exists());
        // What nothing makes is missing.
        plan.descriptors = vec![file(3, "elsewhere")];
        assert!(make_before_first_start(&Root::new("/"), &plan).is_err());
    }
}
