//! From a machine file to its plan: what every verb that takes a file begins with.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::unit_file;
use crate::host::{Host, Root, Wanted};
use crate::machine::{self, Machine, QEMU, Source};
use crate::plan::{self, Finding, Place, Plan};
use crate::qemu::{KvmTrial, QemuFacts};
use crate::units::Origin;

/// No host's facts are larger, in bytes: those of a host with 512 CPUs are 107 KiB.
const MAX_HOST: u64 = 16 << 20;

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
    let mut text = Vec::new();
    let read = open_host(path).and_then(|file| file.take(MAX_HOST + 1).read_to_end(&mut text));
    read.with_context(|| format!("cannot read {}", path.display()))?;
    if text.len() as u64 > MAX_HOST {
        bail!("{} is too large for a captured host: at most {} MiB", path.display(), MAX_HOST >> 20);
    }
    let host = serde_json::from_slice(&text);
    let mut host: Host = host.with_context(|| format!("{} is no host that vfio-run captured", path.display()))?;
    // An older version knew fewer kinds of cores.
    host.cpus.settle_kinds();
    Ok(host)
}

/// Opens what is read to its end: a file, or the pipe of `<(…)`. A FIFO with a name would wait for a writer that may never come.
fn open_host(path: &Path) -> io::Result<File> {
    let there = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?;
    let by_descriptor = format!("/proc/self/fd/{}", there.as_raw_fd());
    // That of a pipe without a name is `pipe:[NUMBER]`.
    if there.metadata()?.file_type().is_fifo() && std::fs::read_link(&by_descriptor)?.is_absolute() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a FIFO, and no file with data"));
    }
    File::open(by_descriptor)
}

/// The findings that forbid a start.
pub fn blockers(plan: &Plan) -> impl Iterator<Item = &Finding> {
    plan.findings.iter().filter(|f| f.blocks())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_for_a_hosts_facts_is_not_read_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let sparse = dir.path().join("large.json");
        File::create(&sparse).unwrap().set_len(6 << 30).unwrap();
        for path in [&*sparse, Path::new("/dev/zero")] {
            let words = read_host(path).unwrap_err().to_string();
            assert!(words.ends_with(" is too large for a captured host: at most 16 MiB"), "{words}");
        }
        let captured = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts/debian13-desktop.json");
        assert!(read_host(&captured).is_ok());
    }

    #[test]
    fn a_captured_host_comes_from_a_file_or_a_pipe_and_no_fifo_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let words = format!("{:#}", read_host(&fifo).unwrap_err());
        assert!(words.ends_with("fifo: it is a FIFO, and no file with data"), "{words}");
        let (reader, mut writer) = io::pipe().unwrap();
        let path = PathBuf::from(format!("/dev/fd/{}", reader.as_raw_fd()));
        let captured = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts/debian13-desktop.json");
        let writes = std::thread::spawn(move || io::copy(&mut File::open(captured).unwrap(), &mut writer).unwrap());
        // As `<(zcat host.json.gz)`.
        assert!(read_host(&path).is_ok());
        assert!(writes.join().unwrap() > 0);
    }
}
