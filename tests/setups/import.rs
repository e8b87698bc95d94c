//! `vfio-run import` of the five setups' domains, with hooks like the guides', gives the files of `machines/`, up to comments.
//!
//! `NAME.import` lists what is otherwise, a line each: `field | as imported | in machines/ | reason`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;
use vfio_run::host::{Host, Root};
use vfio_run::import::{self, Beside, Imported, Scripts};
use vfio_run::machine::{self, Machine};

use super::input::{self, root};
use super::{SETUPS, text};

/// Maker and model of the computers whose domains have them, and of their boards: `sys_vendor`, `product_name`, `board_vendor`,
/// `board_name`.
const COMPUTERS: &[(&str, [&str; 4])] = &[
    ("i7-13700k-rtx4090", ["ASUS", "System Product Name", "ASUS", "PRIME Z790-P WIFI"]),
    (
        "ryzen-3900x-rtx3080",
        [
            "Gigabyte Technology Co., Ltd.",
            "X570 AORUS PRO WIFI",
            "Gigabyte Technology Co., Ltd.",
            "X570 AORUS PRO WIFI",
        ],
    ),
];

fn file(name: &str, ending: &str) -> PathBuf {
    root().join("tests/setups").join(format!("{name}.{ending}"))
}

/// What an import looks at on the host that a domain is of.
fn tree(name: &str, host: &Host) -> tempfile::TempDir {
    let tree = tempfile::tempdir().unwrap();
    let put = |path: String, text: String| {
        let path = tree.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text + "\n").unwrap();
    };
    for function in &host.pci.as_ref().unwrap().functions {
        let ids = function.ids.to_string();
        let (vendor, device) = ids.split_once(':').unwrap();
        let folder = format!("sys/bus/pci/devices/{}", function.address);
        put(format!("{folder}/vendor"), format!("0x{vendor}"));
        put(format!("{folder}/device"), format!("0x{device}"));
    }
    put("sys/devices/system/cpu/online".to_owned(), host.cpus.online.to_string());
    for cpu in &host.cpus.list {
        let path = format!("sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", cpu.id);
        put(path, cpu.siblings.to_string());
    }
    let page = if host.cmdline.iter().any(|word| word == "default_hugepagesz=1G") { 1 << 20 } else { 2048 };
    put("proc/meminfo".to_owned(), format!("Hugepagesize:    {page} kB"));
    for (_, values) in COMPUTERS.iter().filter(|(computer, _)| *computer == name) {
        for (file, value) in ["sys_vendor", "product_name", "board_vendor", "board_name"].iter().zip(values) {
            put(format!("sys/class/dmi/id/{file}"), (*value).to_owned());
        }
    }
    tree
}

fn imported(name: &str, home: Option<&Root>) -> Imported {
    let domain = std::fs::read_to_string(file(name, "xml")).unwrap();
    let (everything, hooks) = (Root::new("/"), file(name, "hooks"));
    let scripts = Scripts { root: &everything, folder: &hooks, named: true, host: None };
    let hooks = hooks.exists().then_some(scripts);
    import::domain(&domain, Beside { root: home, home: None, hooks, path: Path::new("/machines/imported.ron") })
        .unwrap()
}

fn read(name: &str, text: &str) -> Machine {
    let path = Path::new("/machines").join(name).with_extension("ron");
    machine::parse(&path, text).unwrap_or_else(|refused| panic!("{name}: {refused}\n{text}")).machine
}

/// A field with what it is in one and the other.
type Difference = (String, String, String);

fn compare(field: &str, one: &Value, other: &Value, found: &mut BTreeSet<Difference>) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for key in keys {
                let below = if field.is_empty() { key.clone() } else { format!("{field}.{key}") };
                let value = |object: &serde_json::Map<String, Value>| object.get(key).cloned().unwrap_or_default();
                compare(&below, &value(one), &value(other), found);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                compare(&format!("{field}[{index}]"), one, other, found);
            }
        }
        _ if one == other => {}
        _ => drop(found.insert((field.to_owned(), shown(one), shown(other)))),
    }
}

/// A value without what it leaves to its default.
fn shown(value: &Value) -> String {
    fn said(value: &Value) -> Value {
        match value {
            Value::Object(object) => {
                let members = object.iter().filter(|(_, value)| !value.is_null());
                Value::Object(members.map(|(key, value)| (key.clone(), said(value))).collect())
            }
            Value::Array(list) => Value::Array(list.iter().map(said).collect()),
            other => other.clone(),
        }
    }
    said(value).to_string()
}

/// The listed differences, with their reasons.
fn listed(name: &str) -> BTreeMap<Difference, String> {
    let text = std::fs::read_to_string(file(name, "import")).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let columns = lines.map(|line| {
        let columns: Vec<&str> = line.split(" | ").map(str::trim).collect();
        let [field, imported, ours, reason] = columns[..] else { panic!("{name}: not four columns: {line}") };
        assert!(reason.len() > 20, "{name}: a reason is a sentence: {line}");
        ((field.to_owned(), imported.to_owned(), ours.to_owned()), reason.to_owned())
    });
    columns.collect()
}

#[test]
fn an_import_on_its_host_gives_the_file_of_the_setup() {
    let mut wrong = String::new();
    for (name, host) in SETUPS {
        let tree = tree(name, &input::host(host));
        let imported = imported(name, Some(&Root::new(tree.path())));
        assert!(!imported.needs_person(), "{name}: {:#?}", imported.entries);
        let value = |machine: &Machine| serde_json::to_value(machine).unwrap();
        let mut found = BTreeSet::new();
        compare("", &value(&read(name, &imported.file)), &value(&read(name, &text(name))), &mut found);
        let known: BTreeSet<Difference> = listed(name).into_keys().collect();
        for (field, one, other) in found.difference(&known) {
            wrong += &format!("{name}: not explained: {field} | {one} | {other}\n");
        }
        for (field, one, other) in known.difference(&found) {
            wrong += &format!("{name}: explained, and not there: {field} | {one} | {other}\n");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn an_import_elsewhere_leaves_what_only_its_host_tells_as_it_is_written() {
    for (name, _) in SETUPS {
        let machine = read(name, &imported(name, None).file);
        assert!(machine.pci.iter().all(|device| device.expect.is_none()), "{name}");
        let elsewhere = tempfile::tempdir().unwrap();
        let there = read(name, &imported(name, Some(&Root::new(elsewhere.path()))).file);
        assert_eq!(there, machine, "{name}");
    }
}
