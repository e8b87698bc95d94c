//! At boot a unit of ours may come before the display manager, whose screen it is to take.
//!
//! An order between the two units would not do: at our unit's stop, systemd would start the display manager only after that
//! stop, which waits for the display manager.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::time::sleep;

use crate::change::Change;
use crate::host::Root;
use crate::host::pci::holders_of_screens;
use crate::plan::{Cgroup, Plan};
use crate::run::systemd_notify;
use crate::systemd::{Systemd, SystemdError};

const DISPLAY_MANAGER: &str = "display-manager.service";
/// How long a display manager may take to start.
const LIMIT: Duration = Duration::from_secs(100);
/// How long after its start its screen may still come. Xorg opens its card within seconds.
const SCREEN_LIMIT: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(100);

/// If this launcher is the main process of a unit and takes devices, waits for a display manager that is about to start.
/// Returns whether the plan may not know of it yet: it was about to, or it runs and the plan does not stop it.
pub async fn wait_for_display_manager(plan: &Plan, root: &Root) -> bool {
    if plan.leases.is_empty() || !matches!(plan.cgroup, Cgroup::Made(_)) {
        return false;
    }
    systemd_notify::status("waiting until display-manager.service has started, if it is about to");
    let wait = async {
        let systemd = Systemd::connect().await?;
        let waited = systemd.wait_for_start(DISPLAY_MANAGER, LIMIT).await?;
        let is_news = waited || goes_on(&systemd, plan).await?;
        if is_news {
            wait_for_screen(&systemd, root).await?;
        }
        Ok(is_news)
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

/// If it has just started, waits until a program has opened its cards: systemd counts most display managers as started
/// before their screen is there, and who holds the guest's card is what a plan depends on.
async fn wait_for_screen(systemd: &Systemd, root: &Root) -> Result<(), SystemdError> {
    let mut before = Vec::new();
    while is_new(systemd).await? {
        let holders = holders_of_screens(root);
        // It opens one card after the other.
        if !holders.is_empty() && holders == before {
            break;
        }
        before = holders;
        sleep(POLL).await;
    }
    Ok(())
}

/// Whether it runs, and has not for long.
async fn is_new(systemd: &Systemd) -> Result<bool, SystemdError> {
    let state: String = systemd.property(DISPLAY_MANAGER, "Unit", "ActiveState").await?;
    let since: u64 = systemd.property(DISPLAY_MANAGER, "Unit", "ActiveEnterTimestampMonotonic").await?;
    // The clock of that property; that of this process cannot fail.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or(Duration::MAX);
    Ok(state == "active" && now.saturating_sub(Duration::from_micros(since)) < SCREEN_LIMIT)
}
