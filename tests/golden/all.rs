//! Which inputs there are.

use super::input::root;

/// Names of the files with this ending in a folder.
fn names(folder: &str, ending: &str) -> Vec<String> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter_map(|name| name.strip_suffix(ending).map(str::to_owned)).collect();
    names.sort();
    names
}

/// All machines: those to learn from and those made for tests.
pub fn machines() -> Vec<String> {
    [names("machines", ".ron"), names("tests/machines", ".ron")].concat()
}

/// All captured hosts.
pub fn hosts() -> Vec<String> {
    names("tests/hosts", ".json")
}

/// All recorded QEMUs.
pub fn qemus() -> Vec<String> {
    names("tests/qemu", ".json").into_iter().filter(|name| !name.ends_with("-schema")).collect()
}

/// What a recorded QEMU says of its commands.
pub fn schema(qemu: &str) -> serde_json::Value {
    let path = root().join(format!("tests/qemu/{qemu}-schema.json"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}
