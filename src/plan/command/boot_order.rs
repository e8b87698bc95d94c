//! The order in which the guest tries what it can boot from: disks and devices of the host share one row of numbers.

use std::collections::{BTreeMap, BTreeSet};

use crate::machine::{Machine, PciDevice, Property};
use crate::plan::Severity::Hard;
use crate::plan::devices::{Devices, Given};
use crate::plan::draft::Draft;

/// Who has which number; what has none is not booted from.
#[derive(Debug, PartialEq)]
pub(super) struct BootOrder {
    /// Of each disk.
    pub disks: Vec<Option<u32>>,
    /// Of entries of `pci`, by their index. A number among an entry's `properties` is not listed.
    pub pci: BTreeMap<usize, u32>,
}

/// Numbers that the file has stay; disks get the free ones first, then the entries of `pci` that are `drives`. These only if
/// anything has a number: without one the firmware tries all that there is.
pub(super) fn choose(machine: &Machine, drives: &[usize]) -> BootOrder {
    let of_pci = machine.pci.iter().filter_map(|entry| entry.boot.or_else(|| raw(entry)));
    let taken: BTreeSet<u32> = machine.disks.iter().filter_map(|disk| disk.boot).chain(of_pci).collect();
    let mut free = (1..).filter(|number| !taken.contains(number));
    let mut place = |written: Option<u32>, default: bool| match written {
        Some(0) => None,
        Some(number) => Some(number),
        None if default => free.next(),
        None => None,
    };
    let disks: Vec<Option<u32>> = machine.disks.iter().map(|disk| place(disk.boot, true)).collect();
    let any = disks.iter().any(Option::is_some) || taken.iter().any(|number| *number > 0);
    let pci = machine.pci.iter().enumerate().filter(|(_, entry)| raw(entry).is_none());
    let pci = pci.filter_map(|(i, entry)| Some((i, place(entry.boot, any && drives.contains(&i))?)));
    let pci = pci.collect();
    BootOrder { disks, pci }
}

/// The number among the properties of an entry of `pci`.
fn raw(entry: &PciDevice) -> Option<u32> {
    match entry.properties.get("bootindex")? {
        Property::Number(number) => u32::try_from(*number).ok(),
        Property::Text(text) => text.parse().ok(),
        Property::Switch(_) => None,
    }
}

/// The functions that are booted from, each with its number: of each entry that has one the first function that a firmware
/// can boot from.
pub(super) fn of_devices<'d>(draft: &mut Draft, devices: &'d Devices<'_>) -> Vec<(&'d Given<'d>, u32)> {
    let of_entry = |i: usize| devices.given.iter().filter(move |given| given.index == i);
    let drives: Vec<usize> = (0..draft.machine.pci.len()).filter(|i| of_entry(*i).any(|g| is_storage(g))).collect();
    let order = choose(draft.machine, &drives);
    check(draft, devices);
    let chosen = order.pci.into_iter().filter_map(|(i, number)| {
        let given = of_entry(i).find(|given| is_bootable(given)).or_else(|| of_entry(i).next())?;
        Some((given, number))
    });
    chosen.collect()
}

/// A controller of disks (class 01).
fn is_storage(given: &Given) -> bool {
    given.function.class >> 16 == 0x01
}

/// Disks, a network card (class 02), a USB controller (0c03).
pub(super) fn is_bootable(given: &Given) -> bool {
    is_storage(given) || given.function.class >> 16 == 0x02 || given.function.class >> 8 == 0x0c03
}

