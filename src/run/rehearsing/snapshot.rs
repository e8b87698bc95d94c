//! What of a host a handover may change, at one moment, and how two moments differ.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::host::{Root, lease};
use crate::plan::Plan;
use crate::units::PciAddress;

/// Modules that giving a device away loads, and that stay loaded as they do after a run: another user may need them.
const LOADED_FOR_VFIO: [&str; 7] =
    ["vfio", "vfio_pci", "vfio_pci_core", "vfio_iommu_type1", "vfio_virqfd", "irqbypass", "iommufd"];
/// A function's ranges in its `resource` file; what follows are its ROM and a bridge's windows.
const BARS: usize = 6;

/// Where the devices are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// With the host.
    Home,
    /// Handed over.
    There,
}

/// What was not as at the look before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The thing.
    pub what: String,
    /// What it was; `None`: it was not there.
    pub before: Option<String>,
    /// What it is; `None`: it is gone.
    pub after: Option<String>,
}

/// Something that a round left other than it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leak {
    /// The round.
    pub round: u32,
    /// Whether it was seen after the way back, or after the way there.
    pub side: Side,
    /// What.
    #[serde(flatten)]
    pub difference: Difference,
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { what, before, after } = &self.difference;
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "absent".to_owned());
        let side = if self.side == Side::Home { "came back with" } else { "went over with" };
        write!(f, "round {} {side} {what}: {} → {}", self.round, text(before), text(after))
    }
}

impl Difference {
    /// Whether it stays by design.
    pub fn stays(&self) -> bool {
        let module = self.what.strip_prefix("module ").unwrap_or_default();
        self.before.is_none() && LOADED_FOR_VFIO.contains(&module)
    }
}

/// A value for each thing, by a name that a reader knows it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::run) struct Look(BTreeMap<String, String>);

impl Look {
    /// Looks at all that the plan touches, and at what would pile up.
    pub fn at(plan: &Plan, root: &Root) -> Self {
        let mut look = Self(BTreeMap::new());
        for address in &plan.leases {
            look.function(root, *address);
        }
        for planned in &plan.changes {
            for observed in planned.change.observe(root) {
                look.put(observed.what, observed.value);
            }
        }
        look.consoles(root);
        look.memory(root);
        for line in root.text("/proc/modules").unwrap_or_default().lines() {
            let name = line.split_ascii_whitespace().next().unwrap_or_default();
            look.put(format!("module {name}"), "loaded");
        }
        look.ours(plan);
        if root.is_real() {
            look.descriptors();
        }
        look
    }

    /// What is not as it was at this look.
    pub fn differences<'a>(&'a self, later: &'a Self) -> impl Iterator<Item = Difference> + 'a {
        let gone_or_other = self.0.iter().filter_map(|(what, before)| {
            let after = later.0.get(what);
            (after != Some(before)).then_some((what, Some(before), after))
        });
        let new =
            later.0.iter().filter(|(what, _)| !self.0.contains_key(*what)).map(|(what, new)| (what, None, Some(new)));
        gone_or_other.chain(new).map(|(what, before, after)| Difference {
            what: what.clone(),
            before: before.cloned(),
            after: after.cloned(),
        })
    }

    fn put(&mut self, what: impl Into<String>, value: impl Into<String>) {
        self.0.insert(what.into(), value.into());
    }

    /// A file's text, if there is one.
    fn file(&mut self, root: &Root, what: impl Into<String>, path: &Path) {
        if let Some(text) = root.text_up_to(path, 4096) {
            self.put(what, text);
        }
    }

    fn function(&mut self, root: &Root, address: PciAddress) {
        let folder = PathBuf::from(format!("/sys/bus/pci/devices/{address}"));
        let driver = root.link(folder.join("driver")).unwrap_or_else(|| "none".to_owned());
        self.put(format!("{address} driver"), driver);
        for name in ["driver_override", "power/control", "d3cold_allowed", "reset_method"] {
            self.file(root, format!("{address} {name}"), &folder.join(name));
        }
        let resource = root.text_up_to(folder.join("resource"), 4096).unwrap_or_default();
        for (bar, line) in resource.lines().take(BARS).enumerate() {
            let number = |word: Option<&str>| u64::from_str_radix(word?.trim_start_matches("0x"), 16).ok();
            let mut words = line.split_ascii_whitespace();
            if let (Some(start), Some(end)) = (number(words.next()), number(words.next()))
                && end > start
            {
                self.put(format!("{address} size of BAR {bar}"), (end - start + 1).to_string());
            }
        }
    }

