//! What options refer to, and what became of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::option::Members;
use crate::import::account::Verdict;
use crate::machine::{Disk, Media, PciDevice, SmbiosFields};
use crate::units::PciAddress;

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

    /// It has no meaning here.
    pub fn left(words: &str) -> Option<Self> {
        Some(Self(Verdict::LeftOut, words.to_owned()))
    }
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
    /// Disks so far, with their places in the boot order.
    pub disks: Vec<(Disk, Option<u32>)>,
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
    /// Whether the words are a script's, not a domain's.
    pub script: bool,
}
