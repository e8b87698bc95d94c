//! The rooms of `src/`: which room may use which, and that no files import from one another in a circle. ARCHITECTURE.md
//! says what each room is for.

#[path = "rooms/source.rs"]
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use source::{Imports, Source};

/// Each room with what it may use: rooms, or files of a room by their modules. A room uses only rooms that stand below
/// it.
const ROOMS: &[(&str, &[&str])] = &[
    ("main", &["commands", "cli", "report"]),
    (
        "commands",
        &[
            "report", "run", "cli", "manual", "journal", "import", "plan", "change", "qemu", "host", "machine", "fill",
            "trusted", "units",
        ],
    ),
    (
        "report",
        &[
            "run::rehearsing",
            "cli",
            "import",
            "plan",
            "qemu::command",
            "host::cpus",
            "host::memory",
            "host::pci",
            "host::activity",
            "streams",
            "units",
        ],
    ),
    (
        "run",
        &[
            "journal",
            "plan",
            "change",
            "systemd",
            "netlink",
            "qemu::command",
            "qemu::qmp",
            "host::root",
            "host::activity",
            "host::acpi",
            "host::smbios",
            "host::tpm_state",
            "host::desktop",
            "host::lease",
            "host::holders",
            "host::input",
            "host::usb",
            "host::pci::holders",
            "host::pci::vfio",
            "machine",
            "child",
            "fill",
            "streams",
            "trusted",
            "units",
        ],
    ),
    ("cli", &["manual", "change", "machine", "fill", "units"]),
    ("manual", &["machine"]),
    ("import", &["host", "machine", "units"]),
    ("journal", &["change", "host::root", "trusted", "units"]),
    ("plan", &["change", "qemu", "host", "machine", "units"]),
    (
        "change",
        &[
            "systemd",
            "netlink",
            "host::root",
            "host::block",
            "host::lease",
            "host::pci::nodes",
            "host::pci::holders",
            "host::pci::config",
            "child",
            "trusted",
            "units",
        ],
    ),
    ("systemd", &[]),
    ("netlink", &[]),
    ("qemu", &["child", "trusted", "units"]),
    ("host", &["child", "trusted", "units"]),
    ("machine", &["units"]),
    ("child", &["units"]),
    ("fill", &["units"]),
    ("streams", &[]),
    ("trusted", &[]),
    ("units", &[]),
];

fn source() -> Source {
    Source::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

/// Whether the module is the one that is meant, or below it.
fn is_in(module: &[String], meant: &str) -> bool {
    let meant: Vec<&str> = meant.split("::").collect();
    module.iter().map(String::as_str).take(meant.len()).eq(meant)
}

fn allowed(room: &str) -> &'static [&'static str] {
    let found = ROOMS.iter().find(|(name, _)| *name == room);
    found.unwrap_or_else(|| panic!("the room src/{room} is not in the table of tests/rooms.rs")).1
}

#[test]
fn each_room_uses_only_what_the_table_lets_it_use() {
    let source = source();
    let files = source.files();
    let (mut wrong, mut used) = (Vec::new(), BTreeSet::new());
    for (file, imports) in source.imports() {
        let room = &files[file.as_path()][0];
        let others = imports.iter().filter(|(to, _)| files[to.as_path()][0] != *room);
        for (to, paths) in others {
            match allowed(room).iter().find(|meant| is_in(files[to.as_path()], meant)) {
                Some(meant) => used.extend([(room.clone(), *meant)]),
                None => wrong.push(format!("src/{} uses src/{}: {paths:?}", file.display(), to.display())),
            }
        }
    }
    assert!(wrong.is_empty(), "against the table of rooms in tests/rooms.rs:\n{}", wrong.join("\n"));
    let all = ROOMS.iter().flat_map(|(room, may)| may.iter().map(|meant| ((*room).to_owned(), *meant)));
    let unused: Vec<_> = all.filter(|entry| !used.contains(entry)).collect();
    assert!(unused.is_empty(), "the table of rooms in tests/rooms.rs has more than is used: {unused:?}");
}

#[test]
fn no_arrow_runs_up() {
    for (at, (room, may)) in ROOMS.iter().enumerate() {
        for meant in *may {
            let other = meant.split("::").next().unwrap();
            let below = ROOMS[at + 1..].iter().any(|(name, _)| *name == other);
            assert!(below, "{room} uses {meant}, which does not stand below it");
        }
    }
}

