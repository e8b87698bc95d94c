//! `vfio-run devices`.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::json;

use super::{exit, planned};
use crate::cli::{DevicesArgs, OutputArgs};
use crate::host::pci::{Names, PciFunction, WantedPci};
use crate::host::{Host, Pci, Wanted};
use crate::plan::{Taking, taking};
use crate::report::{self, Group};

/// Shows the host's PCI functions by IOMMU group.
pub fn devices(args: &DevicesArgs, output: OutputArgs) -> Result<u8> {
    let wanted = Wanted { pci: Some(WantedPci { all: true, ..WantedPci::default() }), ..Wanted::default() };
    let root = planned::root();
    let host = Host::read(&root, &wanted);
    let Some(pci) = &host.pci else { return Ok(exit::OK) };
    let names = Names::of(&root, &pci.functions);
    let groups = groups(&host, pci, args.gpu)?;
    if output.json {
        let entry = |f: &&PciFunction| json!({ "name": names.device(f), "kind": names.class(f), "function": f });
        let entries = groups.iter().map(|group| {
            let functions: Vec<_> = group.functions.iter().map(entry).collect();
            json!({ "group": group.number, "functions": functions, "taking": group.taking })
        });
        report::json(&json!({ "iommu": pci.iommu, "groups": entries.collect::<Vec<_>>() }))?;
    } else {
        report::say(&report::devices(pci, &groups, &names));
        if host.process.uid != 0 {
            tracing::info!("programs and machines of other users are seen by root alone: `sudo vfio-run devices`");
        }
    }
    Ok(exit::OK)
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
