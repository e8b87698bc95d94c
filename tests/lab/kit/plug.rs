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
        self.add_disk("nvme0", "nvme.img", 64 << 20)?;
        self.plug(
            json!({ "driver": "nvme", "id": "nvme", "bus": "port-nvme", "drive": "nvme0", "serial": "LABNVME" }),
        )?;
        self.wait_until(&format!("[ -e /sys/bus/pci/devices/{}/driver ] && [ -b /dev/nvme0n1 ]", at::NVME), PATIENCE)
    }

    /// Plugs the USB controller in with what is on it, and waits until the host has all.
    pub fn plug_usb(&self, keyboard: bool, mouse: bool, disk: bool) -> Result<()> {
        self.plug(json!({ "driver": "qemu-xhci", "id": "usb", "bus": "port-usb" }))?;
        let mut there = format!("[ -e /sys/bus/pci/devices/{}/driver ]", at::USB);
        if keyboard {
            self.plug(json!({ "driver": "usb-kbd", "id": "keyboard", "bus": "usb.0", "port": "1" }))?;
            there += " && ls /dev/input/by-id/*event-kbd";
        }
        if mouse {
            self.plug(json!({ "driver": "usb-mouse", "id": "mouse", "bus": "usb.0", "port": "2" }))?;
            there += " && ls /dev/input/by-id/*event-mouse";
        }
        if disk {
            self.add_disk("stick", "usb.img", 16 << 20)?;
            let stick = json!({ "driver": "usb-storage", "id": "disk", "bus": "usb.0", "port": "3", "drive": "stick", "serial": "LABSTICK" });
            self.plug(stick)?;
            there += " && ls /dev/disk/by-id/usb-*LABSTICK*";
        }
        self.wait_until(&format!("{there} && udevadm settle"), PATIENCE)
    }

    /// Gives QEMU a disk image of the host's folder under this name.
    fn add_disk(&self, node: &str, image: &str, size: u64) -> Result<()> {
        let image = self.path().join(image);
        if !image.exists() {
            File::create(&image)?.set_len(size)?;
        }
        let file = json!({ "driver": "file", "filename": image });
        let disk = json!({ "driver": "raw", "node-name": node, "file": file });
        self.on(|running| running.l0.qmp.execute("blockdev-add", disk)).map(drop)
    }

    /// Plugs any device in; `arguments` as for QMP's `device_add`. Free are the buses `port-spare1` and `port-spare2`
    /// (PCIe), and `usb.0` if there is a USB controller.
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
