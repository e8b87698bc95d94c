//! Gives the host CPUs back that its kernel has lost.
//!
//! Before Linux 6.7 (tried with 6.1) a partition that is still valid when the controller cpuset is switched off at the
//! top keeps its CPUs from everything, though it is gone. Making another partition of them gives them back.

use std::path::Path;

use super::cpuset_controller::CpusetController;
use super::files::{cpus, write};
use crate::change::error::FileError;
use crate::host::Root;
use crate::units::{CGROUPS, CpuSet, EFFECTIVE_CPUS};

/// The group at the top that is made for it.
const GROUP: &str = "vfio-run-lost-cpus";

/// Gives back those of these CPUs that no group has, though they are online. Returns whether there were any.
pub(super) fn give_back(root: &Root, ours: &CpuSet) -> Result<bool, FileError> {
    // Newer kernels have this file, and lose none.
    if !root.is_real() || root.path(format!("{CGROUPS}/cpuset.cpus.isolated")).exists() {
        return Ok(false);
    }
    let online = cpus(root, Path::new("/sys/devices/system/cpu/online"))?;
    let Some(effective) = root.list(EFFECTIVE_CPUS) else { return Ok(false) };
    let lost = ours.intersection(&online).difference(&effective);
    if lost.is_empty() || is_in_partition(root, &lost) {
        return Ok(false);
    }
    let controller = CpusetController::at_the_top();
    let was_on = controller.is_on(root)?;
    controller.switch(root, true)?;
    let group = Path::new(CGROUPS).join(GROUP);
    let made = std::fs::create_dir(&group).map_err(FileError::io("make", &group)).and_then(|()| {
        write(root, &group.join("cpuset.cpus"), &lost.to_string())?;
        write(root, &group.join("cpuset.cpus.partition"), "root")?;
        write(root, &group.join("cpuset.cpus.partition"), "member")
    });
    let removed = std::fs::remove_dir(&group).map_err(FileError::io("remove", &group));
    if !was_on {
        controller.switch(root, false)?;
    }
    made.and(removed)?;
    Ok(true)
}

/// Whether a group at the top is a partition that has some of the CPUs.
fn is_in_partition(root: &Root, lost: &CpuSet) -> bool {
    root.names(CGROUPS).iter().map(|name| Path::new(CGROUPS).join(name)).any(|group| {
        let kind = root.text(group.join("cpuset.cpus.partition")).unwrap_or_default();
        let has = root.list(group.join("cpuset.cpus.effective")).unwrap_or_default();
        matches!(kind.as_str(), "root" | "isolated") && !has.intersection(lost).is_empty()
    })
}
