//! What a unit of systemd's for a machine must be, so that the CPUs of its vCPUs can become the machine's own.

use serde::{Deserialize, Serialize};

use crate::host::Cpusets;
use crate::machine::{Isolate, Machine};

/// The slice at the top that is the machine's own, with no other. A `-` in its name would put it below another one
/// (systemd.slice(5)).
pub fn own_slice(machine: &str) -> String {
    format!("vfiorun{}.slice", machine.replace('-', "\\x2d"))
}

/// What a unit for a machine must be, so that the machine's CPUs can become its own there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitGroup {
    /// The slice that it is in; `None`: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<String>,
    /// Whether it may divide its CPUs.
    #[serde(default)]
    pub divided: bool,
}

impl UnitGroup {
    /// That of this machine on a host with these cpusets.
    pub fn of(machine: &Machine, cpusets: Option<&Cpusets>) -> Self {
        let any = Self::of_any(cpusets);
        let sliced = match machine.host.isolate {
            Some(Isolate::Slices) => cpusets.is_some_and(|cpusets| cpusets.offered),
            Some(Isolate::Partition) => !any.divided,
            Some(Isolate::None) | None => false,
        };
        if sliced { Self { slice: Some(own_slice(&machine.name)), divided: false } } else { any }
    }

    /// That of a machine that says nothing of it. Before Linux 6.7 no unit divides its CPUs, and if it may, systemd switches the
    /// controller on and off for the whole host with it, for which the kernel forgets every thread's own CPUs.
    pub fn of_any(cpusets: Option<&Cpusets>) -> Self {
        Self { slice: None, divided: !cpusets.is_some_and(|cpusets| cpusets.offered && !cpusets.exclusive) }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::machine;

    #[test]
    fn a_unit_is_in_a_slice_of_its_own_if_it_cannot_divide_its_cpus() {
        let of = |host: &str, offered: bool, exclusive: bool| {
            let text = format!("(name: \"a-b\", guest: Other, memory: (size: \"1 GiB\"), host: ({host}))");
            let machine = machine::parse(Path::new("m.ron"), &text).unwrap().machine;
            let group = UnitGroup::of(&machine, Some(&Cpusets { offered, exclusive, ..Cpusets::default() }));
            (group.slice, group.divided)
        };
        let own = Some("vfioruna\\x2db.slice".to_owned());
        // The machine file, whether the kernel is older than 6.7, the unit.
        for (host, is_old, expected) in [
            ("", false, (None, true)),
            ("", true, (None, false)),
            ("isolate: None", true, (None, false)),
            ("isolate: Partition", false, (None, true)),
            ("isolate: Partition", true, (own.clone(), false)),
            ("isolate: Slices", false, (own.clone(), false)),
            ("isolate: Slices", true, (own.clone(), false)),
        ] {
            assert_eq!(of(host, true, !is_old), expected, "{host} {is_old}");
        }
        // A host that offers none, or that nobody has asked.
        assert_eq!(of("isolate: Slices", false, false), (None, true));
    }
}
