//! `vfio-run new`.

mod ask;

use std::fs::OpenOptions;
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::shared::planned;
use crate::cli::{NewArgs, OutputArgs};
use crate::host::pci::{Names, WantedPci};
use crate::host::{Host, Wanted};
use crate::import::new::{Proposed, Wishes, cards, installation_beside, propose};
use crate::machine::{self, Display, Source};
use crate::plan::{Finding, Plan};
use crate::report;
use crate::units::exit;

/// Asks what the machine is to be, looks at the host, and writes its file.
pub fn new(args: &NewArgs, output: OutputArgs) -> Result<u8> {
    let root = planned::root();
    let host = match &args.host {
        Some(file) => planned::read_host(file)?,
        None => Host::read(&root, &wanted()),
    };
    let names = Names::of(&root, host.pci.iter().flat_map(|pci| &pci.functions));
    let asks = args.guest.is_none() || std::io::stdin().is_terminal();
    let answered = ask::wishes(args, &cards(&host, &names), asks, &mut std::io::stdin().lock(), &mut |text| {
        report::print(text.as_bytes());
    })?;
    let Some(wishes) = answered else { bail!("the answers ended: nothing was written") };
    let path = args.output.clone().unwrap_or_else(|| PathBuf::from(format!("{}.ron", wishes.name)));
    let path = super::disk::absolute(&path)?;
    let beside = wishes.setup.is_some().then(|| installation_beside(&path));
    for file in std::iter::once(&path).chain(&beside) {
        if file.symlink_metadata().is_ok() {
            bail!("{} exists already, and is not overwritten: name another file with `-o`", file.display());
        }
    }
    let made = with_a_screen(&wishes, &host, &names, (&path, beside.as_deref()), args.host.as_deref())?;
    let Made { proposed, plans } = made;
    let wrong: Vec<Finding> =
        plans.iter().flat_map(|plan| &plan.findings).filter(|f| of_the_file(f)).cloned().collect();
    if !wrong.is_empty() {
        if output.json {
            report::json(&serde_json::json!({ "name": wishes.name, "written": [], "findings": wrong }))?;
        } else {
            report::complain(&report::findings(&wrong, false));
        }
        tracing::error!("nothing was written: such a machine cannot start on this host");
        return Ok(exit::REFUSED);
    }
    write(&path, &proposed.machine)?;
    if let (Some(beside), Some(text)) = (&beside, &proposed.installation) {
        write(beside, text).inspect_err(|_| drop(std::fs::remove_file(&path)))?;
    }
    show(&path, beside.as_deref(), &wishes, &plans, output)?;
    Ok(exit::OK)
}

/// What a machine is proposed from. Its plan asks for itself.
fn wanted() -> Wanted {
    let pci = Some(WantedPci { all: true, ..WantedPci::default() });
    Wanted { pci, desk: Some(Vec::new()), ..Wanted::default() }
}

/// The files, and the plans that they make.
struct Made {
    proposed: Proposed,
    plans: Vec<Plan>,
}

/// Proposes, and plans what was proposed; with VNC if this QEMU has no SPICE.
fn with_a_screen(
    wishes: &Wishes,
    host: &Host,
    names: &Names,
    (path, beside): (&Path, Option<&Path>),
    captured: Option<&Path>,
) -> Result<Made> {
    let make = |wishes: &Wishes| -> Result<Made> {
        let proposed = propose(wishes, host, names, path).map_err(anyhow::Error::msg)?;
        let mut sources: Vec<Source> = vec![machine::parse(path, &proposed.machine)?];
        if let (Some(beside), Some(text)) = (beside, &proposed.installation) {
            let base = |_: &Path| Ok(proposed.machine.clone());
            sources.push(machine::parse_with(beside, text, &base)?);
        }
        let plans = sources.into_iter().map(|source| planned::plan_source(source, captured)).collect::<Result<_>>()?;
        Ok(Made { proposed, plans })
    };
    let made = make(wishes)?;
    let unknown = |finding: &Finding| finding.blocks() && finding.key == "display.known";
    match made.plans.iter().flat_map(|plan| &plan.findings).any(unknown) {
        true => make(&Wishes { display: Display::Vnc(Default::default()), ..wishes.clone() }),
        false => Ok(made),
    }
}

/// Whether a finding forbids the start for what the file says. What the host lacks, its owner can mend: the IOMMU is switched
/// off, swtpm is not installed.
fn of_the_file(finding: &Finding) -> bool {
    const OF_HOST: [&str; 6] = ["pci.iommu", "pci.interrupts", "pci.driver", "pci.vfio", "pci.rights", "pci.memlock"];
    let of_file = ["disk", "pci.", "memory.", "usb."].iter().any(|start| finding.key.starts_with(start));
    finding.blocks() && of_file && !OF_HOST.contains(&finding.key.as_str())
}

/// Writes a file that is not there.
fn write(path: &Path, text: &str) -> Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let mut file = file.with_context(|| format!("cannot make {}", path.display()))?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    match written {
        Err(error) if error.kind() != ErrorKind::Interrupted => {
            drop(std::fs::remove_file(path));
            Err(error).with_context(|| format!("cannot write {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// What was written, and what comes next.
fn show(path: &Path, beside: Option<&Path>, wishes: &Wishes, plans: &[Plan], output: OutputArgs) -> Result<()> {
    let files: Vec<&Path> = std::iter::once(path).chain(beside).collect();
    let first = beside.unwrap_or(path);
    let here = |path: &Path| {
        let folder = std::env::current_dir().unwrap_or_default();
        path.strip_prefix(&folder).unwrap_or(path).display().to_string()
    };
    let sudo = if wishes.card.is_some() { "sudo " } else { "" };
    let mut next = vec![format!("{sudo}vfio-run check {}", here(first)), format!("{sudo}vfio-run {}", here(first))];
    if beside.is_some() {
        next.push(format!("{sudo}vfio-run check {}", here(path)));
        next.push(format!("{sudo}vfio-run {}", here(path)));
    }
    if output.json {
        return report::json(&serde_json::json!({ "name": wishes.name, "written": files, "next": next }));
    }
    for file in &files {
        tracing::info!("wrote {}", here(file));
    }
    let lacks: Vec<Finding> =
        plans.iter().take(1).flat_map(|plan| &plan.findings).filter(|f| f.blocks()).cloned().collect();
    if !lacks.is_empty() && !output.quiet {
        report::complain(&format!("Before it can start:\n{}", report::findings(&lacks, false)));
    }
    if !output.quiet {
        let mut text = format!(
            "Next:\n  {:<44} what it would run into\n  {:<44} {}",
            next[0],
            next[1],
            if beside.is_some() { "install the guest" } else { "start it" }
        );
        if let [_, _, check, run] = next.as_slice() {
            text.push_str(&format!("\nand when the guest is installed:\n  {check}\n  {run}"));
        }
        report::say(&text);
    }
    Ok(())
}
