//! The host's PCI functions by IOMMU group, as people read them.

use std::fmt::Write as _;

use super::findings::findings;
use super::hanging::each_within;
use crate::host::Pci;
use crate::host::pci::{Bar, Details, Names, PciFunction};
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

/// All of these groups, for a reader of this width.
pub fn devices(pci: &Pci, groups: &[Group], names: &Names, width: usize) -> String {
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
            Some(number) => writeln!(text, "group {number}{}", together(pci, functions)),
            None => writeln!(text, "without a group"),
        };
        for function in functions {
            let driver = function.driver.as_deref().unwrap_or("no driver");
            let (ids, mut name) = (function.ids.to_string(), names.device(function));
            if name != ids {
                name = format!("{name} [{ids}]");
            }
            let _ = writeln!(text, "  {}  {name}  {}, {driver}", function.address, names.class(function));
            if let Some(details) = function.details.as_deref().filter(|_| !function.is_of_board()) {
                text.push_str(&describe(details));
            }
        }
        if !taking.stops.is_empty() {
            let _ = writeln!(text, "  a start would {}", taking.stops.join("; "));
        }
        for line in findings(&taking.findings, false, width.saturating_sub(2)).lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    each_within(width, text.trim_end())
}

/// What of the group a guest gets, in the heading's line.
fn together(pci: &Pci, functions: &[&PciFunction]) -> String {
    let devices: Vec<&&PciFunction> = functions.iter().filter(|f| !f.is_of_board()).collect();
    let card = |f: &PciFunction| (f.address.domain, f.address.bus, f.address.device);
    let is_in = |f: &PciFunction| !f.is_of_board() && functions.iter().any(|member| member.address == f.address);
    match devices.as_slice() {
        [] => ": bridges, which stay with the host".to_owned(),
        [_] => String::new(),
        // A device of a chipset may have functions in other groups, or that lead to the rest of the board.
        [first, rest @ ..]
            if rest.iter().all(|f| card(f) == card(first))
                && pci.functions.iter().filter(|f| card(f) == card(first)).all(is_in) =>
        {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn function(address: &str, class: u32) -> PciFunction {
        PciFunction {
            address: address.parse().unwrap(),
            ids: "8086:7a04".parse().unwrap(),
            subsystem: None,
            class,
            driver: None,
            group: Some(7),
            port: None,
            details: None,
        }
    }

    #[test]
    fn a_card_is_named_as_a_whole_only_where_all_of_it_is_in_the_group() {
        let pci = |functions: &[(&str, u32)]| Pci {
            functions: functions.iter().map(|(address, class)| function(address, *class)).collect(),
            ..Pci::default()
        };
        let all = |pci: &Pci| together(pci, &pci.functions.iter().collect::<Vec<_>>());
        let card = pci(&[("01:00.0", 0x03_0000), ("01:00.1", 0x04_0300)]);
        assert_eq!(all(&card), ": one card, `pci: [\"0000:01:00.*\"]`");
        assert_eq!(together(&card, &[&card.functions[0]]), "");
        let chipset = pci(&[("00:1f.0", 0x06_0100), ("00:1f.3", 0x04_0300), ("00:1f.4", 0x0c_0500)]);
        assert_eq!(all(&chipset), ": these go together");
        let shared = pci(&[("00:14.0", 0x0c_0330), ("00:14.2", 0x05_0000), ("00:14.3", 0x02_8000)]);
        assert_eq!(together(&shared, &[&shared.functions[0], &shared.functions[1]]), ": these go together");
        assert_eq!(all(&pci(&[("00:1c.0", 0x06_0400)])), ": bridges, which stay with the host");
    }
}