    fn consoles(&mut self, root: &Root) {
        let folder = Path::new("/sys/class/vtconsole");
        for name in root.names(folder) {
            let text = |file: &str| root.text_up_to(folder.join(&name).join(file), 4096).unwrap_or_default();
            let bound = if text("bind") == "1" { "bound" } else { "not bound" };
            self.put(format!("console {name}"), format!("{}, {bound}", text("name")));
        }
        self.file(root, "framebuffers", Path::new("/proc/fb"));
    }

    /// Pages that stay when they are free, of each node and size.
    fn memory(&mut self, root: &Root) {
        let nodes = Path::new("/sys/devices/system/node");
        for node in root.names(nodes).into_iter().filter(|name| name.starts_with("node")) {
            let pools = nodes.join(&node).join("hugepages");
            for pool in root.names(&pools) {
                let number = |file: &str| root.parse::<u64>(pools.join(&pool).join(file)).unwrap_or(0);
                let pages = number("nr_hugepages").saturating_sub(number("surplus_hugepages"));
                self.put(format!("{pool} of {node}"), pages.to_string());
            }
        }
    }

    /// Leases and the run directory.
    fn ours(&mut self, plan: &Plan) {
        let leases = plan.paths.run.parent().map(lease::folder).unwrap_or_default();
        for address in &plan.leases {
            if lease::path(&leases, *address).exists() {
                self.put(format!("lease of {address}"), "there");
            }
        }
        for entry in std::fs::read_dir(&plan.paths.run).into_iter().flatten().flatten() {
            self.put(format!("run directory's {}", entry.file_name().to_string_lossy()), "there");
        }
    }

    /// Our own open descriptors, by what they lead to.
    fn descriptors(&mut self) {
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for entry in std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
            let Ok(target) = std::fs::read_link(entry.path()) else { continue };
            // `socket:[4711]`: each has a number of its own.
            let target = target.to_string_lossy();
            *counts.entry(target.split_once(":[").map_or(&*target, |(kind, _)| kind).to_owned()).or_default() += 1;
        }
        for (target, count) in counts {
            self.put(format!("own descriptors of {target}"), count.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(things: &[(&str, &str)]) -> Look {
        Look(things.iter().map(|(what, value)| ((*what).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn what_is_gone_new_or_other_is_named_and_the_rest_is_not() {
        let before = look(&[("driver", "bochs-drm"), ("same", "1"), ("lease", "there")]);
        let after = look(&[("driver", "none"), ("same", "1"), ("module vfio_pci", "loaded"), ("module snd", "loaded")]);
        let leaks: Vec<String> = before
            .differences(&after)
            .filter(|difference| !difference.stays())
            .map(|difference| Leak { round: 3, side: Side::Home, difference }.to_string())
            .collect();
        assert_eq!(
            leaks,
            [
                "round 3 came back with driver: bochs-drm → none",
                "round 3 came back with lease: there → absent",
                "round 3 came back with module snd: absent → loaded",
            ]
        );
        assert_eq!(after.differences(&after).count(), 0);
        // A module that goes was somebody's.
        assert!(after.differences(&before).all(|difference| !difference.stays()));
    }

    #[test]
    fn a_function_is_looked_at_through_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let device = root.path("/sys/bus/pci/devices/0000:01:00.0");
        std::fs::create_dir_all(device.join("power")).unwrap();
        std::fs::write(device.join("power/control"), "auto\n").unwrap();
        let line = |start: u64, end: u64| format!("{start:#018x} {end:#018x} 0x0\n");
        std::fs::write(device.join("resource"), line(0xf000_0000, 0xf0ff_ffff) + &line(0, 0)).unwrap();
        std::os::unix::fs::symlink("../../drivers/bochs-drm", device.join("driver")).unwrap();
        let mut look = look(&[]);
        look.function(&root, "01:00.0".parse().unwrap());
        let seen: Vec<String> = look.0.into_iter().map(|(what, value)| format!("{what} = {value}")).collect();
        assert_eq!(
            seen,
            [
                "0000:01:00.0 driver = bochs-drm",
                "0000:01:00.0 power/control = auto",
                "0000:01:00.0 size of BAR 0 = 16777216",
            ]
        );
    }
}
