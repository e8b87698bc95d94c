//! `vfio-run new`.

mod ask;
mod remedies;
mod values;

use std::io::IsTerminal as _;
use std::path::Path;

use anyhow::{Result, bail};

use super::shared::wrong_argument::WrongArgument;
use super::shared::{home, planned, whole_file};
use crate::cli::{NewArgs, OutputArgs};
use crate::host::pci::{Names, WantedPci};
use crate::host::{Host, Wanted};
use crate::import::new::{Proposed, Wishes, cards, installation_beside, propose};
use crate::machine::{self, Display, Refused, Source};
use crate::plan::{Finding, Plan};
use crate::report;
use crate::units::{exit, quoted_file};
use remedies::{of_option, option_of};
use values::Target;

/// Asks what the machine is to be, looks at the host, and writes its file.
pub fn new(args: &NewArgs, output: OutputArgs) -> Result<u8> {
    let root = planned::root();
    let target = target(args.output.as_deref())?;
    let host = match &args.host {
        Some(file) => planned::read_host(file)?,
        None => Host::read(&root, &wanted()),
    };
    let names = Names::of(&root, host.pci.iter().flat_map(|pci| &pci.functions));
    let asks = args.guest.is_none() || std::io::stdin().is_terminal();
    let home = home::home(&root);
    let mut say = |text: &str| {
        // A question ends with a blank, after which the answer stands.
        let (text, end) = text.split_at(text.trim_end().len());
        report::print(format!("{}{end}", report::each_within(report::wrap_width(), text)).as_bytes());
    };
    if asks && std::io::stdin().is_terminal() && !output.quiet && !output.json {
        say("An empty answer is what stands in brackets; Ctrl-C ends this, and nothing is written.\n");
    }
    let talk: ask::Talk = (&mut std::io::stdin().lock(), &mut say);
    let answered = ask::wishes(args, &target, &cards(&host, &names), home.as_deref(), asks, talk)?;
    let Some(wishes) = answered else { bail!("the answers ended: nothing was written") };
    let path = target.file(&wishes.name);
    let beside = wishes.setup.is_some().then(|| installation_beside(&path));
    let made = with_a_screen(&wishes, &host, &names, (&path, beside.as_deref()), args.host.as_deref())?;
    let Made { proposed, plans } = made;
    let wrong: Vec<Finding> =
        plans.iter().flat_map(|plan| &plan.findings).filter(|f| of_the_file(f)).map(of_option).collect();
    if !wrong.is_empty() {
        if output.json {
            report::json(&serde_json::json!({ "name": wishes.name, "written": [], "findings": wrong }))?;
        } else {
            report::complain(&report::findings(&wrong, false, report::messages_width()));
        }
        tracing::error!("nothing was written: such a machine cannot start on this host");
        return Ok(exit::REFUSED);
    }
    let written = whole_file::write_new(&path, proposed.machine.as_bytes(), 0o666)?;
    if let (Some(beside), Some(text)) = (&beside, &proposed.installation)
        && let Err(error) = whole_file::write_new(beside, text.as_bytes(), 0o666)
    {
        written.remove();
        return Err(error);
    }
    show(&path, beside.as_deref(), &wishes, &plans, args.host.as_deref(), output)?;
    Ok(exit::OK)
}

/// Where the file will be. Its name comes to stand in a comment, so it is one line.
fn target(output: Option<&Path>) -> Result<Target> {
    let Some(output) = output else { return Ok(Target { folder: std::env::current_dir()?, file: None }) };
    let wrong = |words: String| WrongArgument::new("-o", words);
    if output.to_str().is_none_or(|text| text.contains(char::is_control)) {
        return Err(wrong(format!("{output:?} cannot be the file: its path is to be UTF-8 in one line")).into());
    }
    let file = super::disk::absolute(output).map_err(|error| wrong(format!("{error:#}")))?;
    let named = file.parent().filter(|_| file.file_name().is_some());
    let folder = named.ok_or_else(|| wrong(format!("{} names no file", output.display())))?.to_owned();
    values::free(&file).map_err(|error| wrong(error.to_string()))?;
    Ok(Target { folder, file: Some(file) })
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
        let mut sources: Vec<Source> = vec![machine::parse(path, &proposed.machine).map_err(refused)?];
        if let (Some(beside), Some(text)) = (beside, &proposed.installation) {
            let base = |_: &Path| Ok(proposed.machine.clone());
            sources.push(machine::parse_with(beside, text, &base).map_err(refused)?);
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

/// What a file cannot have that was not written.
fn refused(refused: Refused) -> anyhow::Error {
    let allowed = refused.allowed.map_or_else(String::new, |allowed| format!("; allowed: {allowed}"));
    let message = format!("{}{allowed}", refused.message);
    match refused.place.and_then(|place| option_of(place.field.as_deref()?)) {
        Some(option) => WrongArgument::new(option, message).into(),
        None => anyhow::Error::msg(format!("no such machine can be made: {message}")),
    }
}

/// What was written, and what comes next if it is for this host.
fn show(
    path: &Path,
    beside: Option<&Path>,
    wishes: &Wishes,
    plans: &[Plan],
    captured: Option<&Path>,
    output: OutputArgs,
) -> Result<()> {
    let files: Vec<&Path> = std::iter::once(path).chain(beside).collect();
    let folder = std::env::current_dir().unwrap_or_default();
    let here = |path: &Path| path.strip_prefix(&folder).unwrap_or(path).to_owned();
    let sudo = if wishes.card.is_some() { "sudo " } else { "" };
    let mut next = Vec::new();
    for file in beside.into_iter().chain([path]).filter(|_| captured.is_none()) {
        let file = quoted_file(&here(file));
        next.extend([format!("{sudo}vfio-run check {file}"), format!("{sudo}vfio-run {file}")]);
    }
    if output.json {
        return report::json(&serde_json::json!({ "name": wishes.name, "written": files, "next": next }));
    }
    for file in &files {
        tracing::info!("wrote {}", here(file).display());
    }
    if output.quiet {
        return Ok(());
    }
    let lacks: Vec<Finding> =
        plans.iter().take(1).flat_map(|plan| &plan.findings).filter(|f| f.blocks()).cloned().collect();
    if !lacks.is_empty() {
        let lacks = report::findings(&lacks, false, report::messages_width());
        report::complain(&format!("Before it can start:\n{lacks}"));
    }
    let [check, run, more @ ..] = next.as_slice() else { return Ok(()) };
    let last = if beside.is_some() { "install the guest" } else { "start it" };
    // Each is copied as a whole, so what it is for stands above it.
    let mut text = format!("Next, to see what it would run into, and to {last}:\n  {check}\n  {run}");
    if let [check, run] = more {
        text.push_str(&format!("\nand when the guest is installed:\n  {check}\n  {run}"));
    }
    report::say(&text);
    Ok(())
}
