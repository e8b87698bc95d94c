//! What is done to the host so that the guest can have its devices, in this order: what is harmless and likely to fail
//! first, the screen last. It is undone in reverse, so that the screen comes back first.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::super::Severity;
use super::super::draft::{Draft, by_default, by_fact};
use super::given::{Devices, Given, VFIO};
use super::stopped::{Stopped, seated};
use super::{hidden, modules, stopped};
use crate::change::{self, BindDriver, FreeNodes, LeaveConsole, Own, ReleaseBootScreen, ResizeBar, Rung, Write};
use crate::host::Pci;
use crate::host::pci::{Holder, Node, Resizable, Screen};
use crate::machine::{Holders, Rebar, Revive};
use crate::plan::process::session::{self, Move};
use crate::units::Origin;
use crate::units::{PciAddress, Size};

/// The first kernel whose vfio-pci takes a VGA card's memory from the firmware's framebuffer by itself.
const EVICTS: (u32, u32) = (6, 0);
/// Nodes whose holders a driver waits for, or breaks. For an i2c bus of a card the kernel itself waits, without end, until
/// nobody has it open (`i2c_del_adapter()`); a DisplayPort's channel counts as a reference to its card. Input devices are not
/// among them: who reads them sees them go.
const HELD: [&str; 8] = ["drm", "sound", "nvidia", "block", "i2c-dev", "drm_dp_aux_dev", "video4linux", "media"];

/// Adds the changes. Returns the unit that the launcher moves to first, if they would end it.
pub(in super::super) fn make(draft: &mut Draft, devices: &Devices) -> Option<Move> {
    let host = draft.host;
    let (Some(pci), false) = (&host.pci, devices.given.is_empty()) else { return None };
    for given in &devices.given {
        reset_method(draft, given);
    }
    keep_awake(draft, pci, devices);
    // A card without a driver (`nomodeset`) may show the host's consoles nevertheless: the firmware's framebuffer is its
    // memory.
    let leaving: Vec<Given> = devices.given.iter().copied().filter(|given| !given.is_ready()).collect();
    let taken: Vec<Given> = leaving.iter().copied().filter(|given| given.function.driver.is_some()).collect();
    let shown = leaving.iter().filter(|given| given.function.is_gpu() && hidden::shows(pci, given));
    draft.screens = shown.map(Given::address).collect();
    let hidden = hidden::find(draft, pci, &taken);
    let stopped = stopped::stop(draft, pci, &leaving, &hidden);
    hidden::hide(draft, pci, &hidden);
    tell_uses(draft, &pci.screen, &leaving, &stopped);
    let shared = modules::one_of_several(draft, pci, &taken, &stopped);
    let ended = free_nodes(draft, &pci.screen, &leaving, &hidden, &stopped, shared);
    consoles(draft, pci, &leaving);
    boot_screen(draft, pci, &leaving);
    modules::remove(draft, pci, &taken);
    // The first function last: it is the screen, and what is taken last comes back first.
    for given in devices.given.iter().rev() {
        let freed = resize(draft, given);
        if freed || !given.is_ready() {
            let change = BindDriver { address: given.address(), driver: Some(VFIO.to_owned()) };
            draft.change(change, draft.file(&given.field()));
        } else {
            // vfio-pci lets the device sleep as soon as it has it; a change of the driver takes care of that itself.
            let awake = by_fact("some cards do not wake from the low-power state that vfio-pci puts them into");
            let (path, value) = (attribute(given.address(), "power/control"), "on".to_owned());
            draft.change(Write { path, value, set_by: Some(VFIO.to_owned()) }, awake);
        }
    }
    // After all functions have left the host, so that it comes before the first one that goes back to it.
    for card in taken.chunk_by(|one, next| one.index == next.index) {
        revive(draft, card);
    }
    own_groups(draft, devices);
    let screen = &pci.screen;
    let graphical =
        |uid| screen.sessions.is_empty() || screen.sessions.iter().any(|s| s.uid == uid && s.is_graphical());
    let ends = |id: &str| stopped::session_ends(screen, id);
    session::choose(draft, stopped.display_manager.as_deref(), ends, graphical, &ended)
}

