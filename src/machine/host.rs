//! What the host does for as long as the guest runs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::named::Named;
use super::problems::Problems;
use super::subject::Subject;

/// One second; no idle state takes that long to leave.
const MAX_LATENCY: u32 = 1_000_000;

/// What the host does for as long as the guest runs. The kernel ends each of these with QEMU, whatever becomes of the
/// launcher.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostHolds {
    /// The longest time in microseconds that a CPU of the host may take to wake from idle, `20` for example (PM QoS,
    /// `/dev/cpu_dma_latency`). Smaller values keep the CPUs from deep idle states: interrupts reach the guest sooner, and
    /// the host uses more power. With `0` idle CPUs do not sleep at all. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_latency_us: Option<u32>,
    /// Whether the host must not suspend or hibernate while the guest runs, as under `systemd-inhibit --what=sleep`.
    /// Default `false`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_sleep: bool,
}

impl HostHolds {
    /// The kernel's interface for the wake-up latency of CPUs.
    pub const CPU_LATENCY_NODE: &str = "/dev/cpu_dma_latency";
    /// There while logind runs.
    pub const LOGIND_FOLDER: &str = "/run/systemd/inhibit";
}

impl Subject for HostHolds {
    fn check(&self, problems: &mut Problems) {
        if let Some(latency) = self.cpu_latency_us.filter(|latency| *latency > MAX_LATENCY) {
            problems
                .add("host.cpu_latency_us", format!("`host.cpu_latency_us` cannot be {latency}"))
                .allowed(format!("0 to {MAX_LATENCY} microseconds"));
        }
    }

    fn name(&self, named: &mut Named) {
        named.files.extend(self.cpu_latency_us.map(|_| Self::CPU_LATENCY_NODE.into()));
        named.files.extend(self.no_sleep.then(|| Self::LOGIND_FOLDER.into()));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::machine::parse;

    #[test]
    fn a_latency_beyond_any_idle_state_is_refused() {
        for (written, refused) in
            [("0", None), ("1000000", None), ("1000001", Some("`host.cpu_latency_us` cannot be 1000001"))]
        {
            let text = format!("(guest: Linux, memory: (size: \"1 GiB\"), host: (cpu_latency_us: {written}))");
            let error = parse(Path::new("m.ron"), &text).err().map(|error| error.to_string());
            assert_eq!(error.is_some(), refused.is_some(), "{error:?}");
            assert!(error.is_none_or(|error| refused.is_some_and(|words| error.contains(words))));
        }
    }
}
