//! Takes a device from a running QEMU.

use std::time::Duration;

use serde_json::json;

use crate::qemu::{Event, Qmp, QmpError};

/// How long QEMU may take to let a device go.
const LIMIT: Duration = Duration::from_secs(5);

/// Takes a device from QEMU and waits until it is gone. One that is gone already is no error.
pub(super) async fn withdraw(qmp: &mut Qmp, id: &str) -> Result<(), QmpError> {
    match qmp.execute_raw("device_del", json!({ "id": id })).await {
        Err(QmpError::Refused { class, .. }) if class == "DeviceNotFound" => return Ok(()),
        other => other?,
    };
    let is_it = |event: &Event| event.name == "DEVICE_DELETED" && event.text("device") == Some(id);
    qmp.wait_for_event(is_it, LIMIT).await
}