/// QEMU takes each number once.
fn check(draft: &mut Draft, devices: &Devices) {
    let mut seen: BTreeMap<u32, String> = BTreeMap::new();
    let disks = draft.machine.disks.iter().enumerate();
    for (number, i) in disks.filter_map(|(i, disk)| Some((disk.boot.filter(|number| *number > 0)?, i))) {
        seen.insert(number, format!("disks[{i}].boot"));
    }
    let pci: &[PciDevice] = &draft.machine.pci;
    for (i, entry) in pci.iter().enumerate() {
        let (number, field, functions) = match (entry.boot, raw(entry)) {
            (_, Some(number)) => {
                let functions = devices.given.iter().filter(|given| given.index == i).count();
                (number, format!("pci[{i}].properties.bootindex"), functions)
            }
            (Some(number), None) if number > 0 => (number, format!("pci[{i}].boot"), 1),
            _ => continue,
        };
        let key = format!("pci.boot{number}");
        if functions > 1 {
            let detail = format!("`{field}` is for {functions} functions, and QEMU takes each boot number once");
            draft.no(&key, Hard, detail, &format!("write `boot: {number}` in `pci[{i}]` in its place"));
            draft.about(&field);
        } else if let Some(other) = seen.insert(number, field.clone()) {
            let detail = format!("`{field}` and `{other}` are both {number}, and QEMU takes each boot number once");
            draft.no(&key, Hard, detail, "correct one of them");
            draft.about(&field);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::host::Pci;
    use crate::host::pci::{Details, PciFunction};
    use crate::plan::sample;

    fn function(address: &str, class: u32) -> PciFunction {
        PciFunction {
            address: address.parse().unwrap(),
            ids: "144d:a80c".parse().unwrap(),
            subsystem: None,
            class,
            driver: Some("vfio-pci".to_owned()),
            group: None,
            port: None,
            details: Some(Box::<Details>::default()),
        }
    }

    /// Each device that has a number, and the findings about it.
    fn order(fields: &str) -> (Vec<String>, Vec<String>) {
        let mut host = sample::host(sample::Shape::simple(4, 2));
        let functions = vec![
            function("01:00.0", 0x03_0000),
            function("01:00.2", 0x0c_0330),
            function("02:00.0", 0x01_0802),
            function("03:00.0", 0x02_0000),
        ];
        host.pci = Some(Pci { functions, ..Pci::default() });
        let plan = sample::plan(&format!(r#"(guest: Linux, memory: (size: "1 GiB"), {fields})"#), &host);
        let words = plan.command.argv();
        let number = |word: &String| {
            let device: serde_json::Value = serde_json::from_str(word).ok()?;
            Some(format!("{} {}", device["id"].as_str()?, device.get("bootindex")?))
        };
        let findings = plan.findings.into_iter().filter(|f| f.key.starts_with("pci.boot") && f.blocks());
        (words.iter().filter_map(number).collect(), findings.map(|f| f.detail).collect())
    }

    const NONE: [&str; 0] = [];

    #[test]
    fn drives_of_the_hosts_come_after_the_disks_and_others_when_they_are_asked_for() {
        let (found, wrong) = order(r#"disks: [(file: "/a.raw")], pci: ["01:00.*", "02:00.0", "03:00.0"]"#);
        assert_eq!((found, wrong.len()), (vec!["disk0 1".to_owned(), "pci-02-00-0 2".to_owned()], 0));
        let (found, _) = order(
            r#"disks: [(file: "/a.raw"), (file: "/b.raw", boot: 0)],
               pci: [(address: "01:00.*", boot: 1), "02:00.0", (address: "03:00.0", boot: 7)]"#,
        );
        // The USB controller of the card, not its screen.
        assert_eq!(found, ["disk0 2", "pci-01-00-2 1", "pci-02-00-0 3", "pci-03-00-0 7"]);
        assert_eq!(order(r#"disks: [(file: "/a.raw")], pci: [(address: "02:00.0", boot: 0)]"#).0, ["disk0 1"]);
    }

    #[test]
    fn without_any_number_the_firmware_tries_all() {
        assert_eq!(order(r#"pci: ["01:00.*", "02:00.0", "03:00.0"]"#).0, NONE);
        assert_eq!(order(r#"pci: ["02:00.0", (address: "03:00.0", boot: 1)]"#).0, ["pci-02-00-0 2", "pci-03-00-0 1"]);
    }

    #[test]
    fn numbers_among_the_properties_count() {
        let (found, wrong) =
            order(r#"disks: [(file: "/a.raw")], pci: [(address: "02:00.0", properties: {"bootindex": 1}), "03:00.0"]"#);
        assert_eq!((found, wrong.len()), (vec!["disk0 2".to_owned(), "pci-02-00-0 1".to_owned()], 0));
        let (_, wrong) = order(r#"disks: [(file: "/a.raw", boot: 3)], pci: [(address: "02:00.0", boot: 3)]"#);
        assert_eq!(wrong, ["`pci[0].boot` and `disks[0].boot` are both 3, and QEMU takes each boot number once"]);
        let (_, wrong) =
            order(r#"pci: [(address: "02:00.0", boot: 3), (address: "03:00.0", properties: {"bootindex": "3"})]"#);
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        let (_, wrong) = order(r#"pci: [(address: "01:00.*", properties: {"bootindex": 1})]"#);
        assert_eq!(wrong, ["`pci[0].properties.bootindex` is for 2 functions, and QEMU takes each boot number once"]);
    }
}
