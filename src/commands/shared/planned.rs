//! From a machine file to its plan: what every verb that takes a file begins with.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::unit_file;
use crate::host::{Host, Root, Wanted};
use crate::machine::{self, Machine, QEMU, Source};
use crate::plan::{self, Finding, Place, Plan};
use crate::qemu::{KvmTrial, QemuFacts};
use crate::units::Origin;

/// Nothing can be planned, because QEMU could not be asked what it can do; nothing was touched.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoQemu(String);

/// The root that facts are read under and changes are made under.
pub fn root() -> Root {
    Root::new("/")
}

/// Reads the file, the host (or a captured one) and what the QEMU binary can do, and decides.
pub fn plan(file: &Path, captured: Option<&Path>) -> Result<Plan> {
    plan_source(machine::read(file)?, captured)
}

/// As [`plan`], of a file that was read, or is to be written.
pub fn plan_source(source: Source, captured: Option<&Path>) -> Result<Plan> {
    let file = source.path.as_path();
    let unit = unit_file::wanted(&source.machine.name, file);
    let machine_files = source.lines.files().iter().filter_map(|file| std::path::absolute(file).ok()).collect();
    let wanted = Wanted { unit, machine_files, ..plan::wanted(&source.machine) };
    let here = Host::read(&root(), &wanted);
    let binary = binary(&source.machine, &here);
    // What QEMU says of KVM here does not hold for a captured host.
    let tries = captured.is_none() && plan::tries_kvm(&source.machine, &here.kvm);
    let trial = if tries { KvmTrial::Run } else { KvmTrial::Skip };
    let facts = QemuFacts::of(&binary, here.process.cache_dir.as_deref(), trial).map_err(|error| {
        let file = source.lines.file("qemu").unwrap_or(file);
        let place = source.lines.at("qemu").map_or_else(String::new, |at| format!("{}:{}:{}: ", file.display(), at.line, at.column));
        let remedy = "install QEMU (Debian: qemu-system-x86), or name its binary in the machine file: `qemu: \"/…/qemu-system-x86_64\"`";
        NoQemu(format!("{place}{:#}\n     → {remedy}", anyhow::Error::from(error)))
    })?;
    let host = match captured {
        // What the machine names is looked for here; a captured host does not know of it.
        Some(path) => {
            let Host { files, accounts, acpi_tables, smbios, .. } = here;
            Host { files, accounts, acpi_tables, smbios, ..read_host(path)? }
        }
        None => here,
    };
    let lines = |field: &str| source.lines.line(field);
    let mut plan = plan::plan(&source.machine, &lines, &host, &facts);
    for finding in &mut plan.findings {
        finding.place = place(&source, finding);
    }
    Ok(Plan { file: std::path::absolute(file).ok(), ..plan })
}

/// Where the field that a finding is about was written. One that the file leaves out has no place.
fn place(source: &Source, finding: &Finding) -> Option<Place> {
    let Some(Origin::File { field, .. } | Origin::Raw { field, .. }) = &finding.origin else { return None };
    let at = source.lines.at(field)?;
    let file = source.lines.file(field).unwrap_or(&source.path);
    Some(Place { file: file.display().to_string(), line: at.line, column: at.column })
}

/// The QEMU binary: the machine's own, else the one in PATH. One that is missing is named by the error of its start.
fn binary(machine: &Machine, host: &Host) -> PathBuf {
    let found = || host.programs.get(QEMU).cloned().unwrap_or_else(|| PathBuf::from(QEMU));
    machine.qemu.clone().unwrap_or_else(found)
}

/// Reads a captured host.
pub fn read_host(path: &Path) -> Result<Host> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let host = serde_json::from_slice(&text);
    let mut host: Host = host.with_context(|| format!("{} is no host that vfio-run captured", path.display()))?;
    // An older version knew fewer kinds of cores.
    host.cpus.settle_kinds();
    Ok(host)
}

/// The findings that forbid a start.
pub fn blockers(plan: &Plan) -> impl Iterator<Item = &Finding> {
    plan.findings.iter().filter(|f| f.blocks())
}
