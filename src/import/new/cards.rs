//! The host's graphics cards, the one first that a guest is given most easily.

use crate::host::Host;
use crate::host::pci::{Names, Pci, PciFunction};
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
    /// Whether the host's desktop is on it, and so ends when a guest is given the card.
    pub desktop: bool,
    /// Whether it is a part of the processor, which few guests can use.
    pub built_in: bool,
    /// What else is in its IOMMU group and in use, which the guest would have to be given too.
    pub beside: Vec<PciAddress>,
}

/// The cards.
pub fn cards(host: &Host, names: &Names) -> Vec<Card> {
    let Some(pci) = &host.pci else { return Vec::new() };
    let gpus = pci.functions.iter().filter(|function| function.is_gpu());
    let mut cards: Vec<Card> = gpus.map(|function| card(pci, function, names)).collect();
    cards.dedup_by_key(|card| card.address.of_device());
    cards.sort_by_key(|card| (card.built_in, !card.beside.is_empty(), card.boots, card.address));
    cards
}

fn card(pci: &Pci, function: &PciFunction, names: &Names) -> Card {
    let all = &pci.functions;
    let device = |f: &&PciFunction| f.address.of_device() == function.address.of_device();
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
    let boots = details.and_then(|details| details.boot_vga) == Some(true);
    let screen = &pci.screen;
    let shows = match screen.showing.as_slice() {
        // A session shows where the firmware did.
        [] => boots,
        cards => cards.contains(&address),
    };
    let graphical = screen.display_manager_runs || screen.sessions.iter().any(|session| session.is_graphical());
    Card {
        address,
        ids: function.ids,
        name: names.device(function),
        slots,
        boots,
        desktop: shows && graphical,
        // Intel's is always there.
        built_in: (address.bus, address.device) == (0, 2) && function.ids.vendor == 0x8086,
        beside,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Root;

    #[test]
    fn the_desktop_is_on_the_card_that_shows_it() {
        let text = include_str!("../../../tests/hosts/ryzen-3900x.json");
        let mut host: Host = serde_json::from_str(text).unwrap();
        let on = |host: &Host| -> Vec<(bool, bool)> {
            let all = cards(host, &Names::of(&Root::new("/nowhere"), []));
            all.iter().map(|card| (card.boots, card.desktop)).collect()
        };
        let pci = host.pci.as_mut().unwrap();
        pci.screen.display_manager_runs = true;
        pci.screen.showing.clear();
        assert_eq!(on(&host), [(false, false), (true, true)]);
        let other = cards(&host, &Names::of(&Root::new("/nowhere"), []))[0].address;
        host.pci.as_mut().unwrap().screen.showing = vec![other];
        let shown = on(&host);
        assert!(shown.iter().filter(|(boots, desktop)| *desktop && !boots).count() == 1, "{shown:?}");
        let screen = &mut host.pci.as_mut().unwrap().screen;
        (screen.display_manager_runs, screen.sessions) = (false, vec![]);
        assert!(on(&host).iter().all(|(_, desktop)| !desktop));
    }
}
