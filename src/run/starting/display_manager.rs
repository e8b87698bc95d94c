//! At boot a unit of ours may come before the display manager, whose screen it is to take.
//!
//! An order between the two units would not do: at our unit's stop, systemd would start the display manager only after that
//! stop, which waits for the display manager.

use std::time::Duration;

use crate::change::Change;
use crate::plan::{Cgroup, Plan};
use crate::run::systemd_notify;
use crate::systemd::{Systemd, SystemdError};

const DISPLAY_MANAGER: &str = "display-manager.service";
/// How long a display manager may take to start.
const LIMIT: Duration = Duration::from_secs(100);

/// If this launcher is the main process of a unit and takes devices, waits for a display manager that is about to start.
/// Returns whether the plan may not know of it yet: it was about to, or it runs and the plan does not stop it.
pub async fn wait_for_display_manager(plan: &Plan) -> bool {
    if plan.leases.is_empty() || !matches!(plan.cgroup, Cgroup::Made(_)) {
        return false;
    }
    systemd_notify::status("waiting until display-manager.service has started, if it is about to");
    let wait = async {
        let systemd = Systemd::connect().await?;
        let waited = systemd.wait_for_start(DISPLAY_MANAGER, LIMIT).await?;
        Ok(waited || goes_on(&systemd, plan).await?)
    };
    match wait.await {
        Ok(is_news) => is_news,
        // There is no systemd.
        Err(SystemdError::NoBus(_)) => false,
        Err(error) => {
            tracing::warn!("cannot find out whether {DISPLAY_MANAGER} is about to start: {error}");
            true
        }
    }
}

/// Whether it runs and the plan leaves it so: it may have started since the host was looked at.
async fn goes_on(systemd: &Systemd, plan: &Plan) -> Result<bool, SystemdError> {
    let state: String = systemd.property(DISPLAY_MANAGER, "Unit", "ActiveState").await?;
    let id: String = systemd.property(DISPLAY_MANAGER, "Unit", "Id").await?;
    let stops = |change: &Change| matches!(change, Change::StopUnit(stop) if stop.unit == id);
    Ok(state == "active" && !plan.changes.iter().any(|planned| stops(&planned.change)))
}
