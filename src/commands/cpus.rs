//! `vfio-run cpus [FILE]`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::shared::svg_file::SvgFile;
use super::shared::{machines, planned};
use crate::cli::{CpusArgs, OutputArgs};
use crate::host::pci::{Names, PciFunction, WantedPci};
use crate::host::{Host, Pci, Wanted};
use crate::plan::{Finding, Plan};
use crate::report::{
    self,
    cpus::{Device, Map, Shown},
};
use crate::run;
use crate::units::{PciAddress, exit};

/// Draws the host's CPUs with the machine's threads, and those of machines that run.
pub fn cpus(args: &CpusArgs, output: OutputArgs) -> Result<u8> {
    let svg = args.svg.as_deref().map(|path| SvgFile::check(path, output)).transpose()?;
    let plan = args.file.as_deref().map(|file| planned::plan(file, args.host.as_deref())).transpose()?;
    let map = look(args, plan.as_ref())?;
    match svg {
        Some(file) => file.write(&report::cpus::svg(&map))?,
        None if !output.json => {
            report::say(&report::cpus::text(&map, report::picture_width()));
            let about = |finding: &&Finding| finding.key.starts_with("cpu.");
            let found: Vec<Finding> = plan.iter().flat_map(|plan| &plan.findings).filter(about).cloned().collect();
            let found = report::findings(&found, false, report::wrap_width());
            if !found.is_empty() && !output.quiet {
                report::say(&format!("\n{found}"));
            }
        }
        None => {}
    }
    if output.json {
        report::json(&map)?;
    }
    Ok(exit::OK)
}

/// The host and all that is drawn into it.
fn look(args: &CpusArgs, plan: Option<&Plan>) -> Result<Map> {
    let root = planned::root();
    let host = match &args.host {
        Some(path) => planned::read_host(path)?,
        None => {
            let pci = Some(WantedPci { all: true, ..WantedPci::default() });
            Host::read(&root, &Wanted { pci, machine: plan.map(|plan| plan.name.clone()), ..Wanted::default() })
        }
    };
    let mut shown = Vec::new();
    let mut owners: BTreeMap<PciAddress, String> = BTreeMap::new();
    let mut show = |plan: &Plan, runs| {
        owners.extend(plan.leases.iter().map(|address| (*address, plan.name.clone())));
        Shown::of(&plan.name, runs, &plan.placement)
    };
    shown.extend(plan.map(|plan| show(plan, false)));
    // Of a captured host's machines no more is known than the CPUs of their vCPUs.
    let here = if args.host.is_none() { running(&host) } else { BTreeMap::new() };
    let names: BTreeSet<&String> = host.machines.keys().chain(here.keys()).collect();
    for name in names.into_iter().filter(|name| plan.is_none_or(|plan| plan.name != **name)) {
        match (here.get(name), host.machines.get(name)) {
            (Some(plan), _) => shown.push(show(plan, true)),
            (None, Some(cpus)) => shown.push(Shown::unnumbered(name, cpus)),
            (None, None) => {}
        }
    }
    let pci = host.pci.as_ref();
    let devices = pci.map_or_else(Vec::new, |pci| devices(pci, &Names::of(&root, &pci.functions), &owners));
    Ok(report::cpus::map(&host.cpus, &host.memory, shown, devices))
}

/// The plans of this user's machines that run, or start.
fn running(host: &Host) -> BTreeMap<String, Plan> {
    // What cannot be looked at is left out of the picture; `status` says why.
    let names = machines::names().unwrap_or_default().into_iter();
    let plan = |name: String| {
        let folder = machines::run_dir(&name).ok()?;
        let runs = host.machines.contains_key(&name) || run::guest_runs(&folder);
        runs.then(|| run::kept_plan(&folder).ok()).flatten().map(|plan| (name, plan))
    };
    names.filter_map(plan).collect()
}

/// What machines have, and graphics cards, in order of their addresses; the functions of one device as one.
fn devices(pci: &Pci, names: &Names, owners: &BTreeMap<PciAddress, String>) -> Vec<Device> {
    let mut slots: BTreeMap<(u32, u8, u8), Vec<&PciFunction>> = BTreeMap::new();
    for function in pci.functions.iter().filter(|f| owners.contains_key(&f.address) || f.is_gpu()) {
        let address = function.address;
        slots.entry((address.domain, address.bus, address.device)).or_default().push(function);
    }
    let device = |((domain, bus, device), functions): ((u32, u8, u8), Vec<&PciFunction>)| {
        let first = functions.first()?;
        let name = names.device(first);
        let called = match name.rsplit_once('[').and_then(|(_, rest)| rest.split_once(']')) {
            Some((called, _)) => called.to_owned(),
            None => format!("{}, {name}", names.class(first)),
        };
        Some(Device {
            address: match functions.len() {
                1 => first.address.to_string(),
                _ => format!("{domain:04x}:{bus:02x}:{device:02x}.*"),
            },
            name: called,
            node: functions.iter().find_map(|f| f.details.as_ref()?.numa_node),
            machine: functions.iter().find_map(|f| owners.get(&f.address).cloned()),
        })
    };
    slots.into_iter().filter_map(device).collect()
}
