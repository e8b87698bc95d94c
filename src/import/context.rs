//! What the readers of a domain's subjects share: the machine that they fill, the account, and comments for the file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::account::{Account, Verdict};
use super::xml::Node;
use crate::host::Root;
use crate::machine::{Guest, Machine};

/// An import that is under way.
pub struct Context<'r> {
    /// What becomes of each value.
    pub account: Account,
    /// The machine so far.
    pub machine: Machine,
    /// Comments for the machine file, by field: `cpu.pin`, `disks[0]`.
    pub comments: BTreeMap<String, Vec<String>>,
    /// Apple's key, which no machine file has.
    pub key: Option<String>,
    /// The file that the key will be in, if one is written.
    pub key_file: Option<PathBuf>,
    /// How many NUMA nodes of the guest's QEMU's options have named.
    pub numa_nodes: usize,
    /// The host, for what only it can tell; `None` if the domain is of another.
    pub root: Option<&'r Root>,
    /// The same host, if it is the one that the domain is of: it has every PCI function that the domain passes through.
    pub own_host: Option<&'r Root>,
}

impl Context<'_> {
    /// The machine file says these values.
    pub fn take(&mut self, node: Node, names: &[&str]) {
        self.account.enter(Verdict::TakenOver, node, names, "");
    }

    /// The same, with something to know about it.
    pub fn taken(&mut self, node: Node, names: &[&str], words: impl AsRef<str>) {
        self.account.enter(Verdict::TakenOver, node, names, words.as_ref());
    }

    /// vfio-run does it by itself.
    pub fn done(&mut self, node: Node, names: &[&str], words: impl AsRef<str>) {
        self.account.enter(Verdict::DoneByItself, node, names, words.as_ref());
    }

    /// A mistake was mended.
    pub fn improved(&mut self, node: Node, names: &[&str], words: impl AsRef<str>) {
        self.account.enter(Verdict::Improved, node, names, words.as_ref());
    }

    /// It has no meaning here.
    pub fn left(&mut self, node: Node, names: &[&str], words: impl AsRef<str>) {
        self.account.enter(Verdict::LeftOut, node, names, words.as_ref());
    }

    /// A person must decide.
    pub fn needs(&mut self, node: Node, names: &[&str], words: impl AsRef<str>) {
        self.account.enter(Verdict::NeedsYou, node, names, words.as_ref());
    }

    /// Adds a comment at a field.
    pub fn comment(&mut self, field: impl Into<String>, words: impl Into<String>) {
        self.comments.entry(field.into()).or_default().push(words.into());
    }

    /// Whether the guest is a Windows.
    pub fn is_windows(&self) -> bool {
        self.machine.guest.is_windows()
    }

    /// Whether the guest is Windows 11, which has a TPM and Secure Boot unless the file says otherwise.
    pub fn is_windows11(&self) -> bool {
        self.machine.guest == Guest::Windows11
    }

    /// Whether this host has the file.
    pub fn exists(&self, path: &str) -> bool {
        self.root.is_some_and(|root| root.path(path).exists())
    }

    /// The name in a folder of links that leads to the same node as this one, such as one of /dev/disk/by-id.
    pub fn link_in(&self, folder: &str, node: &Path) -> Option<PathBuf> {
        let root = self.root?;
        let name = node.file_name()?.to_str()?;
        let links = root.names(folder).into_iter().map(|link| Path::new(folder).join(link));
        // A disk's own name says more than its world wide number.
        let mut found: Vec<PathBuf> = links.filter(|link| root.link(link).as_deref() == Some(name)).collect();
        found.sort_by_key(|link| {
            let text = link.to_string_lossy();
            (text.contains("/wwn-") || text.contains("/nvme-eui.") || text.contains("/dm-uuid-"), text.len())
        });
        found.into_iter().next()
    }
}
