//! What a plan needs to know of the host beyond its hardware: what the machine names.

use std::path::Path;

use crate::host::pci::WantedPci;
use crate::host::{Passt, Wanted, WantedBus, WantedDesktop};
use crate::machine::{Backend, Isolate, Machine, QEMU, Tpm};

/// What a plan for any machine may ask about, for a host that is captured before there is one.
pub fn wanted_by_any() -> Wanted {
    Wanted {
        programs: [QEMU, Tpm::PROGRAM, Passt::PROGRAM, Backend::DNSMASQ, Backend::NFT].map(str::to_owned).into(),
        qemu: Some(QEMU.to_owned()),
        render_nodes: true,
        virtiofsd: true,
        user_network: true,
        tuning: Some(super::tuning::wanted_by_any()),
        cpusets: true,
        network: true,
        desktop: Some(WantedDesktop::default()),
        session_bus: Some(WantedBus::default()),
        desk: Some(Vec::new()),
        ..Wanted::default()
    }
}

/// What a plan for this machine asks the host about.
pub fn wanted(machine: &Machine) -> Wanted {
    let named = machine.named();
    // PCI costs time to read, so only a machine that has devices pays for it.
    let pci = (!named.slots.is_empty()).then_some(WantedPci {
        slots: named.slots,
        all: false,
        roms: named.roms,
        units: named.units,
        user_units: named.user_units,
    });
    let kept = named.kept.iter().map(|name| Path::new(&machine.name).join(name)).collect();
    let desktop = named.desktop.then_some(WantedDesktop { user: named.desktop_user });
    let tuning = super::tuning::wanted(&machine.host);
    // A machine that says nothing of networks has one of these.
    let networks = machine.networks.as_deref();
    let wants =
        |backend| networks.map_or(backend == Backend::User, |list| list.iter().any(|one| one.backend == backend));
    let qemu = machine.qemu.as_ref().map_or_else(|| QEMU.to_owned(), |path| path.to_string_lossy().into_owned());
    let mut programs = named.programs;
    if wants(Backend::User) {
        programs.push(Passt::PROGRAM.to_owned());
    }
    Wanted {
        files: named.files,
        machine: Some(machine.name.clone()),
        programs,
        qemu: Some(qemu),
        user_network: [Backend::User, Backend::Slirp, Backend::Nat].into_iter().any(wants),
        forwards: networks.into_iter().flatten().flat_map(|network| network.forward.iter().copied()).collect(),
        accounts: named.accounts,
        kept,
        pci,
        render_nodes: named.render_nodes,
        virtiofsd: named.virtiofsd,
        desk: named.desk.then_some(named.inputs),
        tuning,
        cpusets: machine.host.isolate != Some(Isolate::None),
        groups: named.groups,
        network: named.network,
        ports: named.ports,
        acpi_tables: named.acpi_tables,
        tpm_state: named.tpm_state,
        own_tpm_state: named.own_tpm.then(|| Path::new(&machine.name).join(Tpm::FOLDER)),
        smbios: named.smbios,
        looking_glass: machine.looking_glass.is_some(),
        desktop,
        session_bus: named.session_bus.map(|address| WantedBus { address, user: machine.user.clone() }),
        ..Wanted::default()
    }
}
