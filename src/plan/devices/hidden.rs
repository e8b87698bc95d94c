//! Graphics cards that a running session can do without: compositors open every card, also those that they do not show
//! on, and close one that is unplugged.

use super::super::Severity::Soft;
use super::super::draft::{Draft, by_fact};
use super::given::{Given, VFIO};
use super::stopped::seated;
use crate::change::HideCard;
use crate::host::Pci;
use crate::host::pci::Node;
use crate::machine::DisplayManager;

/// The cards among what is taken that compositors hold and do not show on. If the machine names a display manager to
/// stop, they end anyway.
pub(super) fn find<'a>(draft: &Draft, pci: &Pci, taken: &[Given<'a>]) -> Vec<Given<'a>> {
    if matches!(draft.machine.handover.display_manager, DisplayManager::Unit(_)) {
        return Vec::new();
    }
    let is_taken = |address| taken.iter().any(|given| given.address() == address);
    let mut others = pci.functions.iter().filter(|f| f.is_gpu() && !is_taken(f.address));
    if !others.any(|f| f.driver.as_deref().is_some_and(|driver| driver != VFIO)) {
        return Vec::new();
    }
    let spare = |given: &&Given| given.function.is_gpu() && !shows(pci, given);
    let held = |given: &&Given| {
        let mut holders = given.details.holders.iter().filter(|holder| seated(&pci.screen, holder));
        holders.any(|holder| cards(given).any(|card| holder.nodes.contains(&card.path)))
    };
    taken.iter().filter(spare).filter(held).copied().collect()
}

/// Whether the host's screen is on the card, as far as the kernel tells.
pub(super) fn shows(pci: &Pci, given: &Given) -> bool {
    let mine = |(_, maker): &(String, Option<_>)| *maker == Some(given.address());
    let framebuffers = &pci.screen.framebuffers;
    match pci.screen.showing.as_slice() {
        // The consoles are on the first framebuffer, and a session shows where the firmware did.
        [] => given.details.boot_vga == Some(true) || framebuffers.first().is_some_and(mine),
        cards => cards.contains(&given.address()),
    }
}

/// Makes the compositors close them.
pub(super) fn hide(draft: &mut Draft, pci: &Pci, hidden: &[Given]) {
    for given in hidden {
        let holders = given.details.holders.iter().filter(|holder| seated(&pci.screen, holder));
        let names: Vec<String> = holders.map(ToString::to_string).collect();
        let detail = format!(
            "vfio-run tells {} that {} is unplugged, so that it closes the card",
            names.join(", "),
            given.address()
        );
        draft.yes(&given.key("hidden"), Soft, detail);
        for node in cards(given) {
            let why =
                by_fact(format!("the session shows on another card, and {} has this one open too", names.join(", ")));
            draft.change(HideCard { address: given.address(), node: node.clone() }, why);
        }
    }
}

/// The nodes by which compositors know a card: `card1`, not `renderD129`.
fn cards<'a>(given: &Given<'a>) -> impl Iterator<Item = &'a Node> + use<'a> {
    given.details.nodes.iter().filter(|node| node.path.to_string_lossy().starts_with("/dev/dri/card"))
}
