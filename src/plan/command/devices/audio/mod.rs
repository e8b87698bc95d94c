//! The guest's sound card and what plays it.

mod backend;
mod driver;
mod server;
#[cfg(test)]
mod tests;

use driver::BACKEND;

use crate::machine::{Guest, Sound, SoundCard};
use crate::plan::Severity::{Hard, Soft};
use crate::plan::draft::{Draft, by_default};
use crate::qemu::device::Device;
use crate::units::Origin;

/// Where the HD Audio of a board with an ICH9 chipset is.
const ICH9_SLOT: u8 = 0x1b;

/// Sound card and backend, if the machine has sound.
pub(in crate::plan::command) fn write(draft: &mut Draft) {
    let machine = draft.machine;
    let Some((_, sound)) = machine.audio.sound() else { return };
    let backend = backend::choose(draft, &machine.audio, sound);
    backend::write(draft, sound, &backend);
    card(draft, sound);
}

fn card(draft: &mut Draft, sound: &Sound) {
    let origin =
        draft.file_or(sound.card != SoundCard::Ich9, "audio.card", "a sound card that every guest has a driver for");
    match sound.card {
        SoundCard::Ich9 => {
            let card = on_board(draft, Device::new("ich9-intel-hda", "sound0"));
            draft.device(card, origin.clone());
            let codec = if sound.microphone { "hda-duplex" } else { "hda-output" };
            let codec = Device::new(codec, "codec0").on("sound0.0").with("cad", 0).with("audiodev", BACKEND);
            draft.device(codec, draft.file_or(sound.microphone, "audio.microphone", "no microphone is asked for"));
        }
        SoundCard::Ac97 => {
            let card = on_board(draft, Device::new("AC97", "sound0")).with("audiodev", BACKEND);
            draft.device(card, origin);
        }
        SoundCard::Usb => {
            draft.pcie_device(Device::new("qemu-xhci", "usb-sound0"), by_default("the USB sound card's controller"));
            draft.device(Device::new("usb-audio", "sound0").on("usb-sound0.0").with("audiodev", BACKEND), origin);
        }
        SoundCard::Virtio => virtio(draft, sound, origin),
    }
}

/// Puts a card beside the chipset, as a board has it. A guest with a port of its own there has the card in the first free slot.
fn on_board(draft: &Draft, card: Device) -> Device {
    let taken = draft.machine.pci.iter().any(|entry| entry.slot == Some(ICH9_SLOT));
    let card = card.on("pcie.0");
    if taken { card } else { card.with("addr", format!("{ICH9_SLOT:x}.0")) }
}

fn virtio(draft: &mut Draft, sound: &Sound, origin: Origin) {
    const DRIVER: &str = "virtio-sound-pci";
    if !draft.qemu.devices.contains_key(DRIVER) {
        let detail = format!("{} has no `{DRIVER}`", draft.qemu.binary.display());
        draft.no("audio.card", Hard, detail, "use `card: Ich9`, or a QEMU that has it (from 8.2 on)");
        draft.about("audio.card");
        return;
    }
    if draft.machine.guest != Guest::Linux {
        let detail = "only Linux has a driver for `virtio-sound-pci` of its own";
        draft.no("audio.card", Soft, detail, "use `card: Ich9`");
        draft.about("audio.card");
    }
    // The first half of the streams plays, the other one records (`virtio_snd_realize`).
    let streams = if sound.microphone { 2 } else { 1 };
    draft.pcie_device(Device::new(DRIVER, "sound0").with("audiodev", BACKEND).with("streams", streams), origin);
}
