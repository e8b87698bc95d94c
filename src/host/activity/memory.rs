//! What the guest's memory lies on.

use serde::{Deserialize, Serialize};

use crate::host::Root;
use crate::host::memory::amount;
use crate::units::Size;

/// A process's memory by the kind of its pages. What cannot be read is `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MemoryUse {
    /// Resident, without huge pages of a pool.
    pub resident: Option<Size>,
    /// In huge pages of a pool (hugetlbfs).
    pub huge: Option<Size>,
    /// In transparent huge pages; part of `resident`.
    pub transparent: Option<Size>,
    /// Swapped out.
    pub swapped: Option<Size>,
}

impl MemoryUse {
    /// Reads them; the transparent ones only for the process's own user and root.
    pub fn read(root: &Root, process: i32) -> Self {
        let rollup = root.text_up_to(format!("/proc/{process}/smaps_rollup"), 16 << 10);
        let transparent = rollup.and_then(|text| {
            let kinds = ["AnonHugePages", "ShmemPmdMapped", "FilePmdMapped"];
            let sizes: Vec<u64> = kinds.iter().filter_map(|key| amount(&text, key)).map(Size::as_bytes).collect();
            (!sizes.is_empty()).then(|| sizes.iter().fold(0, |sum: u64, size| sum.saturating_add(*size)))
        });
        Self { transparent: transparent.map(Size::bytes), ..Self::counted(root, process) }
    }

    /// Reads what the kernel has counted. For transparent pages it must look at each page of the process, which may not change
    /// its memory meanwhile.
    pub fn counted(root: &Root, process: i32) -> Self {
        let status = root.text_up_to(format!("/proc/{process}/status"), 16 << 10).unwrap_or_default();
        Self {
            resident: amount(&status, "VmRSS"),
            huge: amount(&status, "HugetlbPages"),
            transparent: None,
            swapped: amount(&status, "VmSwap"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_page_is_read_if_it_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        assert_eq!(MemoryUse::read(&root, 7), MemoryUse::default());
        std::fs::create_dir_all(root.path("/proc/7")).unwrap();
        let status = "VmRSS:\t    2048 kB\nVmSwap:\t       0 kB\nHugetlbPages:\t 1048576 kB\n";
        std::fs::write(root.path("/proc/7/status"), status).unwrap();
        let read = MemoryUse::read(&root, 7);
        let expected = MemoryUse {
            resident: Some(Size::bytes(2 << 20)),
            huge: Some(Size::bytes(1 << 30)),
            transparent: None,
            swapped: Some(Size::bytes(0)),
        };
        assert_eq!(read, expected);
        let rollup = "AnonHugePages:      2048 kB\nShmemPmdMapped:     4096 kB\n";
        std::fs::write(root.path("/proc/7/smaps_rollup"), rollup).unwrap();
        assert_eq!(MemoryUse::read(&root, 7).transparent, Some(Size::bytes(6 << 20)));
    }
}