/// Rooms that only decide: the same values make the same plan.
const PURE: [&str; 2] = ["plan", "units"];
/// What would ask the host, a clock or another process.
const IMPURE: [&str; 11] = [
    "std::env",
    "std::fs",
    "std::io",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "jiff",
    "nix",
    "tokio",
    "zbus",
];

#[test]
fn what_only_decides_asks_nobody() {
    let source = source();
    let pure =
        source.outside().filter(|(module, ..)| PURE.iter().any(|room| module.first().is_some_and(|m| m == room)));
    let asks = |path: &str| {
        IMPURE.iter().any(|name| path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::")))
    };
    let wrong: Vec<String> = pure
        .filter(|(.., path)| asks(path))
        .map(|(_, file, path)| format!("src/{} uses {path}", file.display()))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Elsewhere such paths are found.
    assert!(source.outside().any(|(module, _, path)| module.first().is_some_and(|m| m == "host") && asks(&path)));
}

/// All files that can be reached over imports.
fn reachable<'a>(imports: &'a Imports, from: &'a PathBuf) -> BTreeSet<&'a PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![from];
    while let Some(file) = open.pop() {
        let next = imports.get(file).into_iter().flat_map(BTreeMap::keys);
        open.extend(next.filter(|file| found.insert(*file)));
    }
    found
}

/// The circles: sets of files that all reach one another.
fn circles(imports: &Imports) -> BTreeSet<BTreeSet<&PathBuf>> {
    let reach: BTreeMap<&PathBuf, BTreeSet<&PathBuf>> =
        imports.keys().map(|file| (file, reachable(imports, file))).collect();
    let circle = |file: &&PathBuf| {
        let mutual: BTreeSet<&PathBuf> =
            reach[file].iter().copied().filter(|other| reach[other].contains(file)).collect();
        (!mutual.is_empty()).then_some(mutual)
    };
    reach.keys().filter_map(circle).collect()
}

#[test]
fn no_files_import_from_one_another_in_a_circle() {
    let source = source();
    let imports = source.imports();
    let mut words = String::new();
    for circle in circles(&imports) {
        words.push_str("\na circle:\n");
        for file in &circle {
            for (to, paths) in imports[*file].iter().filter(|(to, _)| circle.contains(to)) {
                words.push_str(&format!("  src/{} uses src/{}: {paths:?}\n", file.display(), to.display()));
            }
        }
    }
    assert!(words.is_empty(), "{words}");
}

/// The reader itself, on a small crate.
#[test]
fn imports_are_found_through_reexports_aliases_and_macros_but_not_in_tests() {
    let folder = tempfile::tempdir().unwrap();
    let put = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    put("main.rs", "fn main() { vfio_run::a::run(); }");
    put("lib.rs", "pub mod a; pub mod b; mod c;");
    put("a/mod.rs", "mod one; mod two; #[cfg(test)] mod tests; pub use one::run; pub use two::Two as Zwei;");
    put("a/one.rs", "use super::two; pub fn run() { two::f(); println!(\"{}\", crate::b::VALUE) }");
    put("a/two.rs", "pub struct Two; pub fn f() {} #[cfg(test)] mod tests { use super::super::one; }");
    put("b.rs", "use crate::a::{self, Zwei}; use c::*; use crate::c; pub const VALUE: u8 = 0; fn g() { a::run() }");
    put(
        "c.rs",
        "pub(in crate::b) enum C { D } mod inside { mod deep; use super::super::b::VALUE; const V: u8 = VALUE; }",
    );
    put("c/inside/deep.rs", "use super::super::C; fn f(_: C) {}");
    let imports = Source::read(folder.path()).imports();
    let found: Vec<String> = imports
        .iter()
        .map(|(file, to)| {
            let to: Vec<_> = to.keys().map(|file| file.to_string_lossy()).collect();
            format!("{}: {}", file.display(), to.join(" "))
        })
        .collect();
    assert_eq!(
        found,
        [
            "a/one.rs: a/two.rs b.rs",
            "a/two.rs: ",
            "b.rs: a/one.rs a/two.rs c.rs",
            "c/inside/deep.rs: c.rs",
            "c.rs: b.rs",
            "main.rs: a/one.rs"
        ]
    );
    let circles = circles(&imports);
    assert_eq!(circles.len(), 1);
    assert!(!circles.first().unwrap().contains(&PathBuf::from("a/two.rs")));
}
