//! A machine file for somebody who has none yet: from a few wishes, and from what the host has.

mod cards;
mod hands;
mod installation;
mod share_of_host;
mod wishes;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use cards::{Card, cards};
use hands::Hands;
pub use wishes::{NewDisk, Proposed, Wishes, installation_beside};

use super::short;
use crate::host::Host;
use crate::host::pci::Names;
use crate::machine::{Bus, Cpu, Disk, GiveBack, Guest, Input, Machine, Network, NetworkModel, PciDevice};
use crate::units::quoted_file;

/// How long Windows may take to shut down, in seconds: it may install updates.
const WINDOWS_SHUTDOWN: u32 = 300;
/// Within how many seconds a guest on the host's only card must show life.
const SIGN_OF_LIFE: u32 = 180;

/// Proposes a machine. `path`: where its file will be.
///
/// # Errors
/// Why no such machine can be written, in one line.
pub fn propose(wishes: &Wishes, host: &Host, names: &Names, path: &Path) -> Result<Proposed, String> {
    let all = cards(host, names);
    let card = match wishes.card {
        None => None,
        Some(address) => Some(all.iter().find(|card| card.address == address).ok_or("the host has no such card")?),
    };
    let mut comments: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut say = |field: &str, words: String| comments.entry(field.to_owned()).or_default().push(words);

    let (size, pages, why) = share_of_host::memory(host, wishes.guest, card.is_some());
    let mut machine = super::empty(wishes.guest, size).map_err(|error| error.to_string())?;
    machine.name = wishes.name.clone();
    machine.memory.pages = pages;
    say("memory", why);
    if let Some(card) = card {
        given(&mut machine, card, &mut say);
        with_hands(&mut machine, &hands::find(host, card), &mut say);
        if all.len() == 1 || card.desktop {
            let why = match all.len() {
                1 => "The host has no other card: the desktop ends",
                _ => "The host's desktop is on this card, and ends",
            };
            machine.give_back_unless = Some(GiveBack { sign: Default::default(), within: SIGN_OF_LIFE });
            say(
                "give_back_unless",
                format!(
                    "{why} when the guest starts. If the guest shows no sign of life \
                     within {SIGN_OF_LIFE} seconds, it is ended and the desktop comes back."
                ),
            );
        }
    } else {
        machine.cpu = Cpu { vcpus: Some(share_of_host::vcpus(host, wishes.guest)), ..Cpu::default() };
        machine.display = wishes.display.clone();
    }
    disk(&mut machine, wishes, &mut say);
    if wishes.guest.is_windows() {
        machine.shutdown_timeout = Some(WINDOWS_SHUTDOWN);
        if wishes.drivers.is_none() {
            machine.networks = Some(vec![Network { model: NetworkModel::E1000e, ..Network::default() }]);
            say("networks", "Windows knows this card. `Virtio` takes less time, and needs its driver.".to_owned());
        }
    }
    let written = short::write(&machine, &comments, path);
    if let Some(refused) = written.refused {
        return Err(refused);
    }
    let file = quoted_file(Path::new(path.file_name().unwrap_or_default()));
    let cpus = match card {
        Some(_) => format!("\n// The program chooses the vCPUs and their CPUs: `vfio-run cpus {file}` draws them."),
        None => String::new(),
    };
    let head = format!(
        "// {}. `vfio-run check {file}` says what it would run into, `vfio-run {file}` starts it,\n// and `vfio-run help machine` \
         lists all that can be written here.{cpus}\n",
        title(wishes, card)
    );
    let installation = wishes.setup.as_ref().map(|setup| installation::write(wishes, &machine, setup, path));
    Ok(Proposed { machine: head + &written.text, installation })
}

fn title(wishes: &Wishes, card: Option<&Card>) -> String {
    let system = match wishes.guest {
        Guest::Windows11 => "Windows 11",
        Guest::Windows10 => "Windows 10",
        Guest::Linux => "Linux",
        Guest::Other => "A guest",
    };
    match card {
        Some(card) => format!("{system} on {}", card.name),
        None => format!("{system} on an emulated screen"),
    }
}

/// The card with all that is on it.
fn given(machine: &mut Machine, card: &Card, say: &mut dyn FnMut(&str, String)) {
    for (index, slot) in card.slots.iter().enumerate() {
        let expect = (index == 0).then_some(card.ids);
        machine.pci.push(PciDevice { expect, ..PciDevice::at(*slot) });
    }
    let rest = if card.slots.len() == 1 { "" } else { " and its sound" };
    say("pci[0]", format!("{}{rest}. `expect` refuses another card at this address.", card.name));
}

/// Keyboard and mouse for who sits in front of the card's screen.
fn with_hands(machine: &mut Machine, hands: &Hands, say: &mut dyn FnMut(&str, String)) {
    match hands {
        Hands::Controller { slot, names } => {
            say(
                &format!("pci[{}]", machine.pci.len()),
                format!("The USB controller with {}; the host keeps another keyboard.", names.join(" and ")),
            );
            machine.pci.push(PciDevice::at(*slot));
        }
        Hands::Shared { names } => {
            machine.input = Some(Input::Auto);
            let which = if names.is_empty() { String::new() } else { format!(" Plugged in: {}.", names.join(", ")) };
            say(
                "input",
                format!("The keyboards and mice of this host: both Ctrl keys give them to the guest and back.{which}"),
            );
        }
        Hands::Nothing => {
            machine.usb = Some(Vec::new());
            say(
                "usb",
                "No keyboard is plugged in. Name yours here (`lsusb`), such as \"046d:c547\"; the guest gets it when it comes."
                    .to_owned(),
            );
        }
    }
}

fn disk(machine: &mut Machine, wishes: &Wishes, say: &mut dyn FnMut(&str, String)) {
    let (file, create) = match &wishes.disk {
        NewDisk::Create(size) => (PathBuf::from(format!("{}.qcow2", wishes.name)), Some(*size)),
        NewDisk::There(path) => (path.clone(), None),
    };
    // Windows has a driver for NVMe on its CD, and none for virtio.
    let bus = (wishes.guest.is_windows() && wishes.drivers.is_none()).then_some(Bus::Nvme);
    if create.is_some() {
        say("disks[0]", "Made at the first start, sparse; what is there is never overwritten.".to_owned());
    }
    machine.disks.push(Disk { file: Some(file), create, bus, ..Disk::default() });
}