/// Has a card that is dead after the guest woken, before a driver of the host's gets it.
fn revive(draft: &mut Draft, functions: &[Given]) {
    let Some(card) = functions.first() else { return };
    let rungs: Vec<Rung> = match &card.entry.revive {
        None => vec![Rung::Reset, Rung::Bus],
        Some(written) => written.iter().copied().map(rung).collect(),
    };
    if rungs.is_empty() {
        return;
    }
    let functions = functions.iter().map(Given::address).collect();
    let note = draft.paths.state.join(format!("revived-{}", card.address()));
    let why = draft.file_or(
        card.entry.revive.is_some(),
        &format!("{}.revive", card.field()),
        "a driver that is bound to a dead card can crash the host",
    );
    draft.change(change::Revive { functions, port: card.function.port, rungs, note }, why);
}

fn rung(written: Revive) -> Rung {
    match written {
        Revive::Reset => Rung::Reset,
        Revive::Bus => Rung::Bus,
        Revive::Rescan => Rung::Rescan,
        Revive::Suspend => Rung::Suspend,
    }
}

/// A change of one of the function's attributes.
fn write(draft: &mut Draft, address: PciAddress, name: &str, value: &str, why: Origin) {
    let path = attribute(address, name);
    draft.change(Write { path, value: value.to_owned(), set_by: None }, why);
}

fn attribute(address: PciAddress, name: &str) -> PathBuf {
    Path::new("/sys/bus/pci/devices").join(address.to_string()).join(name)
}

fn reset_method(draft: &mut Draft, given: &Given) {
    let Some(method) = given.entry.reset_method.as_deref().filter(|_| given.first) else { return };
    let now = given.details.reset_methods.as_deref().unwrap_or_default();
    if now.len() != 1 || now[0] != method {
        let why = draft.file(&format!("{}.reset_method", given.field()));
        write(draft, given.address(), "reset_method", method, why);
    }
}

/// Keeps the functions and the ports above them powered: a card that lost its power may not come back.
fn keep_awake(draft: &mut Draft, pci: &Pci, devices: &Devices) {
    let mut all = BTreeSet::new();
    for given in &devices.given {
        let mut next = Some(given.address());
        while let Some(address) = next.filter(|address| all.insert(*address)) {
            next = pci.get(address).and_then(|f| f.port);
        }
    }
    for address in all {
        let Some(details) = pci.get(address).and_then(|f| f.details.as_deref()) else { continue };
        let why = || by_fact("a card that lost its power during the handover may not come back");
        if details.power_control.as_deref() == Some("auto") {
            write(draft, address, "power/control", "on", why());
        }
        if details.d3cold_allowed == Some(true) {
            write(draft, address, "d3cold_allowed", "0", why());
        }
    }
}

/// Says what uses each device now and ends or comes back with what is stopped, so that a user who looks before a start
/// knows what it ends.
fn tell_uses(draft: &mut Draft, screen: &Screen, taken: &[Given], stopped: &Stopped) {
    for given in taken {
        let details = given.details;
        let ending = details.holders.iter().filter(|holder| stopped.ends(screen, holder));
        let mut uses: Vec<String> =
            ending.map(|holder| format!("{holder}, which ends with a unit that vfio-run stops")).collect();
        let brokers = details.holders.iter().filter(|holder| holder.is_broker());
        uses.extend(brokers.map(|holder| format!("{holder}, which closes it when its sessions end")));
        let its = screen.framebuffers.iter().filter(|(_, maker)| *maker == Some(given.address()));
        uses.extend(its.map(|(name, _)| format!("the consoles on {name}")));
        if on_boot_memory(screen, given) {
            uses.push("the firmware's framebuffer".to_owned());
        }
        // If there is but one, it is its driver's own.
        if details.modules.len() > 1 {
            uses.push(format!("the modules {}", details.modules.join(", ")));
        }
        if !uses.is_empty() {
            draft.yes(
                &given.key("uses"),
                Severity::Soft,
                format!("in use on {}: {}", given.address(), uses.join("; ")),
            );
        }
    }
}

