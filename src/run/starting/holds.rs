//! Opens the plan's holds, before the host is changed. QEMU inherits them without knowing, as it does `guest.lock`.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result, bail};

use crate::host::Root;
use crate::plan::{Hold, Plan};
use crate::systemd::logind::{self, Notices};

/// The descriptors of the plan's holds that are QEMU's.
pub async fn open(root: &Root, plan: &Plan) -> Result<Vec<OwnedFd>> {
    let mut descriptors = Vec::new();
    for planned in &plan.holds {
        let opened = match planned.hold {
            Hold::CpuLatency { microseconds } => limit_cpu_latency(root, microseconds),
            Hold::NoSleep => {
                let why = format!("the virtual machine {} runs", plan.name);
                logind::keep_awake(&why).await.map_err(anyhow::Error::from)
            }
            // The launcher's: see `notices`.
            Hold::DelayShutdown | Hold::PauseForSleep => continue,
        };
        match opened.with_context(|| format!("cannot hold: {}", planned.hold)) {
            Ok(descriptor) => descriptors.push(descriptor),
            Err(error) if planned.optional => tracing::warn!("{error:#}"),
            Err(error) => return Err(error),
        }
    }
    Ok(descriptors)
}

/// Listens for the host's shutdown and its sleep, as far as the plan has that.
pub async fn notices(plan: &Plan) -> Option<Notices> {
    let is_ours = |hold| matches!(hold, Hold::DelayShutdown | Hold::PauseForSleep);
    let wanted: Vec<Hold> = plan.holds.iter().map(|planned| planned.hold).filter(|hold| is_ours(*hold)).collect();
    let first = wanted.first()?;
    let lost = |hold: &Hold, error: &dyn std::fmt::Display| tracing::warn!("cannot hold: {hold} ({error})");
    let mut notices = Notices::connect().await.inspect_err(|error| lost(first, error)).ok()?;
    let mut held = false;
    for hold in &wanted {
        let result = match hold {
            Hold::PauseForSleep => notices.hold_sleep(&why_sleep_waits(plan)).await,
            _ => notices.hold_shutdown(&format!("the virtual machine {} is asked to end", plan.name)).await,
        };
        match result {
            Ok(()) => held = true,
            Err(error) => lost(hold, &error),
        }
    }
    held.then_some(notices)
}

/// What logind shows of the lock that holds up a sleep.
pub fn why_sleep_waits(plan: &Plan) -> String {
    format!("the virtual machine {} is paused", plan.name)
}

/// Writes the limit as the kernel's 32-bit number, which stands while the file is open. Read back, the file has the
/// strictest limit of all programs (`cpu_latency_qos_read()` in the kernel's `kernel/power/qos.c`).
fn limit_cpu_latency(root: &Root, microseconds: u32) -> Result<OwnedFd> {
    let path = root.path(Hold::CPU_LATENCY_NODE);
    let opened = OpenOptions::new().read(true).write(true).open(&path);
    let mut file = opened.with_context(|| format!("cannot open {}", path.display()))?;
    let wanted = i32::try_from(microseconds)?;
    file.write_all(&wanted.to_ne_bytes()).with_context(|| format!("cannot write to {}", path.display()))?;
    let mut found = [0; size_of::<i32>()];
    file.read_exact_at(&mut found, 0).with_context(|| format!("cannot read {}", path.display()))?;
    let found = i32::from_ne_bytes(found);
    if found > wanted {
        bail!("{} reads {found} after {wanted} was written", path.display());
    }
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_written_as_a_number_of_the_kernels() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let words = limit_cpu_latency(&root, 20).unwrap_err().to_string();
        assert!(words.starts_with("cannot open "), "{words}");
        let node = root.path(Hold::CPU_LATENCY_NODE);
        std::fs::create_dir_all(node.parent().unwrap()).unwrap();
        std::fs::write(&node, "").unwrap();
        limit_cpu_latency(&root, 20).unwrap();
        assert_eq!(std::fs::read(&node).unwrap(), 20i32.to_ne_bytes());
    }
}
