//! From a machine file to its plan: what every verb that takes a file begins with.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::host::pci::WantedPci;
use crate::host::{Host, Root, Wanted};
use crate::machine::{self, Firmware, Machine, Source};
use crate::plan::{self, Finding, Plan};
use crate::qemu::QemuFacts;
use crate::units::PciSlot;

/// The root that facts are read under and changes are made under.
pub fn root() -> Root {
    Root::new("/")
}

/// Reads the file, the host (or a captured one) and what the QEMU binary can do, and decides.
pub fn plan(file: &Path, captured: Option<&Path>) -> Result<Plan> {
    let source = machine::read(file)?;
    let here = Host::read(&root(), &wanted(&source));
    let binary = binary(&source.machine, &here);
    let facts = QemuFacts::of(&binary, &here.process.cache_dir)
        .with_context(|| format!("cannot ask {} what it can do", binary.display()))?;
    let host = match captured {
        // What the machine names is looked for here; a captured host does not know of it.
        Some(path) => Host { files: here.files, accounts: here.accounts, ..read_host(path)? },
        None => here,
    };
    let lines = |field: &str| source.lines.line(field);
    Ok(plan::plan(&source.machine, &lines, &host, &facts))
}

/// What of the host a plan for this machine may depend on.
fn wanted(source: &Source) -> Wanted {
    let machine = &source.machine;
    let mut files: Vec<PathBuf> = machine.disks.iter().map(|d| d.file.clone()).collect();
    if let Some(kernel) = &machine.kernel {
        files.push(kernel.image.clone());
        files.extend(kernel.initrd.clone());
    }
    if let Firmware::Uefi(uefi) = &machine.firmware {
        files.extend(uefi.code.iter().chain(&uefi.vars).cloned());
    }
    let roms: Vec<PathBuf> = machine.pci.iter().filter_map(|device| device.rom.clone()).collect();
    files.extend(roms.iter().cloned());
    let slots: Vec<PciSlot> = machine.pci.iter().map(|device| device.address).collect();
    let pci = (!slots.is_empty()).then_some(WantedPci { slots, all: false, roms });
    let programs = vec![QEMU.to_owned(), "swtpm".to_owned()];
    Wanted { files, programs, accounts: machine.user.iter().cloned().collect(), pci }
}

const QEMU: &str = "qemu-system-x86_64";

/// The QEMU binary: the machine's own, else the one in PATH. One that is missing is named by the error of its start.
fn binary(machine: &Machine, host: &Host) -> PathBuf {
    let found = || host.programs.get(QEMU).cloned().unwrap_or_else(|| PathBuf::from(QEMU));
    machine.qemu.clone().unwrap_or_else(found)
}

fn read_host(path: &Path) -> Result<Host> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is no host that vfio-run captured", path.display()))
}

/// The findings that forbid a start.
pub fn blockers(plan: &Plan) -> impl Iterator<Item = &Finding> {
    plan.findings.iter().filter(|f| f.blocks())
}