/// Has nobody hold what is taken, nor what is `shared` with other cards; says who does now and is not in a unit that is
/// stopped. Returns whom it ends itself.
fn free_nodes<'a>(
    draft: &mut Draft,
    screen: &Screen,
    taken: &[Given<'a>],
    hidden: &[Given],
    stopped: &Stopped,
    shared: Vec<Node>,
) -> Vec<&'a Holder> {
    let mut nodes: Vec<Node> = taken
        .iter()
        .flat_map(|given| given.details.nodes.iter())
        .filter(|node| HELD.contains(&node.subsystem.as_str()))
        .cloned()
        .chain(shared)
        .collect();
    nodes.sort();
    nodes.dedup();
    let mut ended = Vec::new();
    if nodes.is_empty() {
        return ended;
    }
    let end = draft.machine.handover.holders == Holders::End;
    for given in taken {
        let is_hidden = hidden.iter().any(|hidden| hidden.address() == given.address());
        let goes = |holder: &&Holder| stopped.ends(screen, holder) || (is_hidden && seated(screen, holder));
        // systemd-logind reads the keyboards of a USB controller, and sees them go.
        let held = |holder: &&Holder| nodes.iter().any(|node| holder.nodes.contains(&node.path));
        let stays = given.details.holders.iter().filter(|holder| held(holder) && !goes(holder) && !holder.is_broker());
        let stays: Vec<&Holder> = stays.collect();
        if !stays.is_empty() {
            let names: Vec<String> = stays.iter().map(ToString::to_string).collect();
            let detail = format!("{} is open in {}", given.address(), names.join(", "));
            let remedy = match end {
                true => "vfio-run ends them, as `handover.holders` says".to_owned(),
                false => remedy(draft, &stays),
            };
            // Nothing ends these meanwhile, so the start would fail after it has ended the session.
            let for_good = !end && stays.iter().any(|holder| holder.system_unit().is_some());
            let severity = if for_good { Severity::Hard } else { Severity::Soft };
            draft.no(&given.key("held"), severity, detail, &remedy);
            draft.about(&given.address_field(draft));
        }
        ended.extend(stays.into_iter().filter(|_| end));
    }
    let why =
        draft.file_or(end, "handover.holders", "a driver may wait forever until the last program closes the device");
    draft.change(FreeNodes { nodes, end }, why);
    ended
}

/// What to do about programs that hold a device: units of users are named as they would be written.
fn remedy(draft: &Draft, stays: &[&Holder]) -> String {
    let mut units: Vec<String> = stays.iter().filter_map(|holder| holder.user_units()).flatten().collect();
    let mut system: Vec<String> = stays.iter().filter_map(|holder| holder.system_unit()).map(str::to_owned).collect();
    if !system.is_empty() && units.is_empty() {
        system.extend(draft.machine.handover.units.iter().cloned());
        system.sort();
        system.dedup();
        return format!("write `handover: (units: {system:?})` to stop them for the run, or end them before the start");
    }
    if units.is_empty() {
        return "end them before the start, or name their units in `handover: (units: […])`".to_owned();
    }
    units.extend(draft.machine.handover.user_units.iter().cloned());
    units.sort();
    units.dedup();
    format!("write `handover: (user_units: {units:?})` to stop them for the run")
}

/// Takes the virtual consoles off the framebuffers if the card that is taken has the only ones.
fn consoles(draft: &mut Draft, pci: &Pci, taken: &[Given]) {
    let mine = |address: PciAddress| taken.iter().any(|given| given.address() == address);
    let framebuffers = &pci.screen.framebuffers;
    let (its, others): (Vec<_>, Vec<_>) =
        framebuffers.iter().partition(|(_, maker)| maker.map_or_else(|| in_the_way(pci, taken), mine));
    if its.is_empty() || !others.is_empty() {
        return;
    }
    // By hand they can be put back only if a driver that is no module's ("(S)") is there to take them over from
    // (`vt_bind()`); a host that began in text mode has none. With the card's driver they come back by themselves. Only a
    // module that is to be removed must have them off before.
    let returnable = pci.screen.consoles.iter().any(|console| !console.kind.starts_with("(M)"));
    let removes = match &draft.machine.handover.modules {
        Some(modules) => !modules.is_empty(),
        None => taken.iter().any(|given| given.function.driver.as_deref() == Some("nvidia")),
    };
    if !returnable && !removes {
        return;
    }
    for console in pci.screen.consoles.iter().filter(|console| console.bound && console.on_framebuffer()) {
        let why = by_fact(format!("the consoles are on {}, which belongs to the card", its[0].0));
        draft.change(LeaveConsole { name: console.name.clone() }, why);
    }
}

