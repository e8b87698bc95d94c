//! Whether a device node is that of a TPM: QEMU, given another, ends only after everything else was taken.

use super::Root;

/// Whether a character device, by its major and minor number, is a TPM with the kernel's resource manager or without; `None` if
/// sysfs does not know it.
pub(super) fn is_tpm(root: &Root, (major, minor): (u64, u64)) -> Option<bool> {
    let class = root.link(format!("/sys/dev/char/{major}:{minor}/subsystem"))?;
    Some(matches!(class.as_str(), "tpm" | "tpmrm"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_a_tpms_if_its_class_is() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path());
        for (device, class) in [("1:3", "mem"), ("10:224", "tpm"), ("253:65536", "tpmrm")] {
            let folder = root.path(format!("/sys/dev/char/{device}"));
            std::fs::create_dir_all(&folder).unwrap();
            std::os::unix::fs::symlink(format!("../../../../class/{class}"), folder.join("subsystem")).unwrap();
        }
        let is = [(1, 3), (10, 224), (253, 65536), (5, 1)].map(|device| is_tpm(&root, device));
        assert_eq!(is, [Some(false), Some(true), Some(true), None]);
    }
}
