//! The keyboard and mouse of a guest that has the screen.

use super::cards::Card;
use crate::host::Host;
use crate::host::pci::PciFunction;
use crate::units::PciSlot;

/// Where they come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hands {
    /// A USB controller of the host, with what is plugged into it.
    Controller {
        /// The controller.
        slot: PciSlot,
        /// What its devices call themselves.
        names: Vec<String>,
    },
    /// The host's own, which both have in turn.
    Shared {
        /// What they call themselves, if it is known.
        names: Vec<String>,
    },
    /// There are none.
    Nothing,
}

/// A USB controller if a keyboard and a mouse are on it, nothing else needs it, and the host keeps another keyboard; else they
/// are shared.
pub(super) fn find(host: &Host, card: &Card) -> Hands {
    let functions = host.pci.iter().flat_map(|pci| &pci.functions);
    let mut controllers = functions.filter(|function| function.class >> 8 == 0x0c03);
    if let Some(hands) = controllers.find_map(|function| controller(host, card, function)) {
        return hands;
    }
    let Some(inputs) = &host.input else { return Hands::Shared { names: Vec::new() } };
    let of_seat = inputs.devices.iter().filter(|device| device.seat == "seat0" && (device.keyboard || device.mouse));
    let mut names: Vec<String> = of_seat.clone().map(|device| device.name.clone()).collect();
    names.dedup();
    match of_seat.clone().any(|device| device.keyboard) {
        true => Hands::Shared { names },
        false => Hands::Nothing,
    }
}

fn controller(host: &Host, card: &Card, function: &PciFunction) -> Option<Hands> {
    let pci = host.pci.as_ref()?;
    let alone =
        function.group.is_some_and(|group| pci.of_group(group).all(|f| f.is_bridge() || f.address == function.address));
    let of_card = card.slots.iter().any(|slot| slot.contains(function.address));
    let used = function.details.as_deref().is_some_and(|details| !details.uses.is_empty());
    if !alone || of_card || used {
        return None;
    }
    let plugged = host.usb.iter().flatten().filter(|device| !device.hub);
    let (on_it, elsewhere): (Vec<_>, Vec<_>) = plugged.partition(|device| device.controller == Some(function.address));
    let inputs = host.input.as_ref()?;
    let is = |port: &crate::units::UsbPort, mouse: bool| {
        let mut of_port = inputs.devices.iter().filter(|device| device.usb.as_ref() == Some(port));
        of_port.any(|device| if mouse { device.mouse } else { device.keyboard })
    };
    let has = |mouse| on_it.iter().any(|device| is(&device.port, mouse));
    let another = elsewhere.iter().any(|device| is(&device.port, false))
        || inputs.devices.iter().any(|device| device.keyboard && device.usb.is_none());
    let mounted = on_it.iter().any(|device| !device.mounted.is_empty());
    (has(false) && has(true) && another && !mounted).then(|| Hands::Controller {
        slot: function.address.into(),
        names: on_it.iter().map(|device| device.name.clone()).collect(),
    })
}