/// Whether the firmware's framebuffer lies in the memory of what is taken. Only root is told where it lies; others are
/// refused anyway.
fn in_the_way(pci: &Pci, taken: &[Given]) -> bool {
    taken.iter().any(|given| on_boot_memory(&pci.screen, given))
}

fn on_boot_memory(screen: &Screen, given: &Given) -> bool {
    let bars = || given.details.bars.iter().filter(|bar| bar.memory);
    screen.boot_memory.iter().any(|(start, end)| bars().any(|bar| bar.start <= *end && *start <= bar.end()))
}

/// Takes the firmware's framebuffer off its driver, if vfio-pci does not do so itself.
fn boot_screen(draft: &mut Draft, pci: &Pci, taken: &[Given]) {
    let by_itself = kernel(&draft.host.kernel) >= EVICTS && taken.iter().any(|given| given.function.is_vga());
    if by_itself || !in_the_way(pci, taken) {
        return;
    }
    for screen in &pci.screen.boot_screens {
        let change = ReleaseBootScreen { driver: screen.driver.clone(), device: screen.device.clone() };
        draft.change(change, by_fact("the firmware's framebuffer lies in the card's memory"));
    }
}

/// Major and minor number of a kernel's release.
fn kernel(release: &str) -> (u32, u32) {
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Resizes the largest range that can be, between the old driver and vfio-pci. Returns whether a driver, which may be
/// vfio-pci itself, has to let the function go for it.
fn resize(draft: &mut Draft, given: &Given) -> bool {
    let Some(wanted) = given.entry.rebar.filter(|_| given.first) else { return false };
    let (address, field) = (given.address(), format!("{}.rebar", given.field()));
    let size_of = |range: &Resizable| given.details.bars.iter().find(|bar| bar.index == range.bar).map(|bar| bar.size);
    let largest = given.details.resizable.iter().max_by_key(|range| range.sizes().next_back());
    let (Some(range), true) = (largest, given.details.resizable.iter().any(|range| size_of(range).is_some())) else {
        let detail = format!("{address} has no resizable memory range");
        let remedy = format!("leave `{field}` out; Resizable BAR may need a newer ROM of the card");
        draft.no(&given.key("rebar"), Severity::Soft, detail, &remedy);
        draft.about(&field);
        return false;
    };
    let size = match wanted {
        Rebar::Max => range.sizes().next_back(),
        Rebar::Size(size) => range.sizes().find(|known| *known == size),
    };
    let Some(size) = size else {
        let sizes: Vec<String> = range.sizes().map(|size: Size| size.to_string()).collect();
        let detail = format!("BAR {} of {address} cannot have that size; it can have {}", range.bar, sizes.join(", "));
        draft.no(&given.key("rebar"), Severity::Hard, detail, &format!("correct `{field}`"));
        draft.about(&field);
        return false;
    };
    if size_of(range) == Some(size) {
        return false;
    }
    let has_driver = given.function.driver.is_some();
    if has_driver {
        let why = by_default("a range is resized while no driver has the device");
        draft.change(BindDriver { address, driver: None }, why);
    }
    // The bridge above the card may have too little room for the largest.
    let or_less = wanted == Rebar::Max;
    draft.change(ResizeBar { address, bar: range.bar, size, or_less }, draft.file(&field));
    has_driver
}

/// Makes the groups' nodes QEMU's own; they are there as soon as vfio-pci has a function of the group.
fn own_groups(draft: &mut Draft, devices: &Devices) {
    let Some(account) = draft.account.clone() else { return };
    let groups: BTreeSet<u32> = devices.given.iter().filter_map(|given| given.function.group).collect();
    for group in groups {
        let path = PathBuf::from(format!("/dev/vfio/{group}"));
        let why = by_default("QEMU runs as an account of its own, which must be able to open its devices");
        draft.change(Own { path, uid: account.uid, gid: account.gid }, why);
    }
}
