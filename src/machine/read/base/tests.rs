//! What a file says on its base, and what is refused.

use super::*;
use crate::machine::{Display, Guest, Machine, Media, Source, parse, read};

const BASE: &str = "(
    guest: Windows11,
    memory: (size: \"8 GiB\", pages: Huge(\"2 MiB\")), // of its own
    cpu: (vcpus: 4),
    disks: [(file: \"system.qcow2\")],
    pci: [\"01:00.*\"],
    extra_args: [],
)";

/// What a file says on a base of this text.
fn on(base: &str, text: &str) -> Result<Source, String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("win11.ron"), base).unwrap();
    let said = parse(&folder.path().join("install.ron"), text);
    let shown = |refused: Refused| refused.to_string().replace(&format!("{}/", folder.path().display()), "");
    said.map_err(shown)
}

fn refused(base: &str, text: &str) -> String {
    on(base, text).unwrap_err()
}

#[test]
fn a_file_says_what_differs_and_the_rest_is_its_bases() {
    let text = "(base: \"win11.ron\", memory: (size: \"4 GiB\"), pci: [],
        disks: [Base, (file: \"win11.iso\", media: Cd)], display: Vnc, extra_args: [Base, \"-snapshot\"])";
    let source = on(BASE, text).unwrap();
    let Machine { name, guest, memory, cpu, disks, pci, display, extra_args, .. } = source.machine;
    assert_eq!((name.as_str(), guest, cpu.vcpus), ("win11", Guest::Windows11, Some(4)));
    assert_eq!((memory.size.to_string().as_str(), memory.pages != Default::default()), ("4 GiB", true));
    assert_eq!(disks.iter().map(|disk| disk.media).collect::<Vec<_>>(), [None, Some(Media::Cd)]);
    assert!(pci.is_empty() && display != Display::None);
    assert_eq!(extra_args, ["-snapshot"]);
    let place = |field: &str| {
        let at = source.lines.at(field).unwrap();
        (source.lines.file(field).unwrap().file_name().unwrap().to_str().unwrap(), at.line, at.column)
    };
    assert_eq!(place("memory.size"), ("install.ron", 1, 30));
    assert_eq!(place("memory.pages"), ("win11.ron", 3, 29));
    assert_eq!(place("disks[0].file"), ("win11.ron", 5, 14));
    assert_eq!(place("disks[1].media"), ("install.ron", 2, 43));
    assert_eq!((source.lines.line("disks[1]"), source.lines.line("disks[0]")), (Some(2), None));
}

#[test]
fn an_error_names_the_file_that_has_it() {
    let first = |text: String| text.lines().next().unwrap().to_owned();
    let of = |text: &str| first(refused(BASE, text));
    assert_eq!(of("(base: \"win11.ron\",\n disk: [])"), "install.ron:2:2: unknown field `disk`; did you mean `disks`?");
    let both = refused(BASE, "(base: \"win11.ron\", firmware: Bios, guest: Windows11, cpu: (pin: \"1-2\"))");
    assert!(both.starts_with("win11.ron:4:18: ") && both.contains("4 |     cpu: (vcpus: 4),"), "{both}");
    let broken = first(refused("(guest: Linux, memory: (size: \"1 GiB\"), kpu: ())", "(base: \"win11.ron\")"));
    assert!(broken.starts_with("win11.ron:1:41: unknown field `kpu`"), "{broken}");
    let missing = refused(BASE, "(\nbase: \"windows.ron\")");
    assert!(missing.starts_with("install.ron:2:7: windows.ron cannot be read: "), "{missing}");
    let circle = refused("(base: \"win11.ron\")", "(base: \"win11.ron\")");
    assert!(circle.starts_with("win11.ron:1:8: more than 4 files stand on one another"), "{circle}");
    let lists = "(base: \"win11.ron\", cpu: (features: [Base]), networks: None, pci: [Base])";
    assert_eq!(on(BASE, lists).map(|source| (source.machine.pci.len(), source.machine.cpu.features.len())), Ok((1, 0)));
    let word = BASE.replace("pci: [\"01:00.*\"],", "input: Auto,");
    let none = first(refused(&word, "(base: \"win11.ron\", input: [Base])"));
    assert_eq!(none, "install.ron:1:29: `Base` stands for the entries of the base's list, and the base has none here");
    assert!(of("(base: 7)").starts_with("install.ron:1:8: `base` cannot be `7`"), "{}", of("(base: 7)"));
    assert!(of("(base: \"win11.ron\", pci: [").contains("never closed"));
}

#[test]
fn bases_stand_on_one_another_and_paths_start_from_their_files_folder() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    put("a.ron", "Machine(guest: Linux, memory: (size: \"1 GiB\"), disks: [(file: \"/srv/a.raw\")])");
    put("sub/b.ron", "(base: r#\"../a.ron\"#, disks: [Base, (file: \"/srv/b.raw\")])");
    put("c.ron", "(base: \"sub/b.ron\", disks: [(media: Cd), Base,])");
    let source = read(&folder.path().join("c.ron")).unwrap();
    assert_eq!((source.machine.name.as_str(), source.machine.disks.len()), ("a", 3));
    assert_eq!(source.lines.file("disks[1].file"), Some(folder.path().join("sub/../a.ron").as_path()));
    put("sub/b.ron", "(base: \"../a.ron\", disks: [(file: \"b.raw\")])");
    let refused = read(&folder.path().join("c.ron")).unwrap_err().to_string();
    assert!(refused.contains("is in another folder, and has paths that start from its own"), "{refused}");
}

#[test]
fn a_field_is_the_bases_however_its_name_is_written() {
    let cpu = |text: &str| on(BASE, text).map(|source| source.machine.cpu.vcpus);
    assert_eq!(cpu("(base: \"win11.ron\", r#cpu: (r#vcpus: 2))"), Ok(Some(2)));
    assert_eq!(cpu("(r#base: \"win11.ron\")"), Ok(Some(4)));
}

#[test]
fn what_a_base_is_not_is_said_of_the_file_that_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("disk.ron"), b"(guest: \xff)").unwrap();
    std::fs::write(path("large.ron"), vec![b' '; (1 << 20) + 1]).unwrap();
    let said = |text: &str| {
        let refused = parse(&path("install.ron"), text).unwrap_err().to_string();
        refused.replace(&format!("{}/", folder.path().display()), "")
    };
    let disk = said("(base: \"disk.ron\")");
    assert!(disk.starts_with("disk.ron:1:9: this is not UTF-8") && disk.contains("save the file as UTF-8"), "{disk}");
    let large = said("(base: \"large.ron\")");
    assert!(large.starts_with("install.ron:1:8: large.ron is too large") && large.contains("at most 1 MiB"), "{large}");
    let named = said("(base: \"win11\")");
    assert!(named.contains("a machine is named by its file: `win11.ron`"), "{named}");
    let near = said("(base: \"lage.ron\")");
    assert!(near.contains("help: did you mean `large.ron`?"), "{near}");
    let far = said("(base: \"windows.ron\")");
    assert!(far.contains("that this one is a variation of; a relative path starts from its folder"), "{far}");
    let home = said("(base: \"~/windows.ron\")");
    assert!(home.contains("`~` is not your home folder here"), "{home}");
    let place = said("(base: \".\")");
    assert!(place.contains("is a directory") && place.contains("that this one is a variation of"), "{place}");
    let some = said("(base: Some(\"disk.ron\"))");
    assert!(some.starts_with("install.ron:1:8: `base` cannot be `Some`"), "{some}");
}

#[test]
fn the_bases_entries_stand_in_a_list_once() {
    let twice = refused(BASE, "(base: \"win11.ron\", disks: [Base, (file: \"b.raw\"), Base])");
    assert!(twice.starts_with("install.ron:1:52: `Base` is given twice in this list"), "{twice}");
}

#[test]
fn a_folder_is_the_same_by_whatever_name() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("vms")).unwrap();
    std::os::unix::fs::symlink("vms", folder.path().join("link")).unwrap();
    std::fs::write(folder.path().join("vms/win11.ron"), BASE).unwrap();
    for base in ["../vms/win11.ron", "../link/win11.ron"] {
        let read = parse(&folder.path().join("vms/install.ron"), &format!("(base: {base:?})"));
        assert!(read.is_ok(), "{read:?}");
    }
}
