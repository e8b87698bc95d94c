//! A picture of the guest's emulated screen.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use crate::plan::Plan;
use crate::qemu::{Qmp, QmpError};
use crate::run::late::FdSet;

/// How long QEMU may take; the event loop does nothing else meanwhile.
const LIMIT: Duration = Duration::from_secs(5);

/// Has QEMU write what the screen shows into a file that is open for writing. It is a PPM, which every QEMU writes, and of which
/// all but the size are just colours: who asked makes of it what others are to open.
pub(super) async fn write(plan: &Plan, qmp: &mut Qmp, file: BorrowedFd<'_>) -> Result<()> {
    let set = FdSet::add(qmp, file).await?;
    let answer = qmp.execute_raw_within("screendump", json!({ "filename": set.path() }), LIMIT).await;
    let refused = matches!(&answer, Err(QmpError::Refused { .. }));
    let answer = answer.map(drop).context("QEMU made no picture");
    set.remove(qmp, &answer).await;
    // `extra_args` may have brought one.
    if refused && !plan.has_screen() {
        let card = match plan.leases.is_empty() {
            true => "",
            false => "the picture of a graphics card in `pci` is on its own outputs alone; ",
        };
        bail!("{} has no emulated screen: {card}`display: Spice` in its file gives it one", plan.name);
    }
    answer
}
