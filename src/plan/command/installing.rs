//! What an installation of Windows runs into: its setup does not see every disk and card, and waits for a key only briefly.

use crate::machine::{Bus, Disk, Guest, Media, NetworkModel};
use crate::plan::Severity::Soft;
use crate::plan::draft::Draft;

/// A CD drive with something in it.
fn cds(draft: &Draft) -> impl Iterator<Item = (usize, String)> {
    let disks = draft.machine.disks.iter().enumerate();
    disks.filter(|(_, disk)| disk.media() == Media::Cd).filter_map(|(index, disk)| {
        let name = disk.file.as_ref()?.file_name()?.to_string_lossy().to_lowercase();
        Some((index, name))
    })
}

/// Whether a CD of this name has virtio drivers: `virtio-win-0.1.271.iso`.
fn has_drivers(name: &str) -> bool {
    name.contains("virtio")
}

/// Whether a CD of this name is one of Windows' own: `Win11_24H2_English_x64.iso`, `26100.1_client_x64fre_de-de.iso`.
fn is_setup(name: &str) -> bool {
    !has_drivers(name) && ["win", "setup", "install", "x64fre", "server"].iter().any(|word| name.contains(word))
}

/// The number of the disk that Windows is being installed from.
pub(super) fn setup(draft: &Draft) -> Option<usize> {
    let is_windows = draft.machine.guest.is_windows();
    cds(draft).find(|(_, name)| is_windows && is_setup(name)).map(|(index, _)| index)
}

pub(super) fn check(draft: &mut Draft) {
    let Some(cd) = setup(draft) else { return };
    let drivers = cds(draft).any(|(_, name)| has_drivers(&name));
    let system = if draft.machine.guest == Guest::Windows11 { "w11" } else { "w10" };
    disk(draft, drivers, system);
    network(draft, drivers, system);
    if draft.machine.boot_menu.is_none() && draft.machine.kernel.is_none() {
        let detail =
            "the CD waits five seconds for \"Press any key to boot from CD\", which is before most screens show it";
        draft.no(
            "install.key",
            Soft,
            detail,
            "write `boot_menu: 5`: the firmware waits first, and its menu has the CD",
        );
        draft.about(&format!("disks[{cd}].file"));
    }
    let done = match &draft.machine.base {
        Some(base) => format!("when Windows is installed, start {} in place of this file", base.display()),
        None => format!("when Windows is installed, take its CD (disks[{cd}]) out of the file"),
    };
    draft.yes("install.end", Soft, done);
}

/// The first disk that Windows can be installed on, if it is one that setup has no driver for.
fn disk(draft: &mut Draft, drivers: bool, system: &str) {
    let writable = |disk: &&Disk| disk.media() == Media::Disk && !disk.read_only();
    let mut disks = draft.machine.disks.iter().enumerate().filter(|(_, disk)| writable(disk));
    let Some((index, bus)) = disks.next().map(|(index, disk)| (index, disk.bus())) else { return };
    let folder = match bus {
        Bus::VirtioBlk => "viostor",
        Bus::VirtioScsi => "vioscsi",
        Bus::Sata | Bus::Nvme => return,
    };
    let (key, load) = ("install.disk", format!("`Load driver`, folder `{folder}\\{system}\\amd64`"));
    if drivers {
        return draft.yes(key, Soft, format!("Windows' setup sees disks[{index}] after {load} of the driver CD"));
    }
    let detail = format!(
        "Windows' setup does not see disks[{index}]: it has no driver for `bus: {bus:?}`, and there is no driver CD"
    );
    let remedy = format!(
        "add the CD with the drivers (`(file: \"virtio-win.iso\")`; in setup {load}), or write `bus: Nvme`, which Windows knows"
    );
    draft.no(key, Soft, detail, &remedy);
    draft.about(&format!("disks[{index}].file"));
}

