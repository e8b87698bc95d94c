//! Machine files, the facts of captured hosts, and journals.

use std::path::{Path, PathBuf};

use serde_json::Value;
use vfio_run::host::Host;
use vfio_run::journal::{self, Journal};
use vfio_run::machine::{self, Source};
use vfio_run::plan::{self, Plan};
use vfio_run::qemu::QemuFacts;
use vfio_run::report::cpus;

use super::{fuzz, seeds};

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    serde_json::from_str(&read(path)).unwrap()
}

/// Machine files as they are, those of the tests and those that users are given.
fn machines() -> Vec<(PathBuf, String)> {
    let files = [seeds("tests/machines", ".ron"), seeds("machines", ".ron")].concat();
    files.into_iter().map(|path| (path.clone(), read(&path))).collect()
}

/// All that is decided and shown for a machine on a host.
fn decide(source: &Source, host: &Host, qemu: &QemuFacts) {
    let lines = |field: &str| source.lines.line(field);
    let plan: Plan = plan::plan(&source.machine, &lines, host, qemu);
    let again: Plan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
    assert_eq!(again, plan);
    drop(plan::trial(&plan));
    let shown = vec![cpus::Shown::of(&plan.name, false, &plan.placement)];
    let map = cpus::map(&host.cpus, &host.memory, shown, vec![]);
    assert!(cpus::text(&map, 80).contains("thread") && cpus::svg(&map).ends_with("</svg>\n"));
}

fn qemus() -> Vec<QemuFacts> {
    let facts = |path: &PathBuf| (!path.to_string_lossy().contains("schema")).then(|| json(path));
    seeds("tests/qemu", ".json").iter().filter_map(facts).collect()
}

#[test]
fn machine_files() {
    let (machines, qemus) = (machines(), qemus());
    let hosts: Vec<Host> = seeds("tests/hosts", ".json").iter().map(|path| json(path)).collect();
    fuzz("machine_files", |mutator| {
        let (path, text) = mutator.one_of(&machines);
        match machine::parse(path, &mutator.text(text)) {
            Ok(source) => decide(&source, mutator.one_of(&hosts), mutator.one_of(&qemus)),
            Err(refused) => assert!(!refused.to_string().is_empty()),
        }
    });
}

#[test]
fn captured_hosts() {
    let qemus = qemus();
    let machines: Vec<Source> =
        machines().iter().map(|(path, text)| machine::parse(path, text).unwrap_or_else(|e| panic!("{e}"))).collect();
    let hosts: Vec<Value> = seeds("tests/hosts", ".json").iter().map(|path| json(path)).collect();
    fuzz("captured_hosts", |mutator| {
        let mut host = mutator.one_of(&hosts).clone();
        mutator.value(&mut host);
        if let Ok(host) = serde_json::from_value::<Host>(host) {
            decide(mutator.one_of(&machines), &host, mutator.one_of(&qemus));
        }
    });
}

#[test]
fn journals() {
    let recorded = read(&seeds("tests/handover/recorded", ".jsonl")[0]);
    let folder = tempfile::tempdir().unwrap();
    fuzz("journals", |mutator| {
        let text = if mutator.below(2) == 0 {
            mutator.text(&recorded)
        } else {
            let mut damaged = String::new();
            for line in recorded.lines() {
                let mut record: Value = serde_json::from_str(line).unwrap();
                if mutator.below(4) == 0 {
                    mutator.value(&mut record);
                }
                damaged.push_str(&format!("{record}\n"));
            }
            damaged
        };
        std::fs::write(folder.path().join("journal"), text).unwrap();
        if let Ok(Some(records)) = Journal::read(folder.path()) {
            journal::guest_ran(&records);
            for open in journal::open_changes(&records) {
                assert!(!format!("{open:?}").is_empty());
            }
        }
        if let Ok(mut journal) = Journal::open(folder.path()) {
            let before = format!("{:?}", journal.open_changes());
            journal.shorten().unwrap();
            assert_eq!(format!("{:?}", journal.open_changes()), before);
        }
    });
}
