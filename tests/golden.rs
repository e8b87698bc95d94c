//! Golden plans: machine files on captured hosts with recorded QEMUs, as text for people to review. The machines are
//! those of `machines/` and `tests/machines/`; `cargo insta review`, or `INSTA_UPDATE=always`, takes a change over.

#[path = "golden/all.rs"]
mod all;
#[path = "golden/cpus.rs"]
mod cpus;
#[path = "golden/input.rs"]
mod input;
#[path = "golden/new.rs"]
mod new;
#[path = "golden/placements.rs"]
mod placements;
#[path = "support/qmp_schema.rs"]
mod qmp_schema;
#[path = "golden/runs.rs"]
mod runs;
#[path = "golden/shapes.rs"]
mod shapes;
#[path = "golden/svg.rs"]
mod svg;
#[path = "golden/text.rs"]
mod text;

use std::collections::BTreeSet;

use vfio_run::plan::{Inherited, Plan, Verdict};
use vfio_run::qemu::QemuFacts;
use vfio_run::qemu::command::OptionValue;

use qmp_schema::Schema;

/// Machine, host and QEMU of each stored plan.
const CASES: &[(&str, &str, &str)] = &[
    ("demo", "container-2c", "7.2"),
    ("demo", "laptop-4c", "10.0"),
    ("linux", "laptop-4c", "7.2"),
    ("server", "ryzen-5800x3d", "10.0"),
    ("windows11", "ryzen-7950x3d", "7.2"),
    ("windows11", "ryzen-7950x3d", "10.0"),
    ("windows11", "core-i7-13700k", "7.2"),
    ("windows11-install", "core-i7-13700k", "7.2"),
    ("windows11-auto", "ryzen-7950x3d", "7.2"),
    ("windows11-auto", "laptop-4c", "10.0"),
    ("kernel", "debian12-lab", "7.2"),
    ("kernel", "epyc-9754x2-512", "10.0"),
    ("smallest", "laptop-4c", "7.2"),
    ("buses", "ryzen-5800x3d", "7.2"),
    ("buses", "epyc-9754x2-512", "10.0"),
    ("bridge", "xeon-2numa", "7.2"),
    ("networks", "xeon-2numa", "10.0"),
    ("bad-pins", "ryzen-1600", "7.2"),
    ("impossible", "container-2c", "7.2"),
    ("seed-13700k", "core-i7-13700k", "7.2"),
    ("seed-1600", "ryzen-1600", "7.2"),
    ("hugepages", "xeon-2numa", "7.2"),
    ("numa", "xeon-2numa", "10.0"),
    ("hooks", "laptop-4c", "7.2"),
    ("holds", "laptop-4c", "7.2"),
    ("only-gpu", "debian13-one-gpu", "10.0"),
    ("only-gpu", "debian13-desktop", "10.0"),
    ("second-gpu", "debian13-two-gpus", "7.2"),
    ("second-gpu", "debian13-two-gpus", "10.0"),
    ("single-gpu", "debian13-one-gpu", "10.0"),
    ("tuned", "laptop-4c", "7.2"),
    ("tuned", "xeon-2numa", "7.2"),
    ("vsock", "laptop-4c", "7.2"),
    ("slices", "debian13-two-gpus", "10.0"),
    ("sound", "debian13-desktop", "10.0"),
    ("everything", "debian13-desktop", "10.0"),
    ("screens", "laptop-4c", "7.2"),
    ("rendered", "debian13-desktop", "10.0"),
    ("bus", "laptop-4c", "7.2"),
    ("drives", "laptop-4c", "7.2"),
    ("identity", "laptop-4c", "10.0"),
    ("identity", "debian13-one-gpu", "7.2"),
    ("named", "laptop-4c", "7.2"),
    ("shares", "laptop-4c", "7.2"),
    ("shares", "xeon-2numa", "10.0"),
    ("parts", "laptop-4c", "10.0"),
    ("parts", "debian13-one-gpu", "7.2"),
    ("usb", "laptop-4c", "7.2"),
    ("forwards", "laptop-4c", "7.2"),
    ("memory", "xeon-2numa", "10.0"),
    ("memory", "laptop-4c", "7.2"),
    ("linux-install", "laptop-4c", "10.0"),
    ("i7-13700k-rtx4090", "core-i7-13700k", "7.2"),
    ("i7-13700k-rtx4090", "core-i7-13700k", "10.0"),
    ("i7-13700k-rtx4090-install", "core-i7-13700k", "10.0"),
    ("ryzen-1600af-rtx2060", "ryzen-1600af", "7.2"),
    ("ryzen-1600af-rtx2060", "ryzen-1600af", "10.0"),
    ("ryzen-1600af-rtx2060-install", "ryzen-1600af", "7.2"),
    ("ryzen-3900x-rtx3080", "ryzen-3900x", "7.2"),
    ("ryzen-3900x-rtx3080", "ryzen-3900x", "10.0"),
    ("ryzen-3900x-rtx3080-install", "ryzen-3900x", "7.2"),
    ("ryzen-3700x-rx6900xt", "ryzen-3700x", "7.2"),
    ("ryzen-3700x-rx6900xt", "ryzen-3700x", "10.0"),
    ("ryzen-3700x-rx6900xt-install", "ryzen-3700x", "10.0"),
    ("i7-8700k-gtx1070", "core-i7-8700k", "7.2"),
    ("i7-8700k-gtx1070", "core-i7-8700k", "10.0"),
    ("i7-8700k-gtx1070-install", "core-i7-8700k", "7.2"),
    ("gpu-server", "ryzen-3900x", "10.0"),
];

