//! The interrupts that came to some CPUs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::host::Root;
use crate::units::{CpuSet, printable};

/// 512 CPUs with 2000 interrupts make 12 MiB.
const LIMIT: usize = 64 << 20;

/// An interrupt.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Interrupt {
    /// Whose it is, as the kernel describes it: `nvme0q1`, `Local timer interrupts`.
    pub name: String,
    /// How often it came to the CPUs.
    pub count: u64,
}

/// Those that came to these CPUs, by their names in the first column: `134`, `LOC`.
pub(super) fn on(root: &Root, cpus: &CpuSet) -> BTreeMap<String, Interrupt> {
    parse(&root.text_up_to("/proc/interrupts", LIMIT).unwrap_or_default(), cpus)
}

fn parse(text: &str, cpus: &CpuSet) -> BTreeMap<String, Interrupt> {
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let columns: Vec<Option<u32>> =
        head.split_ascii_whitespace().map(|name| name.strip_prefix("CPU")?.parse().ok()).collect();
    let mut found = BTreeMap::new();
    for line in lines {
        let Some((id, rest)) = line.split_once(':') else { continue };
        let mut words = rest.split_ascii_whitespace();
        let counts: Vec<u64> = words.by_ref().take(columns.len()).map_while(|word| word.parse().ok()).collect();
        // `ERR` and `MIS` have one number for all CPUs.
        if counts.len() < columns.len() {
            continue;
        }
        let ours = counts.iter().zip(&columns).filter(|(_, cpu)| cpu.is_some_and(|cpu| cpus.contains(cpu)));
        let count = ours.fold(0, |sum: u64, (count, _)| sum.saturating_add(*count));
        if count > 0 {
            let words: Vec<&str> = words.collect();
            // Of a device's, the last word is who handles it; before it are the chip, the number there, and the trigger.
            let name = match id.trim().parse::<u32>() {
                Ok(_) => words.last().copied().unwrap_or_default().to_owned(),
                Err(_) => words.join(" "),
            };
            found.insert(id.trim().to_owned(), Interrupt { name: printable(&name), count });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_columns_of_the_cpus_count() {
        let text = "            CPU0       CPU2       CPU3\n\
                    \x20  8:          1          0          0  IR-IO-APIC    8-edge      rtc0\n\
                    \x20134:          7          5          6  IR-PCI-MSI-0000:01:00.0    0-edge      nvme0q1\n\
                    \x20LOC:        100         20         30   Local timer interrupts\n\
                    \x20ERR:          3\n\
                    nonsense\n";
        let found = parse(text, &"2-3".parse().unwrap());
        let names: Vec<_> = found.iter().map(|(id, one)| (id.as_str(), one.name.as_str(), one.count)).collect();
        assert_eq!(names, [("134", "nvme0q1", 11), ("LOC", "Local timer interrupts", 50)]);
        assert_eq!(parse("", &"0".parse().unwrap()).len(), 0);
    }
}
