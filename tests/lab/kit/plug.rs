//! Plugging devices into a running lab host, and out of it.

use std::fs::File;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use super::host::at;
use super::lab::Lab;

/// How long the host's kernel may take to let a device go.
const PATIENCE: Duration = Duration::from_secs(60);

impl Lab {
    /// Plugs the NVMe disk in, and waits until the host has it.
    pub fn plug_nvme(&self) -> Result<()> {
        let image = self.path().join("nvme.img");
        if !image.exists() {
            File::create(&image)?.set_len(64 << 20)?;
        }
        let file = json!({ "driver": "file", "filename": image });
        self.on(|running| {
            running.l0.qmp.execute("blockdev-add", json!({ "driver": "raw", "node-name": "nvme0", "file": file }))
        })?;
        self.plug(
            json!({ "driver": "nvme", "id": "nvme", "bus": "port-nvme", "drive": "nvme0", "serial": "LABNVME" }),
        )?;
        self.wait_until(&format!("[ -e /sys/bus/pci/devices/{}/driver ] && [ -b /dev/nvme0n1 ]", at::NVME), PATIENCE)
    }

    /// Plugs any device in; `arguments` as for QMP's `device_add`. Free are the buses `port-spare1` and `port-spare2`
    /// (PCIe), and `usb.0` where there is a USB controller.
    pub fn plug(&self, arguments: Value) -> Result<()> {
        self.on(|running| running.l0.qmp.execute("device_add", arguments)).map(drop)
    }

    /// Pulls a device by its id (`nvme`, `keyboard`, `mouse`, …) and waits until the host has let it go.
    pub fn unplug(&self, id: &str) -> Result<()> {
        self.on(|running| {
            running.l0.qmp.events.retain(|event| event["event"] != "DEVICE_DELETED");
            running.l0.qmp.execute("device_del", json!({ "id": id }))?;
            running.l0.qmp.wait_for_event("DEVICE_DELETED", Instant::now() + PATIENCE)
        })
        .map(drop)
    }
}