/// Windows 11 is not installed without a network, unless one knows how.
fn network(draft: &mut Draft, drivers: bool, system: &str) {
    let networks = draft.machine.networks.as_deref();
    let knows = |model: NetworkModel| model != NetworkModel::Virtio;
    let has_known = networks.is_some_and(|cards| cards.iter().any(|card| knows(card.model)));
    let is_passed = |class: u32| class >> 16 == 0x02;
    let of_host = draft.host.pci.as_ref().is_some_and(|pci| {
        pci.functions
            .iter()
            .any(|f| is_passed(f.class) && draft.machine.pci.iter().any(|device| device.address.contains(f.address)))
    });
    if draft.machine.guest != Guest::Windows11 || has_known || of_host {
        return;
    }
    let key = "install.network";
    if networks.is_some_and(<[_]>::is_empty) {
        let detail = "Windows 11's setup asks for a network, and the guest has no network card";
        draft.no(key, Soft, detail, "leave `networks` out, or write `networks: [(model: E1000e)]`");
        return draft.about("networks");
    }
    let load = format!("`NetKVM\\{system}\\amd64`");
    if drivers {
        let detail = format!("Windows 11's setup asks for a network: its driver is in {load} of the driver CD");
        return draft.yes(key, Soft, detail);
    }
    let detail = "Windows 11's setup asks for a network, and has no driver for a card of `model: Virtio`";
    let remedy = format!("write `networks: [(model: E1000e)]`, which Windows knows, or add the driver CD ({load})");
    draft.no(key, Soft, detail, &remedy);
    draft.about("networks");
}

#[cfg(test)]
mod tests {
    use crate::plan::Verdict;
    use crate::plan::sample::{Shape, host, plan};

    fn told(guest: &str, more: &str) -> Vec<(String, bool)> {
        let text = format!("(guest: {guest}, memory: (size: \"4 GiB\"), display: Spice(), {more})");
        let found =
            plan(&text, &host(Shape::simple(8, 1))).findings.into_iter().filter(|f| f.key.starts_with("install."));
        found.map(|f| (f.key["install.".len()..].to_owned(), f.ok == Verdict::Yes)).collect()
    }

    fn as_told(rows: &[(&str, bool)]) -> Vec<(String, bool)> {
        rows.iter().map(|(key, ok)| ((*key).to_owned(), *ok)).collect()
    }

    #[test]
    fn what_a_setup_of_windows_does_not_see_is_told_with_its_driver() {
        let disks = |bus: &str, more: &str| {
            format!("disks: [(file: \"/a.qcow2\", bus: {bus}), (file: \"/Win11_x64.iso\"){more}]")
        };
        let drivers = ", (file: \"/virtio-win-0.1.271.iso\")";
        let bare = told("Windows11", &disks("VirtioBlk", ""));
        assert_eq!(bare, as_told(&[("disk", false), ("network", false), ("key", false), ("end", true)]));
        let driven = told("Windows11", &(disks("VirtioScsi", drivers) + ", boot_menu: 5"));
        assert_eq!(driven, as_told(&[("disk", true), ("network", true), ("end", true)]));
        let known = told("Windows11", &(disks("Nvme", "") + ", boot_menu: 5, networks: [(model: E1000e)]"));
        assert_eq!(known, as_told(&[("end", true)]));
        assert_eq!(told("Windows11", &(disks("Nvme", drivers) + ", boot_menu: 5, networks: []"))[0].0, "network");
        // Windows 10's asks for none, and nobody else's CD is Windows' own.
        assert_eq!(told("Windows10", &(disks("Sata", "") + ", boot_menu: 5")), as_told(&[("end", true)]));
        assert_eq!(told("Linux", &disks("VirtioBlk", "")), []);
        assert_eq!(
            told("Windows11", "disks: [(file: \"/a.qcow2\"), (file: \"/virtio-win.iso\"), (file: \"/game.iso\")]"),
            []
        );
    }

    #[test]
    fn the_folder_is_that_of_the_disks_controller_and_the_system() {
        let remedy = |guest: &str, bus: &str| {
            let text = format!(
                "(guest: {guest}, memory: (size: \"4 GiB\"), disks: [(file: \"/a\", bus: {bus}), (file: \"/windows.iso\")])"
            );
            let found = plan(&text, &host(Shape::simple(8, 1))).findings.into_iter().find(|f| f.key == "install.disk");
            found.and_then(|f| f.remedy).unwrap_or_default()
        };
        assert!(remedy("Windows11", "VirtioBlk").contains(r"`viostor\w11\amd64`"));
        assert!(remedy("Windows10", "VirtioScsi").contains(r"`vioscsi\w10\amd64`"));
    }
}
