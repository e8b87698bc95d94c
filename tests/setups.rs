//! Nothing of five setups that people run with libvirt, hook scripts and boot parameters is lost in their machine files.
//!
//! `tests/setups/` has a table for each file in `machines/`: its settings one by one, and what of the plan on the setup's
//! host carries each, or why it is not wanted. A setting is found in the plan; and it is lost if the field that it comes
//! from is taken out of the machine file, unless the table says that every machine has it.

#[path = "setups/carried.rs"]
mod carried;
#[path = "setups/import.rs"]
mod import;
#[path = "golden/input.rs"]
mod input;
#[path = "setups/libvirt.rs"]
mod libvirt;
#[path = "setups/model.rs"]
mod model;
#[path = "setups/mutants.rs"]
mod mutants;
#[path = "setups/table.rs"]
mod table;
#[path = "setups/words.rs"]
mod words;

use std::path::Path;

use vfio_run::machine;
use vfio_run::plan::Plan;

use input::Inputs;
use table::Row;

/// Each machine and its host.
const SETUPS: &[(&str, &str)] = &[
    ("i7-13700k-rtx4090", "core-i7-13700k"),
    ("ryzen-1600af-rtx2060", "ryzen-1600af"),
    ("ryzen-3900x-rtx3080", "ryzen-3900x"),
    ("ryzen-3700x-rx6900xt", "ryzen-3700x"),
    ("i7-8700k-gtx1070", "core-i7-8700k"),
];

/// The plan of a machine file with this text; `None` if that is no machine.
fn plan(name: &str, text: &str, host: &str) -> Option<Plan> {
    let source = machine::parse(&Path::new("/machines").join(name).with_extension("ron"), text).ok()?;
    Some(Inputs::from(source, input::host(host), input::qemu("10.0")).plan())
}

fn text(name: &str) -> String {
    std::fs::read_to_string(input::root().join("machines").join(name).with_extension("ron")).unwrap()
}

#[test]
fn every_setting_is_carried_or_not_wanted() {
    for (name, host) in SETUPS {
        let rows = table::read(name);
        assert!(rows.len() >= 30, "{name}: {} settings", rows.len());
        for qemu in ["7.2", "10.0"] {
            let plan = Inputs::new(name, host, qemu).plan();
            let blocking: Vec<_> = plan.findings.iter().filter(|finding| finding.blocks()).collect();
            assert!(blocking.is_empty(), "{name} on {host} with {qemu}: {blocking:?}");
            let lost: Vec<&Row> = rows.iter().filter(|row| !row.is_carried(&plan)).collect();
            assert!(lost.is_empty(), "{name} on {host} with {qemu} has lost:\n{lost:#?}");
        }
    }
}

#[test]
fn a_setting_is_lost_with_the_field_that_it_comes_from() {
    let mut wrong = String::new();
    for (name, host) in SETUPS {
        let rows = table::read(name);
        let mutants = mutants::of(&text(name)).into_iter();
        let plans: Vec<(String, Plan)> =
            mutants.filter_map(|mutant| Some((mutant.without, plan(name, &mutant.text, host)?))).collect();
        assert!(plans.len() > 10, "{name}: {} mutants", plans.len());
        for row in rows.iter().filter(|row| row.is_wanted()) {
            match plans.iter().find(|(_, plan)| !row.is_carried(plan)) {
                None if !row.every => wrong += &format!("{name}: no field brings this: {row:?}\n"),
                Some((without, _)) if row.every => wrong += &format!("{name}: lost without {without}: {row:?}\n"),
                _ => {}
            }
        }
        // Nor does the file say what no setting needs.
        let idle = plans.iter().filter(|(_, plan)| rows.iter().all(|row| row.is_carried(plan)));
        idle.for_each(|(without, _)| wrong += &format!("{name}: no setting is lost without {without}\n"));
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}
