//! The graphics card, with it a pointer that needs no grab, and the USB devices that a client redirects.

use crate::machine::{Display, Guest, Video};
use crate::plan::Plan;
use crate::plan::command::devices::usb;
use crate::plan::draft::{Draft, by_default};
use crate::qemu::command::QemuOption;
use crate::qemu::device::Device;
use crate::qemu::pcie::VIDEO_ADDR;

/// Card, pointer and redirected devices.
pub(super) fn write(draft: &mut Draft, shown: bool) {
    let machine = draft.machine;
    let video = machine.video.as_ref().unwrap_or(match (shown, machine.guest) {
        (false, _) => &Video::None,
        (true, Guest::Linux) => &Video::Virtio,
        (true, _) => &Video::Std,
    });
    let (driver, memory) = match video {
        Video::None => (None, None),
        Video::Std => (Some("VGA"), machine.video_memory),
        Video::Virtio => (Some("virtio-vga"), None),
        Video::VirtioGl(_) => (Some("virtio-vga-gl"), None),
        Video::Qxl => (Some("qxl-vga"), machine.video_memory),
        Video::Cirrus => (Some("cirrus-vga"), machine.video_memory),
    };
    if let Some(driver) = driver {
        let origin = draft.file_or(machine.video.is_some(), "video", "what the guest family has a driver for");
        // On the root complex, as graphics cards on a board are: firmware looks there first.
        let card = Device::new(driver, Plan::VIDEO).on("pcie.0").with("addr", VIDEO_ADDR);
        let card = card.with_some("vgamem_mb", memory.map(|memory| memory.as_mib()));
        let parts = memory.map(|_| ("vgamem_mb".to_owned(), draft.file("video_memory")));
        draft.device_explained(card, origin, parts.into_iter().collect());
    }
    // Without a picture there is no place that it could point to: Looking Glass's client sends movements.
    if shown && driver.is_some() {
        let why = "a pointer that follows the host's without being caught";
        let bus = usb::controller(draft, by_default(why));
        draft.device(Device::new("usb-tablet", "tablet0").on(bus).with("port", usb::POINTER), by_default(why));
    }
    if let Display::Spice(listen) = &machine.display {
        let origin = draft.file("display.usb_redirection");
        let number = listen.usb_redirection.unwrap_or_default();
        if number > 0 {
            usb::controller(draft, origin.clone());
        }
        for index in 0..number {
            let id = format!("redirected{index}");
            let chardev = QemuOption::keys("-chardev", Some("spicevmc"), origin.clone());
            draft.push(chardev.with("id", &*id).with("name", "usbredir"));
            let device = Device::new("usb-redir", format!("usb-{id}")).on("usb0.0").with("chardev", id);
            draft.device(device, origin.clone());
        }
    }
}
