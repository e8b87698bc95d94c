//! The command lines of the setups in `machines/`, as planned on their recorded hosts, in a trial: without the devices of a
//! host, and emulated.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use vfio_run::change::StopUnit;
use vfio_run::plan::{self, Inherited, Keep, Plan, PlannedChange, Trial};
use vfio_run::qemu::KvmTrial::Run;
use vfio_run::qemu::QemuFacts;
use vfio_run::qemu::command::OptionValue;
use vfio_run::units::Origin;

#[allow(dead_code, reason = "tests that need no host of their own make inputs by name")]
#[path = "../golden/input.rs"]
pub mod input;

/// Machines and their hosts.
const SETUPS: &[(&str, &str)] = &[
    ("i7-13700k-rtx4090", "core-i7-13700k"),
    ("i7-13700k-rtx4090-install", "core-i7-13700k"),
    ("ryzen-1600af-rtx2060", "ryzen-1600af"),
    ("ryzen-1600af-rtx2060-install", "ryzen-1600af"),
    ("ryzen-3900x-rtx3080", "ryzen-3900x"),
    ("ryzen-3900x-rtx3080-install", "ryzen-3900x"),
    ("ryzen-3700x-rx6900xt", "ryzen-3700x"),
    ("ryzen-3700x-rx6900xt-install", "ryzen-3700x"),
    ("i7-8700k-gtx1070", "core-i7-8700k"),
    ("i7-8700k-gtx1070-install", "core-i7-8700k"),
];

#[test]
fn qemu_takes_the_setups() {
    for qemu in super::qemus() {
        let folder = tempfile::tempdir().unwrap();
        let facts = QemuFacts::of(&qemu, Some(folder.path()), Run).unwrap();
        for (name, host) in SETUPS {
            let case = format!("{name} on {host} with {}", facts.version);
            let folder = tempfile::tempdir().unwrap();
            let mut host = input::host(host);
            host.kvm.exists = false;
            host.process.run_dir = folder.path().join("run/vfio-run");
            host.process.state_dir = folder.path().join("state");
            let mut plan = input::Inputs::of(name, host, facts.clone()).plan();
            let change = StopUnit { unit: "sddm.service".to_owned() }.into();
            plan.changes.push(PlannedChange { change, origin: Origin::Default("a test".to_owned()), optional: false });
            here(&mut plan, folder.path());
            let mut trial = plan::trial(&plan).unwrap();
            emulated(&mut trial);
            super::judge(&case, &plan, &trial);
        }
    }
}

/// Has the plan's files in this folder, and what the setup's host alone can tell nowhere.
pub fn here(plan: &mut Plan, folder: &Path) {
    let images = images(plan);
    let templates = std::mem::take(&mut plan.keep);
    plan.descriptors.retain(|descriptor| !matches!(descriptor.what, Inherited::Content(_)));
    for descriptor in &mut plan.descriptors {
        let Inherited::File(opened) = &mut descriptor.what else { continue };
        if opened.path.starts_with("/usr") && opened.path.exists() {
            continue;
        }
        let at = folder.join(format!("file-{}", descriptor.fd));
        let template = templates.iter().find_map(|keep| match keep {
            Keep::Copy { from, to } if *to == opened.path => Some(from),
            _ => None,
        });
        if let Some(template) = template {
            fs::copy(template, &at).unwrap();
        } else if images.contains(&format!("/dev/fdset/{}", descriptor.fd)) {
            let made = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&at).arg("1M").status();
            assert!(made.unwrap().success());
        } else {
            File::create(&at).unwrap().set_len(1 << 20).unwrap();
        }
        opened.path = at;
    }
}

/// The files, as QEMU has them, that are qcow2.
fn images(plan: &Plan) -> Vec<String> {
    let nodes = || {
        plan.command.options.iter().filter_map(|option| match &option.value {
            OptionValue::Json(object) if option.name == "-blockdev" => Some(object),
            _ => None,
        })
    };
    let word = |object: &serde_json::Map<String, serde_json::Value>, key: &str| {
        object.get(key).and_then(|value| value.as_str()).map(str::to_owned)
    };
    let below = nodes().filter(|object| word(object, "driver").as_deref() == Some("qcow2"));
    let below: Vec<Option<String>> = below.map(|object| word(object, "file")).collect();
    nodes()
        .filter(|object| below.contains(&word(object, "node-name")))
        .filter_map(|object| word(object, "filename"))
        .collect()
}

/// Replaces what an emulated guest on a host without these devices cannot have.
pub fn emulated(trial: &mut Trial) {
    // Files of the host's own tables.
    trial.command.options.retain(|option| option.name != "-smbios");
    for option in &mut trial.command.options {
        match &mut option.value {
            OptionValue::Json(object) if object.get("driver").is_some_and(|driver| driver == "host_device") => {
                object.insert("driver".to_owned(), "file".into());
            }
            // QEMU 10.0 fails an assertion when an emulated guest asks for dies (encode_topo_cpuid1f).
            OptionValue::Keys { keys, .. } if option.name == "-smp" => {
                keys.retain(|(key, _)| ["cpus", "sockets", "threads"].contains(&key.as_str()));
            }
            _ => {}
        }
    }
}