#[test]
fn plans_are_as_reviewed() {
    for (machine, host, qemu) in CASES {
        let plan = input::Inputs::new(machine, host, qemu).plan();
        insta::with_settings!({
            snapshot_path => "golden/plans",
            prepend_module_to_snapshot => false,
            omit_expression => true,
        }, {
            insta::assert_snapshot!(format!("{machine}@{host}@{qemu}"), text::of(&plan));
        });
    }
}

#[test]
fn placements_are_as_reviewed() {
    insta::with_settings!({
        snapshot_path => "golden/plans",
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        insta::assert_snapshot!("placements", placements::all());
    });
}

#[test]
fn pictures_of_cpus_are_as_reviewed() {
    insta::with_settings!({
        snapshot_path => "golden/plans",
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        insta::assert_snapshot!("cpus", cpus::terminal());
        insta::assert_snapshot!("cpus.svg", cpus::drawn());
    });
}

#[test]
fn reports_of_runs_are_as_reviewed() {
    insta::with_settings!({
        snapshot_path => "golden/plans",
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        insta::assert_snapshot!("reports", runs::terminal());
    });
}

#[test]
fn a_plan_as_json_is_as_reviewed() {
    let plan = input::Inputs::new("kernel", "debian12-lab", "7.2").plan();
    insta::with_settings!({
        snapshot_path => "golden/plans",
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        insta::assert_json_snapshot!("kernel@debian12-lab@7.2.json", plan);
    });
}

/// The names of all fields of a machine file.
fn fields(schema: &serde_json::Value, into: &mut BTreeSet<String>) {
    match schema {
        serde_json::Value::Array(items) => items.iter().for_each(|item| fields(item, into)),
        serde_json::Value::Object(map) => {
            let names = map.get("properties").and_then(serde_json::Value::as_object);
            // Those of variants are none.
            let names =
                names.into_iter().flat_map(|names| names.keys()).filter(|name| !name.starts_with(char::is_uppercase));
            into.extend(names.cloned());
            map.values().for_each(|value| fields(value, into));
        }
        _ => {}
    }
}

/// The field that a text begins with: `memory` of `memory: (size: …)`, none of `nested=1`.
fn field_in(text: &str) -> &str {
    let name = text.split(|c: char| !c.is_ascii_lowercase() && c != '_').next().unwrap();
    if text[name.len()..].starts_with(['.', '[', ':']) || name == text { name } else { "" }
}

#[test]
fn what_is_to_be_corrected_in_the_file_has_a_place_there() {
    let mut known = BTreeSet::new();
    fields(&vfio_run::machine::schema(), &mut known);
    each(|case, plan, _, _| {
        for finding in plan.findings.iter().filter(|finding| finding.ok == Verdict::No) {
            let remedy = finding.remedy.as_deref().unwrap_or_default();
            // What is quoted is a field, what to write there, or a command.
            let quoted = remedy.split('`').skip(1).step_by(2);
            let named = quoted.map(field_in).find(|name| known.contains(*name));
            let (key, origin) = (&finding.key, &finding.origin);
            assert!(named.is_none() || origin.is_some(), "{case}: {key} names no field, its remedy does: {remedy}");
        }
    });
}

