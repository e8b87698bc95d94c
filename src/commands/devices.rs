//! `vfio-run devices`.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};

use super::shared::planned;
use crate::cli::{DevicesArgs, OutputArgs};
use crate::host::pci::{Names, PciFunction, WantedPci};
use crate::host::{Host, Pci, Wanted};
use crate::plan::{Taking, taking};
use crate::report::{self, Group};
use crate::units::exit;

/// Shows the host's PCI functions by IOMMU group.
pub fn devices(args: &DevicesArgs, output: OutputArgs) -> Result<u8> {
    let wanted = Wanted { pci: Some(WantedPci { all: true, ..WantedPci::default() }), ..Wanted::default() };
    let root = planned::root();
    let host = Host::read(&root, &wanted);
    let Some(pci) = &host.pci else { return Ok(exit::OK) };
    let names = Names::of(&root, &pci.functions);
    let groups = groups(&host, pci, args.gpu)?;
    if output.json {
        report::json(&value(pci, &groups, &names))?;
    } else {
        report::say(&report::devices(pci, &groups, &names, report::wrap_width()));
        if host.process.uid != 0 {
            tracing::info!("programs and machines of other users are seen by root alone: `sudo vfio-run devices`");
        }
    }
    Ok(exit::OK)
}

/// All of it, as a script reads it.
fn value(pci: &Pci, groups: &[Group], names: &Names) -> Value {
    let entry = |f: &&PciFunction| json!({ "name": names.device(f), "kind": names.class(f), "function": f });
    let entries = groups.iter().map(|group| {
        let functions: Vec<_> = group.functions.iter().map(entry).collect();
        json!({ "group": group.number, "functions": functions, "taking": group.taking })
    });
    json!({ "iommu": pci.iommu, "groups": entries.collect::<Vec<_>>() })
}

fn groups<'a>(host: &Host, pci: &'a Pci, only_gpus: bool) -> Result<Vec<Group<'a>>> {
    let mut groups: BTreeMap<Option<u32>, Vec<&PciFunction>> = BTreeMap::new();
    for function in &pci.functions {
        groups.entry(function.group).or_default().push(function);
    }
    groups.retain(|group, functions| {
        if only_gpus && group.is_none() {
            functions.retain(|f| f.is_gpu());
        }
        !only_gpus || functions.iter().any(|f| f.is_gpu())
    });
    let of_group = |(number, functions): (Option<u32>, _)| {
        let taking = number.map_or_else(|| Ok(Taking::default()), |number| taking(host, number))?;
        Ok(Group { number, functions, taking })
    };
    groups.into_iter().map(of_group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Root;

    #[test]
    fn a_desktops_card_shows_with_who_holds_it_and_what_a_start_would_stop() {
        // A real kernel's word, captured in the lab.
        let text = std::fs::read_to_string("tests/hosts/debian13-desktop.json").unwrap();
        let host: Host = serde_json::from_str(&text).unwrap();
        let pci = host.pci.as_ref().unwrap();
        let names = Names::of(&Root::new("/nowhere"), &pci.functions);
        let all = groups(&host, pci, false).unwrap();
        let gpus = groups(&host, pci, true).unwrap();
        assert!(all.len() > gpus.len());

        let value = value(pci, &gpus, &names);
        assert_eq!(value["iommu"], true);
        let [group] = value["groups"].as_array().unwrap().as_slice() else { panic!("{value}") };
        let its: Vec<_> = group["functions"].as_array().unwrap().iter().map(|f| &f["function"]["address"]).collect();
        assert_eq!(its, ["0000:01:00.0", "0000:01:00.1"]);
        assert_eq!(group["functions"][0]["kind"], "VGA card");
        assert!(group["taking"]["stops"].to_string().contains("weston.service"), "{group}");

        let text = report::devices(pci, &gpus, &names, usize::MAX);
        for words in [": one card, `pci: [\"0000:01:00.*\"]`", "held by weston", "a start would ", "weston.service"] {
            assert!(text.contains(words), "{words} is not in\n{text}");
        }
        assert!(!text.contains("without a group"), "{text}");
    }
}
