//! An image on its way to a running QEMU: opened by the launcher and handed over as a descriptor, so that it stays its owner's
//! and QEMU's account needs no right to it.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::fdset::FdSet;
use crate::qemu::{Qmp, QmpError};
use crate::trusted;
use crate::units::DiskFormat;

/// An open image.
pub(super) struct Image {
    file: File,
    /// Whether it is a block device.
    device: bool,
    /// Whether it was opened with O_DIRECT, which QEMU 10 compares with what it would open it with
    /// (`monitor_fdset_dup_fd_add()` in QEMU's `monitor/fds.c`).
    direct: bool,
    read_only: bool,
}

impl Image {
    /// Opens a file or block device, past the host's cache if the file system can.
    pub fn open(path: &Path, read_only: bool) -> Result<Self> {
        let shown = path.display();
        let mut options = OpenOptions::new();
        options.read(true).write(!read_only);
        let open = |direct: bool| trusted::open(path, &options, if direct { libc::O_DIRECT } else { 0 });
        let (file, direct) = match open(true) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => (open(false), false),
            opened => (opened, true),
        };
        let file = file.with_context(|| format!("cannot open {shown}"))?;
        let kind = file.metadata()?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            bail!("{shown} is neither a file nor a block device");
        }
        Ok(Self { file, device: kind.is_block_device(), direct, read_only })
    }

    /// Its descriptor.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Makes the block node `node` of it, which a device can have.
    pub async fn add(&self, qmp: &mut Qmp, set: &FdSet, node: &str, format: DiskFormat) -> Result<()> {
        let common = |driver: &str| {
            json!({
                "driver": driver,
                "read-only": self.read_only,
                "discard": if self.read_only { "ignore" } else { "unmap" },
                "cache": { "direct": self.direct, "no-flush": false },
            })
        };
        let mut bytes = common(if self.device { "host_device" } else { "file" });
        bytes["filename"] = set.path().into();
        let mut image = common(format.name());
        image["node-name"] = node.into();
        image["file"] = bytes;
        qmp.execute_raw("blockdev-add", image).await?;
        Ok(())
    }
}

/// Takes a block node from QEMU, and with it the image's lock. One that is not there is no error.
pub(super) async fn remove(qmp: &mut Qmp, node: &str) -> Result<(), QmpError> {
    match qmp.execute_raw("blockdev-del", json!({ "node-name": node })).await {
        Err(QmpError::Refused { detail, .. }) if detail.contains("Failed to find node") => Ok(()),
        other => other.map(|_: Value| ()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_and_block_devices_are_images_and_none_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let refused = |path: &Path, read_only| Image::open(path, read_only).err().map(|error| format!("{error:#}"));
        assert!(refused(&path, true).is_some_and(|words| words.contains("No such file")));
        std::fs::write(&path, [0; 512]).unwrap();
        assert_eq!(refused(&path, false), None);
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for other in [pipe.as_path(), Path::new("/dev/null"), folder.path()] {
            let words = refused(other, true).unwrap_or_else(|| panic!("{} was opened", other.display()));
            assert!(words.contains("is neither a file nor a "), "{words}");
        }
    }
}