/// Runs for every machine on every host with every QEMU.
fn each(mut check: impl FnMut(&str, &Plan, &QemuFacts, &Schema<'_>)) {
    for name in all::qemus() {
        let (qemu, schema) = (input::qemu(&name), all::schema(&name));
        let schema = Schema::of(&schema);
        for host_name in all::hosts() {
            let host = input::host(&host_name);
            for machine in all::machines() {
                let plan = input::Inputs::of(&machine, host.clone(), qemu.clone()).plan();
                check(&format!("{machine} on {host_name} with {name}"), &plan, &qemu, &schema);
            }
        }
    }
}

#[test]
fn every_json_option_is_one_that_the_qemu_takes() {
    each(|case, plan, _, schema| {
        for option in &plan.command.options {
            let OptionValue::Json(object) = &option.value else { continue };
            let command = match option.name.as_str() {
                "-blockdev" => "blockdev-add",
                "-object" => "object-add",
                "-netdev" => "netdev_add",
                "-device" => "device_add",
                // No commands of QMP.
                "-audiodev" | "-display" => continue,
                other => panic!("{case}: {other} takes no JSON"),
            };
            let value = serde_json::Value::Object(object.clone());
            // What the plan refuses anyway may be unknown to QEMU too.
            let refused = plan.findings.iter().any(|finding| finding.blocks());
            if let Err(error) = schema.check(command, &value)
                && !refused
            {
                panic!("{case}: {error} in {value}");
            }
        }
    });
}

#[test]
fn every_device_property_is_one_that_the_driver_has() {
    let mut seen = BTreeSet::new();
    each(|case, plan, qemu, _| {
        for option in plan.command.options.iter().filter(|option| option.name == "-device") {
            // Not JSON: the user's own, unchecked.
            let OptionValue::Json(object) = &option.value else { continue };
            let driver = object["driver"].as_str().unwrap();
            if !plan.findings.iter().any(|finding| finding.blocks()) {
                seen.insert(driver.to_owned());
            }
            let Some(known) = qemu.devices.get(driver).filter(|known| !known.is_empty()) else { continue };
            for key in object.keys().filter(|key| !matches!(key.as_str(), "driver" | "id" | "bus")) {
                assert!(known.contains(key), "{case}: {driver} has no {key}");
            }
        }
    });
    // Some host has what the machines with devices want.
    assert!(seen.contains("vfio-pci"), "{seen:?}");
}

#[test]
fn every_plan_holds_together() {
    each(|case, plan, _, _| {
        let json = serde_json::to_string(plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), *plan, "{case}: JSON and back");

        let fds: Vec<i32> = plan.descriptors.iter().map(|descriptor| descriptor.fd).collect();
        assert_eq!(fds, (3..3 + fds.len() as i32).collect::<Vec<_>>(), "{case}: descriptors without gaps");
        for fd in fds {
            let own = format!("/proc/self/fd/{fd}");
            let by_path = plan.command.options.iter().filter(|o| {
                !o.fds().contains(&fd) && o.value.written().is_some_and(|v| v.contains(&format!("{own}\"")))
            });
            let by_number = plan.command.options.iter().filter(|option| option.fds().contains(&fd));
            let by_variable = plan.environment.iter().filter(|variable| variable.value == own);
            let by_link = plan.links.iter().filter(|link| link.fd == fd);
            let uses = by_number.count() + by_path.count() + by_variable.count() + by_link.count();
            assert_eq!(uses, 1, "{case}: descriptor {fd} is used once");
        }
        for helper in &plan.helpers {
            let joined = plan.descriptors.iter().any(|d| d.what == Inherited::Helper(helper.name.clone()));
            assert!(joined, "{case}: {} has its socket", helper.name);
        }

        let mut ids = BTreeSet::new();
        for option in &plan.command.options {
            let OptionValue::Json(object) = &option.value else { continue };
            // A network card and its backend may share a name: they are of two kinds.
            if let Some(id) = object.get("id").and_then(serde_json::Value::as_str) {
                assert!(ids.insert((option.name.clone(), id.to_owned())), "{case}: id {id} twice");
            }
        }

        let keys: Vec<&str> = plan.findings.iter().map(|finding| finding.key.as_str()).collect();
        let unique: BTreeSet<&str> = keys.iter().copied().collect();
        assert_eq!(keys.len(), unique.len(), "{case}: each finding once: {keys:?}");
        if keys.iter().all(|key| *key != "cpu.topology") {
            assert_eq!(plan.placement.topology.vcpus(), Some(plan.placement.vcpus.len() as u32), "{case}: topology");
        }
    });
}
