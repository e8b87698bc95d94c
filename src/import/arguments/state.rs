//! What options refer to, and what became of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::option::Members;
use crate::import::account::Verdict;
use crate::machine::{Disk, Media, PciDevice, SmbiosFields};
use crate::units::{CpuSet, Forward, PciAddress};

/// What became of an option.
pub struct Became(pub Verdict, pub String);

impl Became {
    /// The machine file says it.
    pub fn taken() -> Option<Self> {
        Some(Self(Verdict::TakenOver, String::new()))
    }

    /// vfio-run does it by itself.
    pub fn done(words: &str) -> Option<Self> {
        Some(Self(Verdict::DoneByItself, words.to_owned()))
    }

    /// A mistake was mended.
    pub fn improved(words: &str) -> Option<Self> {
        Some(Self(Verdict::Improved, words.to_owned()))
    }

    /// The machine file says it, and this is to know about it.
    pub fn also_taken(self) -> Option<Self> {
        Some(Self(Verdict::TakenOver, self.1))
    }

    /// The same, but for members of the option that no field says.
    pub fn without(self, lost: &[String]) -> Self {
        if lost.is_empty() {
            return self;
        }
        let lost = lost.iter().map(|member| format!("`{member}`")).collect::<Vec<_>>().join(", ");
        let words =
            format!("no field says {lost} here, so the machine is without; the rest of these words is taken over");
        Self(Verdict::NeedsYou, words)
    }

    /// It has no meaning here.
    pub fn left(words: &str) -> Option<Self> {
        Some(Self(Verdict::LeftOut, words.to_owned()))
    }
}

/// A disk and what decides its place.
#[derive(Clone)]
pub struct Found {
    /// The disk.
    pub disk: Disk,
    /// Its place in the boot order.
    pub order: Option<u32>,
    /// Its place on the IDE or SATA controller.
    pub place: Option<u32>,
    /// What QEMU gets in place of a disk, if no field says all of it.
    pub kept: Option<Kept>,
}

/// A disk in QEMU's words.
#[derive(Clone)]
pub struct Kept {
    /// The device.
    pub device: Members,
    /// The value of `-drive`.
    pub drive: String,
}

/// Members of an option that are not among those that are known, as they were written.
pub fn lost(members: &Members, known: &[&str]) -> Vec<String> {
    let lost = members.rest().filter(|(key, _)| !known.contains(key));
    lost.map(|(key, value)| format!("{key}={value}")).collect()
}

/// What options that come later refer to.
#[derive(Default)]
pub struct State {
    /// Objects and character devices by their ids, until somebody refers to them.
    pub named: BTreeMap<String, Members>,
    /// PCI functions by libvirt's aliases.
    pub aliases: BTreeMap<String, PciAddress>,
    /// Values of the machine's SMBIOS fields.
    pub smbios: SmbiosFields,
    /// Ids that a device has referred to.
    pub used: BTreeSet<String>,
    /// Disks so far.
    pub disks: Vec<Found>,
    /// Kinds of disks that are booted from, in this order; `None`: something else.
    pub order: Vec<Option<Media>>,
    /// `-net nic`, until its other half comes.
    pub nic: Option<Members>,
    /// The network that `-net` has made without its card.
    pub half: Option<usize>,
    /// PCI functions so far.
    pub functions: Vec<(PciAddress, PciDevice)>,
    /// Ids of controllers that vfio-run makes by itself, under other names.
    pub controllers: BTreeSet<String>,
    /// Folders that a network card shares.
    pub shared: Vec<PathBuf>,
    /// Places in the boot order of devices that no field says.
    pub numbers: Vec<u32>,
    /// Ports that QEMU's old option forwards, of no card's in particular.
    pub forward: Vec<Forward>,
    /// CPUs of vCPUs by their numbers.
    pub pins: BTreeMap<usize, CpuSet>,
    /// Whether a screen, or that there is none, was asked for.
    pub screen: bool,
    /// Whether an emulated card, or that there is none, was asked for.
    pub card: bool,
    /// Ids that what goes into `extra_args` refers to.
    pub referred: BTreeSet<String>,
    /// Whether memory was shared with other programs.
    pub shared_memory: bool,
    /// Whether QEMU adds no devices by itself.
    pub bare: bool,
    /// Whether the words are a script's, not a domain's.
    pub script: bool,
}
