//! The host's PCI functions by IOMMU group, as people read them.

use std::fmt::Write as _;

use super::findings;
use crate::host::Pci;
use crate::host::pci::{Bar, Details, Holder, Names, PciFunction};
use crate::plan::Taking;

/// A group with its functions; those without one are together under `None`.
#[derive(Debug)]
pub struct Group<'a> {
    /// Its number.
    pub number: Option<u32>,
    /// Its functions, in order.
    pub functions: Vec<&'a PciFunction>,
    /// What a start that gives it to a guest would find and stop.
    pub taking: Taking,
}

/// All of these groups.
pub fn devices(pci: &Pci, groups: &[Group], names: &Names) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    if pci.iommu != Some(true) {
        let _ = writeln!(
            text,
            "No IOMMU is at work, so no device can be given away: switch VT-d or AMD-Vi on in the firmware's setup; \
             Intel needs `intel_iommu=on` on the kernel command line too\n"
        );
    }
    for Group { number, functions, taking } in groups {
        let _ = match number {
            Some(number) => writeln!(text, "group {number}{}", together(functions)),
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
        if !taking.stops.is_empty() {
            let _ = writeln!(text, "  a start would {}", taking.stops.join("; "));
        }
        for line in findings(&taking.findings, false).lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    text.truncate(text.trim_end().len());
    text
}

/// What of the group a guest gets, in the heading's line.
fn together(functions: &[&PciFunction]) -> String {
    let devices: Vec<&&PciFunction> = functions.iter().filter(|f| !f.is_bridge()).collect();
    let card = |f: &PciFunction| (f.address.domain, f.address.bus, f.address.device);
    match devices.as_slice() {
        [] => ": bridges, which stay with the host".to_owned(),
        [_] => String::new(),
        [first, rest @ ..] if rest.iter().all(|f| card(f) == card(first)) => {
            let (domain, bus, device) = card(first);
            format!(": one card, `pci: [\"{domain:04x}:{bus:02x}:{device:02x}.*\"]`")
        }
        _ => ": these go together".to_owned(),
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
    // Writing to a String cannot fail.
    let _ = writeln!(text, "      {}", facts.join("; "));
    for holder in &details.holders {
        let nodes: Vec<String> = holder.nodes.iter().map(|node| node.display().to_string()).collect();
        let _ = writeln!(text, "      held by {holder}{}: {}", whose(holder), nodes.join(", "));
    }
    for usb in &details.usb {
        let _ = writeln!(text, "      port {}: {} {}", usb.port, usb.ids, usb.name);
    }
    text
}

/// User and session of a holder, where its unit does not tell them.
fn whose(holder: &Holder) -> String {
    let user = holder.user.clone().or_else(|| holder.uid.map(|uid| uid.to_string()));
    let user = user.filter(|_| holder.manager.is_none()).map(|user| format!(" as {user}"));
    let session = holder.session.as_ref().map(|session| format!(" in session {session}"));
    [user, session].into_iter().flatten().collect()
}

fn bar(bar: &Bar) -> String {
    let size = bar.size;
    if bar.wide { format!("{size} (64 bit)") } else { size.to_string() }
}
