//! All that is known of the host's PCI functions, and how much of it is read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::details::{self, Details};
use super::function::{self, PciFunction};
use super::iommu::Iommu;
use super::nvidia::{self, Nvidia};
use super::rom::{self, Rom};
use super::screen::Screen;
use super::sysfs::DEVICES;
use super::{holders, nodes, uses, vfio};
use crate::host::Root;
use crate::units::{PciAddress, PciSlot};

/// What of PCI a plan may depend on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Pci {
    /// All functions of the host in order of their addresses.
    pub functions: Vec<PciFunction>,
    /// Whether an IOMMU is active: the kernel put devices into groups.
    pub iommu: Option<bool>,
    /// How many bits a physical address has on this CPU.
    pub address_bits: Option<u32>,
    /// Consoles, framebuffers and the display manager.
    pub screen: Screen,
    /// The ROM files that the machine names; `None`: it could not be read.
    pub roms: BTreeMap<PathBuf, Option<Rom>>,
    /// Whether vfio-pci is loaded or can be; `None`: it could not be found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has_vfio: Option<bool>,
    /// What VFIO says of the wanted functions that are already bound to vfio-pci; `None`: it could be asked for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vfio: Option<vfio::Answer>,
    /// What of the IOMMU stands in the way of the wanted functions.
    #[serde(default)]
    pub barriers: Iommu,
    /// NVIDIA's driver, if one of the wanted functions has it and others too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nvidia: Option<Nvidia>,
}

/// What of PCI is to be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WantedPci {
    /// The functions that are wanted in depth, with their groups and ports.
    pub slots: Vec<PciSlot>,
    /// All functions in depth.
    pub all: bool,
    /// ROM files.
    pub roms: Vec<PathBuf>,
    /// Units of the system, which may be named by an alias.
    pub units: Vec<String>,
    /// Units of users whose files are looked for.
    pub user_units: Vec<String>,
}

impl Pci {
    /// Reads all functions, and those that are wanted in depth. `leases`: the folder in which launchers note which devices
    /// they use.
    pub fn read(root: &Root, wanted: &WantedPci, leases: &Path) -> Self {
        let mut functions: Vec<PciFunction> =
            root.names(DEVICES).iter().filter_map(|name| function::read(root, name)).collect();
        functions.sort_by_key(|f| f.address);
        let deep = deep(&functions, wanted);
        let mut details: BTreeMap<PciAddress, Details> =
            deep.iter().map(|address| (*address, details::read(root, *address, leases))).collect();
        uses::find(root, &mut details);
        // A second card of the maker shares its nodes for all cards, so that their holders may be another card's.
        let nvidia = functions.iter().filter(|f| f.driver.as_deref() == Some(nvidia::DRIVER)).count();
        for function in &functions {
            if let Some(details) = details.get_mut(&function.address) {
                let driver = nodes::Driver {
                    name: function.driver.as_deref(),
                    group: function.group,
                    address: function.address,
                    alone: nvidia == 1,
                };
                nodes::of_driver(root, &driver, &mut details.nodes);
            }
        }
        let nodes = details.iter().map(|(address, details)| (*address, details.nodes.clone())).collect();
        for (address, mut holders) in holders::of_functions(root, &nodes) {
            holders::name_users(root, &mut holders);
            if let Some(details) = details.get_mut(&address) {
                details.holders = holders;
            }
        }
        let its = |f: &&PciFunction| deep.contains(&f.address);
        let wants_nvidia = functions.iter().filter(its).any(|f| f.driver.as_deref() == Some(nvidia::DRIVER));
        let barriers = Iommu::read(root, &functions.iter().filter(its).filter_map(|f| f.group).collect());
        let nvidia = if wants_nvidia { Nvidia::read(root, &functions) } else { None };
        let groups = root.path("/sys/kernel/iommu_groups");
        let iommu = groups.exists().then(|| functions.iter().any(|f| f.group.is_some()));
        for function in &mut functions {
            function.details = details.remove(&function.address).map(Box::new);
        }
        let vfio = vfio::answer(root, &functions, &wanted.slots);
        let roms = wanted.roms.iter().map(|path| (path.clone(), rom::read(root, path))).collect();
        Self {
            functions,
            iommu,
            address_bits: address_bits(root),
            screen: Screen::read(root, &wanted.units, &wanted.user_units),
            roms,
            has_vfio: vfio::has_driver(root),
            vfio,
            barriers,
            nvidia,
        }
    }

    /// How many bits of an address a guest with devices can use: those that the CPU has and the IOMMU translates.
    pub fn device_address_bits(&self) -> Option<u32> {
        self.address_bits.map(|bits| bits.min(self.barriers.address_bits.unwrap_or(bits)))
    }

    /// The function at this address.
    pub fn get(&self, address: PciAddress) -> Option<&PciFunction> {
        self.functions.binary_search_by_key(&address, |f| f.address).ok().map(|at| &self.functions[at])
    }

    /// The functions that are meant, in order.
    pub fn of_slot(&self, slot: PciSlot) -> impl Iterator<Item = &PciFunction> {
        self.functions.iter().filter(move |f| slot.contains(f.address))
    }

    /// The functions of an IOMMU group, in order.
    pub fn of_group(&self, group: u32) -> impl Iterator<Item = &PciFunction> {
        self.functions.iter().filter(move |f| f.group == Some(group))
    }
}

/// From a line such as `address sizes : 46 bits physical, 48 bits virtual`; all CPUs say the same.
fn address_bits(root: &Root) -> Option<u32> {
    let text = root.text_up_to("/proc/cpuinfo", 16 << 10)?;
    let line = text.lines().find_map(|line| line.strip_prefix("address sizes")?.trim_start().strip_prefix(':'))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The functions to read in depth: those that are wanted, what shares their groups, and the ports above them.
fn deep(functions: &[PciFunction], wanted: &WantedPci) -> BTreeSet<PciAddress> {
    let meant = |f: &&PciFunction| wanted.all || wanted.slots.iter().any(|slot| slot.contains(f.address));
    let groups: BTreeSet<u32> = functions.iter().filter(meant).filter_map(|f| f.group).collect();
    let chosen = functions.iter().filter(|f| meant(f) || f.group.is_some_and(|group| groups.contains(&group)));
    let mut deep = BTreeSet::new();
    for function in chosen {
        deep.insert(function.address);
        let mut port = function.port;
        // A tree has fewer levels than it has functions; a captured root may not be a tree.
        while let Some(address) = port.filter(|address| deep.insert(*address)) {
            port = functions.iter().find(|f| f.address == address).and_then(|f| f.port);
        }
    }
    deep
}
