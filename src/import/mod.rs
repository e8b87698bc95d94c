//! From what people have to a machine file: libvirt domains with their hooks, a host and a few wishes. Reads, and starts nothing.

mod account;
mod arguments;
mod around;
mod context;
mod defaults;
mod domain;
mod hooks;
mod mended;
pub mod new;
mod rules;
mod script;
mod short;
mod xml;

#[cfg(test)]
mod script_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use account::{Entry, Place, Verdict};
pub use hooks::Scripts;
pub use xml::{MAX_TEXT, Unreadable};

use account::Account;
use context::Context;
use xml::{Node, child};

use crate::host::Root;
use crate::machine::{self, Firmware, Guest, Machine};
use crate::units::Size;

/// What became of an import.
#[derive(Debug, Serialize)]
pub struct Imported {
    /// The machine's name.
    pub name: String,
    /// The machine file.
    pub file: String,
    /// What became of each value.
    pub entries: Vec<Entry>,
    /// Apple's key and the file that the machine file has it read from, which others must not be able to read.
    #[serde(skip)]
    pub key: Option<(PathBuf, String)>,
}

impl Imported {
    /// Whether a person must decide something.
    pub fn needs_person(&self) -> bool {
        self.entries.iter().any(|entry| entry.verdict == Verdict::NeedsYou)
    }
}

/// What an import may look at beside the domain.
#[derive(Debug, Clone, Copy)]
pub struct Beside<'a> {
    /// The host that the domain is from, for what only that can tell: the names of disks, the bridges of networks.
    pub root: Option<&'a Root>,
    /// The home of whose script it is, for what only that can tell.
    pub home: Option<&'a Path>,
    /// The folder of libvirt's hooks.
    pub hooks: Option<Scripts<'a>>,
    /// Where the machine file will be, from which its name may follow.
    pub path: &'a Path,
}

/// Imports a libvirt domain.
///
/// # Errors
/// If the text is no XML, or no domain.
pub fn domain(text: &str, beside: Beside) -> Result<Imported, Unreadable> {
    let text = xml::plain(text);
    let document = xml::parse(&text)?;
    let element = domain_of(document.root_element())?;
    let guest = domain::family(element);
    let size = child(element, "memory").and_then(|node| domain::size(node, "KiB"));
    let size = size.filter(|size| size.as_bytes() > 0);
    let size =
        size.ok_or_else(|| Unreadable::NoDomain("the domain has no <memory>, or none that can be read".to_owned()))?;
    let mut cx = Context {
        account: Account::default(),
        machine: empty(guest, size)?,
        comments: BTreeMap::new(),
        key: None,
        key_file: key_file(beside.path),
        numa_nodes: 0,
        root: beside.root,
        own_host: beside.root.filter(|root| domain::is_of(element, root)),
    };
    domain::read(&mut cx, element);
    if let Some(scripts) = beside.hooks {
        let name = child(element, "name").map(xml::text);
        let name = name.filter(|name| !name.is_empty() && !name.contains('/') && !name.starts_with('.'));
        hooks::read(&mut cx, &scripts, name.unwrap_or("imported"));
    }
    Ok(finish(cx, beside.path))
}

/// Imports a shell script that starts QEMU, or a QEMU command line. `file`: what it is called in the report.
///
/// # Errors
/// If no QEMU is started in it.
pub fn script(text: &str, file: &str, beside: Beside) -> Result<Imported, Unreadable> {
    let found = script::find(text, beside.home)?;
    let machine = empty(domain::family_of_script(text), Size::bytes(script::MEMORY))?;
    let mut cx = Context {
        account: Account::default(),
        machine,
        comments: BTreeMap::new(),
        key: None,
        key_file: key_file(beside.path),
        numa_nodes: 0,
        root: beside.root,
        own_host: None,
    };
    // What QEMU has if nobody says it.
    cx.machine.firmware = Firmware::Bios;
    cx.machine.name = script::name(file);
    script::read(&mut cx, file, &found);
    if let Some(folder) = std::path::absolute(file).ok().as_deref().and_then(Path::parent) {
        script::from_folder(&mut cx.machine, folder, beside.home);
    }
    Ok(finish(cx, beside.path))
}

/// The domain: the root, or what `virsh` has around it in its own files.
fn domain_of(root: Node) -> Result<Node, Unreadable> {
    let found = match root.tag_name().name() {
        "domain" => Some(root),
        "domstatus" | "domainsnapshot" => child(root, "domain"),
        _ => None,
    };
    found.ok_or_else(|| {
        let name = root.tag_name().name().chars().take(40).collect::<String>();
        Unreadable::NoDomain(format!("this is <{name}>, not a <domain>; `virsh dumpxml NAME --inactive` prints one"))
    })
}

/// A machine of which nothing else is said.
fn empty(guest: Guest, size: Size) -> Result<Machine, Unreadable> {
    let text = format!("(name: \"imported\", guest: {guest:?}, memory: (size: \"1 GiB\"))");
    let read = machine::parse(Path::new("/imported.ron"), &text);
    let mut machine = read.map_err(|refused| Unreadable::NoDomain(refused.to_string()))?.machine;
    machine.memory.size = size;
    Ok(machine)
}

/// The file for a key beside a machine file; `None` if that is only printed.
fn key_file(machine: &Path) -> Option<PathBuf> {
    (machine.parent() != Some(Path::new("/"))).then(|| machine.with_extension("osk"))
}

fn finish(mut cx: Context, path: &Path) -> Imported {
    let name = if cx.machine.name.is_empty() { "imported".to_owned() } else { cx.machine.name.clone() };
    cx.machine.name = name.clone();
    mended::mend(&mut cx);
    defaults::forget(&mut cx.machine);
    let written = short::write(&cx.machine, &cx.comments, path);
    if let Some(refused) = written.refused {
        // One that is only printed has no path; the place in it is what comes first then.
        let shown = refused.strip_prefix("/machine.ron:").filter(|_| key_file(path).is_none());
        let words = match shown {
            Some(rest) => format!("what is printed would be refused as a machine file, at {rest}"),
            None => format!("the machine file would be refused: {refused}"),
        };
        cx.account.remark(Verdict::NeedsYou, &words);
    }
    let key = cx.key_file.zip(cx.key);
    Imported { name, file: written.text, entries: cx.account.close(), key }
}
