//! `vfio-run devices`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use serde_json::json;

use super::{exit, planned};
use crate::cli::{DevicesArgs, OutputArgs};
use crate::host::pci::{Bar, Details, Names, PciFunction, WantedPci};
use crate::host::{Host, Pci, Wanted};
use crate::report;

/// Shows the host's PCI functions by IOMMU group.
pub fn devices(args: &DevicesArgs, output: OutputArgs) -> Result<u8> {
    let wanted = Wanted { pci: Some(WantedPci { all: true, ..WantedPci::default() }), ..Wanted::default() };
    let root = planned::root();
    let pci = Host::read(&root, &wanted).pci.unwrap_or_default();
    let names = Names::of(&root, &pci.functions);
    let groups = groups(&pci, args.gpu);
    if output.json {
        let entry = |f: &PciFunction| json!({ "name": names.device(f), "kind": names.class(f), "function": f });
        let entries = groups.iter().map(|(group, functions)| {
            let functions: Vec<_> = functions.iter().map(|f| entry(f)).collect();
            json!({ "group": group, "functions": functions, "needed_by_host": needed(&groups[group]) })
        });
        report::json(&json!({ "iommu": pci.iommu, "groups": entries.collect::<Vec<_>>() }))?;
    } else {
        report::say(&render(&pci, &groups, &names));
    }
    Ok(exit::OK)
}

/// The functions by group; those without one under `None`.
type Groups<'a> = BTreeMap<Option<u32>, Vec<&'a PciFunction>>;

fn groups(pci: &Pci, only_gpus: bool) -> Groups<'_> {
    let mut groups = Groups::new();
    for function in &pci.functions {
        groups.entry(function.group).or_default().push(function);
    }
    groups.retain(|group, functions| {
        if only_gpus && group.is_none() {
            functions.retain(|f| f.is_gpu());
        }
        !only_gpus || functions.iter().any(|f| f.is_gpu())
    });
    groups
}

/// What of the host depends on a group.
fn needed(functions: &[&PciFunction]) -> Vec<String> {
    let uses = functions.iter().filter_map(|f| f.details.as_ref()).flat_map(|d| d.uses.iter().cloned());
    uses.collect()
}

fn render(pci: &Pci, groups: &Groups, names: &Names) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    if pci.iommu != Some(true) {
        let _ = writeln!(
            text,
            "No IOMMU is at work, so no device can be given away: switch VT-d or AMD-Vi on in the firmware's setup; \
             Intel needs `intel_iommu=on` on the kernel command line too\n"
        );
    }
    for (group, functions) in groups {
        let _ = match group {
            Some(group) => writeln!(text, "group {group}{}", verdict(functions)),
            None => writeln!(text, "without a group"),
        };
        for function in functions {
            let driver = function.driver.as_deref().unwrap_or("no driver");
            let (ids, mut name) = (function.ids.to_string(), names.device(function));
            if name != ids {
                name = format!("{name} [{ids}]");
            }
            let _ = writeln!(text, "  {}  {name}  {}, {driver}", function.address, names.class(function));
            if let Some(details) = function.details.as_deref().filter(|_| !function.is_bridge()) {
                text.push_str(&describe(details));
            }
        }
    }
    text.truncate(text.trim_end().len());
    text
}

/// What a guest could do with the group, in the heading's line.
fn verdict(functions: &[&PciFunction]) -> String {
    let devices = functions.iter().filter(|f| !f.is_bridge()).count();
    let needed = needed(functions);
    match (devices, needed.is_empty()) {
        (0, _) => ": bridges, which stay with the host".to_owned(),
        (_, false) => format!(": the host needs it for {}", needed.join(", ")),
        (1, true) => String::new(),
        (_, true) => ": these go together".to_owned(),
    }
}

fn describe(details: &Details) -> String {
    let mut text = String::new();
    let mut facts = Vec::new();
    if details.boot_vga == Some(true) {
        facts.push("the firmware's screen".to_owned());
    }
    facts.push(match details.reset_methods.as_deref() {
        None => "reset unknown".to_owned(),
        Some([]) => "cannot be reset".to_owned(),
        Some(methods) => format!("reset by {}", methods.join(", ")),
    });
    facts.extend(details.numa_node.map(|node| format!("NUMA node {node}")));
    facts.extend(details.power_state.clone());
    let bars: Vec<String> = details.bars.iter().filter(|bar| bar.memory).map(bar).collect();
    if !bars.is_empty() {
        facts.push(format!("memory {}", bars.join(", ")));
    }
    for range in &details.resizable {
        if let (Some(least), Some(most)) = (range.sizes().next(), range.sizes().next_back()) {
            facts.push(format!("BAR {} can be {least} to {most}", range.bar));
        }
    }
    facts.extend(details.lease.as_ref().map(|machine| format!("given to the machine {machine}")));
    // Writing to a String cannot fail.
    let _ = writeln!(text, "      {}", facts.join("; "));
    for holder in &details.holders {
        let nodes: Vec<String> = holder.nodes.iter().map(|node| node.display().to_string()).collect();
        let _ = writeln!(text, "      held by {holder}: {}", nodes.join(", "));
    }
    for usb in &details.usb {
        let _ = writeln!(text, "      port {}: {} {}", usb.port, usb.ids, usb.name);
    }
    text
}

fn bar(bar: &Bar) -> String {
    let size = bar.size;
    if bar.wide { format!("{size} (64 bit)") } else { size.to_string() }
}
