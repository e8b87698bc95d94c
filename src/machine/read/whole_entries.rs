//! What is told of a list or an entry as a whole, since its parts alone would each be told something else: numbers in place of
//! a CPU list, the two halves of a USB id, the parts of a PCI address.

use super::explain::Explain;
use super::refused::Refused;
use crate::machine::schema::Fields;

impl Explain<'_> {
    /// If the value that cannot be read is in a list of CPUs' numbers: how the list is written.
    pub(super) fn list_of_cpus(&self, field: &str, fields: &Fields) -> Option<Refused> {
        let list = field.split('[').next().filter(|list| *list != field)?;
        let takes =
            fields.takes(list).filter(|_| fields.takes(field).is_some_and(|takes| takes.contains("a CPU list")))?;
        let (_, inner) = self.entry(list)?.split_once('[')?;
        let inner: String = inner.strip_suffix(']')?.chars().filter(|c| !c.is_whitespace()).collect();
        let inner = inner.strip_suffix(',').unwrap_or(&inner);
        let number = |text: &str| text.parse::<u32>().is_ok();
        let help = match inner.split(',').all(number) {
            true => format!("write `{inner:?}` in place of the list"),
            false => {
                let pairs = inner.strip_prefix('(')?.strip_suffix(')')?.split("),(").map(|pair| pair.split_once(','));
                let cpu = |(vcpu, pair): (usize, Option<(&str, &'_ str)>)| {
                    let (first, cpu) = pair?;
                    (first.parse() == Ok(vcpu) && number(cpu)).then(|| format!("{cpu:?}"))
                };
                let cpus: Vec<String> = pairs.enumerate().map(cpu).collect::<Option<_>>()?;
                format!("write `[{}]`: the first entry is that of vCPU 0", cpus.join(", "))
            }
        };
        let head = self.lines.get(list)?.head;
        Some(self.refuse(head, list, format!("`{list}` is no list of numbers")).allowed(takes).help(help))
    }

    /// If this unknown field is half of a USB device's id: how the id is written.
    pub(super) fn halves_of_id(&self, found: &str, parent: &str) -> Option<Refused> {
        const HALVES: [[&str; 2]; 3] = [["vendor", "product"], ["vendor_id", "product_id"], ["vendorid", "productid"]];
        let names = HALVES.iter().find(|names| names.contains(&found)).filter(|_| parent.starts_with("usb["))?;
        let half = |name: &str| {
            let value = self.lines.get(&format!("{parent}.{name}"))?;
            let text = self.written(value.head).trim_matches('"').to_lowercase();
            let hex = text.strip_prefix("0x").unwrap_or(&text);
            u16::from_str_radix(hex, 16).ok().map(|half| format!("{half:04x}"))
        };
        let id = format!("{}:{}", half(names[0])?, half(names[1])?);
        let head = self.lines.get(parent)?.head;
        let message = format!("`{parent}` has no field `{found}`");
        Some(self.refuse(head, parent, message).help(format!("write `{id:?}` in place of the parentheses")))
    }

    /// If this unknown field is a part of a PCI address, as libvirt has them: how the address is written.
    pub(super) fn parts_of_address(&self, found: &str, parent: &str) -> Option<Refused> {
        if !parent.starts_with("pci[") || !["domain", "bus", "function"].contains(&found) {
            return None;
        }
        let part = |name: &str| {
            let value = self.lines.get(&format!("{parent}.{name}"))?;
            let text = self.written(value.head).trim_matches('"').to_lowercase();
            match text.strip_prefix("0x") {
                Some(hex) => u16::from_str_radix(hex, 16).ok(),
                None => text.parse().ok(),
            }
        };
        let (bus, slot, function) = (part("bus")?, part("slot")?, part("function")?);
        let domain =
            part("domain").filter(|domain| *domain > 0).map_or(String::new(), |domain| format!("{domain:04x}:"));
        let address = format!("{domain}{bus:02x}:{slot:02x}.{function:x}");
        let head = self.lines.get(parent)?.head;
        let message = format!("`{parent}` has no field `{found}`");
        let help = format!(
            "write `{address:?}` in place of the parentheses, or `\"{domain}{bus:02x}:{slot:02x}.*\"` for the whole card"
        );
        Some(self.refuse(head, parent, message).help(help))
    }

    /// The text of a field, with its name.
    fn entry(&self, field: &str) -> Option<&str> {
        self.lines.entry(self.text, field).map(|span| self.written(span))
    }
}
