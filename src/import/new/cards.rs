//! The host's graphics cards, the one first that a guest is given most easily.

use crate::host::Host;
use crate::host::pci::{Names, PciFunction};
use crate::units::{PciAddress, PciIds, PciSlot};

/// A graphics card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// Its first function.
    pub address: PciAddress,
    /// What that is.
    pub ids: PciIds,
    /// What it is called, or its ids.
    pub name: String,
    /// What a guest is given of it, the picture first.
    pub slots: Vec<PciSlot>,
    /// Whether the host's firmware shows its picture there.
    pub boots: bool,
    /// Whether it is a part of the processor, which few guests can use.
    pub built_in: bool,
    /// What else is in its IOMMU group and in use, which the guest would have to be given too.
    pub beside: Vec<PciAddress>,
}

/// The cards.
pub fn cards(host: &Host, names: &Names) -> Vec<Card> {
    let Some(pci) = &host.pci else { return Vec::new() };
    let gpus = pci.functions.iter().filter(|function| function.is_gpu());
    let mut cards: Vec<Card> = gpus.map(|function| card(&pci.functions, function, names)).collect();
    cards.dedup_by_key(|card| (card.address.domain, card.address.bus, card.address.device));
    cards.sort_by_key(|card| (card.built_in, !card.beside.is_empty(), card.boots, card.address));
    cards
}

fn card(all: &[PciFunction], function: &PciFunction, names: &Names) -> Card {
    let device =
        |f: &&PciFunction| PciAddress { function: 0, ..f.address } == PciAddress { function: 0, ..function.address };
    let of_card: Vec<&PciFunction> = all.iter().filter(device).collect();
    // Picture, sound, and the USB port with its controller that some cards have. A processor's graphics may have others beside.
    let goes_along = |f: &&PciFunction| matches!(f.class >> 8, 0x0300..=0x03ff | 0x0401 | 0x0403 | 0x0c03 | 0x0c80);
    let address = function.address;
    let whole = format!("{:04x}:{:02x}:{:02x}.*", address.domain, address.bus, address.device);
    let slots = match (of_card.iter().all(goes_along), whole.parse()) {
        (true, Ok(whole)) => vec![whole],
        _ => {
            let sound = of_card.iter().filter(|f| f.class >> 8 == 0x0403).map(|f| PciSlot::from(f.address));
            std::iter::once(PciSlot::from(address)).chain(sound).collect()
        }
    };
    let in_use =
        |f: &&PciFunction| f.driver.as_deref().is_some_and(|driver| driver != "vfio-pci" && driver != "pci-stub");
    let beside = all
        .iter()
        .filter(|f| f.group.is_some() && f.group == function.group && !f.is_bridge())
        .filter(in_use)
        .map(|f| f.address)
        .filter(|address| !slots.iter().any(|slot| slot.contains(*address)))
        .collect();
    let details = function.details.as_deref();
    Card {
        address,
        ids: function.ids,
        name: names.device(function),
        slots,
        boots: details.and_then(|details| details.boot_vga) == Some(true),
        // Intel's is always there.
        built_in: (address.bus, address.device) == (0, 2) && function.ids.vendor == 0x8086,
        beside,
    }
}
