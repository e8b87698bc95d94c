//! At boot a unit of ours may come before the display manager, whose screen it is to take.
//!
//! An order between the two units would not do: at our unit's stop, systemd would start the display manager only after that
//! stop, which waits for the display manager.

use std::time::Duration;

use crate::plan::{Cgroup, Plan};
use crate::run::systemd_notify;
use crate::systemd::{Systemd, SystemdError};

const DISPLAY_MANAGER: &str = "display-manager.service";
/// How long a display manager may take to start.
const LIMIT: Duration = Duration::from_secs(100);

/// If this launcher is the main process of a unit and takes devices, waits for a display manager that is about to start.
/// Returns whether there was one: the plan may not have stopped it.
pub async fn wait_for_display_manager(plan: &Plan) -> bool {
    if plan.leases.is_empty() || !matches!(plan.cgroup, Cgroup::Made(_)) {
        return false;
    }
    systemd_notify::status("waiting until display-manager.service has started, if it is about to");
    let wait = async { Systemd::connect().await?.wait_for_start(DISPLAY_MANAGER, LIMIT).await };
    match wait.await {
        Ok(waited) => waited,
        // There is no systemd.
        Err(SystemdError::NoBus(_)) => false,
        Err(error) => {
            tracing::warn!("cannot find out whether {DISPLAY_MANAGER} is about to start: {error}");
            true
        }
    }
}
