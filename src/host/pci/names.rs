//! Names of PCI devices, from the list that the distribution keeps (package `pci.ids` or `hwdata`).

use std::collections::{BTreeMap, BTreeSet};

use super::function::PciFunction;
use crate::host::Root;
use crate::units::{PciIds, printable};

/// Where distributions keep the list.
const LISTS: [&str; 3] = ["/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids", "/usr/share/pci.ids"];
/// Three times its size.
const MAX_LIST: usize = 4 << 20;

/// The names of those devices and classes that were asked for.
#[derive(Debug, Clone, Default)]
pub struct Names {
    vendors: BTreeMap<u16, String>,
    devices: BTreeMap<PciIds, String>,
    classes: BTreeMap<u32, String>,
}

impl Names {
    /// Looks up what these functions are; whatever is not in the list stays without a name.
    pub fn of<'a>(root: &Root, functions: impl IntoIterator<Item = &'a PciFunction>) -> Self {
        let (mut ids, mut classes) = (BTreeSet::new(), BTreeSet::new());
        for function in functions {
            ids.insert(function.ids);
            classes.insert(function.class >> 8);
        }
        let text = LISTS.iter().find_map(|path| root.text_up_to(path, MAX_LIST)).unwrap_or_default();
        Self::parse(&text, &ids, &classes)
    }

    /// Vendors begin at the margin, their devices after one tab; `C 03` begins a class, its subclasses after one tab.
    fn parse(text: &str, ids: &BTreeSet<PciIds>, classes: &BTreeSet<u32>) -> Self {
        enum Under {
            Nothing,
            Vendor(u16),
            Class(u32),
        }
        let mut names = Self::default();
        let mut under = Under::Nothing;
        // A comment may stand anywhere, also between a vendor and its devices.
        for line in text.lines().filter(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty()) {
            let entry = |line: &str, digits: usize| {
                let (number, name) = line.split_at_checked(digits)?;
                Some((u32::from_str_radix(number, 16).ok()?, name.strip_prefix("  ")?.to_owned()))
            };
            if let Some(line) = line.strip_prefix('\t') {
                match under {
                    Under::Vendor(vendor) => {
                        if let Some((device, name)) = entry(line, 4) {
                            let ids_of_line = PciIds { vendor, device: device as u16 };
                            if ids.contains(&ids_of_line) {
                                names.devices.insert(ids_of_line, printable(&name));
                            }
                        }
                    }
                    Under::Class(class) => {
                        if let Some((sub, name)) = entry(line, 2)
                            && classes.contains(&(class << 8 | sub))
                        {
                            names.classes.insert(class << 8 | sub, printable(&name));
                        }
                    }
                    Under::Nothing => {}
                }
            } else if let Some(line) = line.strip_prefix("C ") {
                under = entry(line, 2).map_or(Under::Nothing, |(class, _)| Under::Class(class));
            } else if let Some((vendor, name)) = entry(line, 4) {
                let vendor = vendor as u16;
                let wanted = ids.range(PciIds { vendor, device: 0 }..).next().is_some_and(|ids| ids.vendor == vendor);
                under = if wanted { Under::Vendor(vendor) } else { Under::Nothing };
                if wanted {
                    names.vendors.insert(vendor, printable(&name));
                }
            } else {
                under = Under::Nothing;
            }
        }
        names
    }

    /// What the function is called: `NVIDIA Corporation AD102 [GeForce RTX 4090]`, else its ids.
    pub fn device(&self, function: &PciFunction) -> String {
        let vendor = self.vendors.get(&function.ids.vendor);
        let device = self.devices.get(&function.ids);
        match (vendor, device) {
            (Some(vendor), Some(device)) => format!("{vendor} {device}"),
            (Some(vendor), None) => format!("{vendor} {:04x}", function.ids.device),
            _ => function.ids.to_string(),
        }
    }

    /// What kind it is: `VGA compatible controller`; the commonest are known without the list.
    pub fn class(&self, function: &PciFunction) -> String {
        let class = function.class >> 8;
        let known = match class {
            0x0107 | 0x0106 => "SATA controller",
            0x0108 => "NVMe",
            0x0200 => "Ethernet controller",
            0x0280 => "network controller",
            0x0300 => "VGA card",
            0x0302 => "3D controller",
            0x0380 => "display controller",
            0x0403 => "audio device",
            0x0600 => "host bridge",
            0x0601 => "ISA bridge",
            0x0604 => "PCI bridge",
            0x0c03 => "USB controller",
            _ => "",
        };
        match self.classes.get(&class) {
            _ if !known.is_empty() => known.to_owned(),
            Some(name) => name.clone(),
            None => format!("class {class:04x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_or_an_empty_line_ends_no_vendor() {
        let text = "# the list\n\n10de  NVIDIA Corporation\n\t0020  NV4\n# generation\n\t# nvidia\n\n\t2684  AD102\n\
                    1002  AMD\n#\n\t73bf  Navi 21\nC 03  Display controller\n#\n\t02  3D controller\n";
        let ids = |text: &str| text.parse::<PciIds>().unwrap();
        let names = Names::parse(text, &[ids("10de:2684"), ids("1002:73bf")].into(), &[0x0302].into());
        let devices: Vec<_> = names.devices.values().map(String::as_str).collect();
        assert_eq!(devices, ["Navi 21", "AD102"]);
        assert_eq!(names.classes[&0x0302], "3D controller");
    }

    #[test]
    fn a_terminal_obeys_no_name() {
        let ids: PciIds = "10de:2684".parse().unwrap();
        let names = Names::parse("10de  NV\u{1b}[2J\n\t2684  AD\u{7f}102\n", &[ids].into(), &[].into());
        assert_eq!((names.vendors[&0x10de].as_str(), names.devices[&ids].as_str()), ("NV\u{fffd}[2J", "AD\u{fffd}102"));
    }
}
