use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use proptest::prelude::*;

use super::*;

fn refused(text: &str) -> String {
    parse(Path::new("win11.ron"), text).unwrap_err().to_string()
}

/// The first line of the refusal of a machine with this in its second line.
fn first_line(more: &str) -> String {
    let text = refused(&format!("(guest: Linux, memory: (size: \"1 GiB\"),\n{more})"));
    text.lines().next().unwrap().to_owned()
}

#[test]
fn an_error_shows_the_line_and_the_remedy() {
    let text = "(\n    guest: Windows11,\n    memory: (size: \"16 GiB\"),\n\tcpu: ( vcpu: 8),\n)";
    assert_eq!(
        refused(text),
        "win11.ron:4:9: unknown field `vcpu` in `cpu`; did you mean `vcpus`?\n  \
           |\n\
         4 | \tcpu: ( vcpu: 8),\n  \
           | \t       ^^^^\n  \
           = allowed: the fields in `cpu` are `vcpus`, `pin`, `cores`, `prefer`, `leave`, `emulator`, \
         `iothreads`, `scheduler`, `model`, `features`, `nested`, `phys_bits`, `idle`, `topology`, `hide_kvm`"
    );
}

#[test]
fn an_error_is_json_for_scripts() {
    let error = parse(Path::new("m.ron"), "(guest: Linux, memory: (size: 16))").unwrap_err();
    let json = serde_json::to_value(&error).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "path": "m.ron", "message": "`memory.size` cannot be `16`",
            "line": 1, "column": 31, "width": 2, "field": "memory.size", "source": "(guest: Linux, memory: (size: 16))",
            "allowed": "text in double quotes: an amount of memory with a binary unit, such as \"16 GiB\"",
            "help": "write it with its unit: `\"16 GiB\"`",
        })
    );
    let json = serde_json::to_value(read(Path::new("/nowhere/m.ron")).unwrap_err()).unwrap();
    assert_eq!(json["path"], "/nowhere/m.ron");
    assert!(json.get("line").is_none());
    let odd = std::ffi::OsStr::from_bytes(b"/nowhere/\xff.ron");
    assert_eq!(serde_json::to_value(read(Path::new(odd)).unwrap_err()).unwrap()["path"], "/nowhere/\u{fffd}.ron");
}

#[test]
fn syntax() {
    for (text, expected) in [
        ("", "win11.ron:1:1: the file is empty"),
        ("// nothing", "win11.ron:1:1: the file is empty"),
        ("(guest: Linux", "win11.ron:1:1: this `(` is never closed"),
        ("(guest: Linux,\nmemory: (size: \"1 GiB\"", "win11.ron:2:9: this `(` is never closed"),
        ("guest: Linux", "win11.ron:1:1: the machine cannot be `guest`"),
        ("(guest = Linux)", "win11.ron:1:8: a field is written `name: value`; `:` is missing before `=`"),
        ("(guest: Linux memory: ())", "win11.ron:1:15: a comma is missing before `memory`"),
        ("(guest: Linux,, )", "win11.ron:1:15: a name is missing before `,`"),
        ("(guest: )", "win11.ron:1:2: `guest` has no value"),
        ("(guest: Linux, memory: (size: \"1 GiB))", "win11.ron:1:31: this text has no closing quote"),
        ("(guest: Linux, /* memory: ())", "win11.ron:1:16: this comment is never closed by `*/`"),
        (
            "(guest: Linux, memory: (size: \"1 GiB\")) x",
            "win11.ron:1:41: the machine ends before `x`; nothing may follow",
        ),
        ("(guest: Linux, name: \"C:\\Windows\")", "win11.ron:1:25: bad escape in text: unknown escape character"),
        ("(guest: Linux, secure-boot: 1)", "win11.ron:1:16: `secure-boot` is no field's name"),
        ("# a comment\n(guest: Linux)", "win11.ron:1:1: `#` begins no comment"),
        ("(guest: Linux,\n  # memory\n)", "win11.ron:2:3: `#` begins no comment"),
        ("#![enable(x)] ()", "win11.ron:1:12: no RON extension named `x`"),
    ] {
        assert_eq!(refused(text).lines().next().unwrap(), expected, "{text}");
    }
}

#[test]
fn names_and_types() {
    for (written, expected) in [
        ("uid: 3", "win11.ron:2:1: unknown field `uid`; did you mean `uuid`?"),
        ("display: Vnc(prt: 5900)", "win11.ron:2:14: unknown field `prt` in `display`; did you mean `port`?"),
        (
            "disks: [(file: \"a\"), (fil: \"b\")]",
            "win11.ron:2:23: unknown field `fil` in `disks[1]`; did you mean `file`?",
        ),
        ("tpm: v2", "win11.ron:2:6: unknown value `v2` for `tpm`; did you mean `V2`?"),
        ("tpm: true", "win11.ron:2:6: unknown value `true` for `tpm`"),
        ("rtc: \"Utc\"", "win11.ron:2:6: `rtc` cannot be `\"Utc\"`"),
        ("vsock: Cid", "win11.ron:2:8: `vsock`: `Cid` takes a value in parentheses"),
        ("display: Vnc, prt: 1", "win11.ron:2:15: unknown field `prt`"),
        ("display: Vnc, disks: [(file: 3)]", "win11.ron:2:30: `disks[0].file` cannot be `3`"),
        ("display: Vnc serial: Console", "win11.ron:2:14: a comma is missing before `serial`"),
        ("rtc: Utc()", "win11.ron:2:9: a comma is missing before `(`"),
        (
            "networks: [(backend: Bridge)]",
            "win11.ron:2:22: `networks[0].backend`: `Bridge` takes a value in parentheses",
        ),
        ("networks: [(backend: Bridge(br0))]", "win11.ron:2:29: `networks[0].backend` cannot be `br0`"),
        ("cpu: (vcpus: \"4\")", "win11.ron:2:14: `cpu.vcpus` cannot be `\"4\"`"),
        ("cpu: (vcpus: 4.5)", "win11.ron:2:14: `cpu.vcpus` cannot be `4.5`"),
        ("cpu: (vcpus: -4)", "win11.ron:2:14: `cpu.vcpus` cannot be `-4`"),
        ("cpu: (hide_kvm: yes)", "win11.ron:2:17: `cpu.hide_kvm` cannot be `yes`"),
        ("cpu: (pin: \"4-\")", "win11.ron:2:12: `cpu.pin`: \"4-\" is not a CPU list"),
        ("cpu: [1]", "win11.ron:2:6: `cpu` cannot be `[`"),
        ("cpu: (topology: (threads: 2))", "win11.ron:2:17: missing field `cores` in `cpu.topology`"),
        ("disks: (file: \"x\")", "win11.ron:2:8: `disks` cannot be `(`"),
        ("disks: [()]", "win11.ron:2:9: `disks[0]` has no `file`"),
        ("disks: [(media: Disk)]", "win11.ron:2:9: `disks[0]` has no `file`"),
        ("uuid: \"x\"", "win11.ron:2:7: `uuid` cannot be `\"x\"`"),
        ("guest: Linux", "win11.ron:2:1: field `guest` is given twice"),
        ("display: Vnc(port: 1, port: 2)", "win11.ron:2:23: field `port` in `display` is given twice"),
    ] {
        assert_eq!(first_line(written), expected, "{written}");
    }
    let huge = refused("(guest: Linux, memory: (size: \"1 GiB\", pages: Huge(\"2\")))");
    assert!(huge.starts_with("win11.ron:1:52: `memory.pages`: \"2\" is not a size\n"), "{huge}");
}

#[test]
fn remedies() {
    for (written, expected) in [
        ("pin: \"1\"", "help: `pin` is a field of `cpu`"),
        ("cpu: (disks: [])", "help: `disks` is a field of the machine: move it out of `cpu`"),
        ("rtc: \"Utc\"", "help: write `Utc` without quotes"),
        ("vsock: Cid", "help: write `Cid(…)`"),
        ("disks: [()]", "help: add `file: \"disk.qcow2\"`, or write `media: Cd` for an empty CD drive"),
        ("give_back_unless: ()", "help: add `within: 120`"),
        ("user: 1000", "help: write `\"1000\"`"),
        ("display: Vnc(5900)", "help: write `Vnc(port: 5900)`"),
        ("networks: [(backend: Macvtap(\"eth0\"))]", "help: write `Macvtap(interface: \"eth0\")`"),
        ("networks: [(backend: Bridge(br0))]", "help: write `\"br0\"`"),
        ("user: “me”", "help: text stands in straight double quotes: `\"me\"`"),
        ("name: 'win11'", "help: text stands in straight double quotes: `\"win11\"`"),
        ("rtc: ‘Utc’", "help: write `Utc`, without quotes"),
        ("pci: [01:00.0]", "help: write `\"01:00.0\"`"),
        ("qemu: qemu10", "help: write `\"qemu10\"`"),
        ("cpu: (emulator: [0, 1])", "help: write `\"0,1\"`"),
        ("cpu: (pin: [0, 1])", "help: write `\"0,1\"` in place of the list"),
        ("cpu: (pin: \"3-1\")", "allowed: write a range from its lowest CPU to its highest"),
        ("cpu: (pin: \"0,0\")", "allowed: name each CPU once"),
        ("cpu: 8", "help: write `cpu: (vcpus: 8)`"),
        ("disks: [\"x.qcow2\"]", "help: write `(file: \"x.qcow2\")`"),
        ("disks: (file: \"x\")", "help: write `disks: [(file: …)]`"),
        ("pci: \"01:00.0\"", "help: write `pci: [\"01:00.0\"]`"),
        ("extra_args: \"-device foo\"", "help: write `extra_args: [\"-device\", \"foo\"]`"),
        ("cpu: vcpus: 8", "help: write `cpu: (vcpus: …)`"),
        ("disks: [(file: \"x\", bus: \"virtio\")]", "help: write `bus: VirtioBlk`"),
        ("display: \"gtk\"", "help: did you mean `Gtk`, without quotes?"),
        ("firmware: \"efi\"", "help: write `firmware: Uefi`"),
        ("serial: \"/tmp/x.log\"", "help: write `File(\"/tmp/x.log\")`"),
        ("vcpu: 8", "help: write `cpu: (vcpus: 8)`; `vfio-run help cpu.vcpus` explains it"),
        ("hugepages: true", "pages: Huge(\"2 MiB\")"),
        ("networks: [(bridge: \"br0\")]", "help: write `networks: [(backend: Bridge(\"br0\"))]`"),
        ("autostart: true", "help: `vfio-run unit --install FILE`"),
        ("vsock: Auto,,", "help: one comma is enough"),
        ("cpu.vcpus: 4", "help: a field of a part is written in parentheses: `cpu: (vcpus: …)`"),
        ("rtc: utc", "allowed: `Utc`, `LocalTime`"),
        ("cpu: (vcpus: -4)", "allowed: a whole number from 1 to 4096"),
        ("serial: x", "allowed: `None`, `Console`, `File(\"…\")`, `Socket`"),
    ] {
        let text = refused(&format!("(guest: Linux, memory: (size: \"1 GiB\"),\n{written})"));
        assert!(text.contains(expected), "{written}: {text}");
    }
    // What is proposed is taken.
    for (size, write) in [("4096", "write it with its unit: `\"4096 MiB\"`"), ("16 MiB", "write `\"16 MiB\"`")] {
        let text = refused(&format!("(guest: Linux, memory: (size: {size}))"));
        assert!(text.contains(&format!("help: {write}")), "{text}");
    }
    let pages = refused("(guest: Linux, memory: (size: \"1 GiB\", pages: \"2M\"))");
    assert!(pages.contains("help: write `Huge(\"2M\")`"), "{pages}");
    for (text, help) in [
        ("guest: Linux\nmemory:\n  size: 1 GiB", "put `(` before the first field"),
        ("guest = \"Linux\"\n[memory]", "fields in parentheses, `name: value`"),
        ("{\"guest\": \"Linux\"}", "JSON has braces"),
        ("<domain type=\"kvm\">", "`vfio-run import FILE -o win11.ron`"),
    ] {
        let refused = refused(text);
        assert!(refused.contains(help), "{text}: {refused}");
    }
}

#[test]
fn the_files_text_cannot_play_with_the_terminal() {
    let text = refused("(guest: Linux, \u{1b}[2J\u{202e}x: 3, memory: (size: \"1 GiB\"))");
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
}

#[test]
fn a_long_line_is_shown_around_its_place() {
    let text = refused(&format!("({}x: 3{})", " ".repeat(100_000), " ".repeat(100_000)));
    assert!(text.len() < 1200, "{}", text.len());
    let caret = text.lines().find(|line| line.ends_with('^')).unwrap();
    let source = text.lines().find(|line| line.starts_with("1 |")).unwrap();
    assert_eq!(caret.find('^'), source.find('x'));
}

#[test]
fn carets_stand_below_what_is_meant_also_behind_wide_characters() {
    let text = refused("(guest: Linux, /* 名前 */ x: 3, memory: (size: \"1 GiB\"))");
    let caret = text.lines().find(|line| line.ends_with('^')).unwrap();
    let (before, _) = text.lines().find(|line| line.starts_with("1 |")).unwrap().split_once("x: 3").unwrap();
    assert_eq!(caret.find('^'), Some(textwrap::core::display_width(before)), "{text}");
}

#[test]
fn what_is_no_machine_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let fifo = dir.path().join("fifo.ron");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let odd = dir.path().join(std::ffi::OsStr::from_bytes(b"odd\xff.ron"));
    std::fs::write(&odd, "(guest: Linux, memory: (size: \"1 GiB\"))").unwrap();
    for (path, expected) in [
        (odd, "has a path that is not UTF-8"),
        (dir.path().join("none.ron"), "cannot be read: No such file or directory (os error 2)"),
        (dir.path().to_owned(), "is a directory, not a machine file"),
        (fifo, "is not a regular file, not a machine file"),
        (write("binary.ron", b"(\n\xff)"), "this is not UTF-8, so the file is not text"),
        (write("large.ron", &vec![b' '; (1 << 20) + 1]), "is too large for a machine file"),
    ] {
        assert_eq!(read(&path).unwrap_err().message, expected);
    }
    for (text, expected) in [
        ("(".repeat(1 << 19), "this is nested too deeply"),
        (format!("[{}", "1,".repeat(1 << 19)), "too many values"),
        (format!("(name: \"{}\")", "x".repeat(5000)), "this text is too long"),
    ] {
        assert_eq!(parse(Path::new("m.ron"), &text).unwrap_err().message, expected);
    }
    let marked = write("marked.ron", "\u{feff}(guest: Linux, memory: (size: \"1 GiB\"))".as_bytes());
    assert_eq!(read(&marked).unwrap().machine.name, "marked");
}

#[test]
fn none_of_a_types_own_is_no_missing_field() {
    let text = "(guest: Linux, memory: (size: \"1 GiB\"), video: None, disks: [(file: \"a\", cache: None)])";
    let machine = parse(Path::new("m.ron"), text).unwrap().machine;
    assert_eq!((machine.video.clone(), machine.disks[0].cache), (Some(Video::None), Some(Cache::None)));
    let json = serde_json::to_string(&machine).unwrap();
    assert_eq!(serde_json::from_str::<Machine>(&json).unwrap(), machine);
    let text = "(guest: Linux, memory: (size: \"1 GiB\"), disks: [(file: \"a\")])";
    let machine = parse(Path::new("m.ron"), text).unwrap().machine;
    assert_eq!((machine.video.clone(), machine.disks[0].cache), (None, None));
    let json = serde_json::to_string(&machine).unwrap();
    assert_eq!(serde_json::from_str::<Machine>(&json).unwrap(), machine);
}

#[test]
fn none_for_a_list_is_an_empty_one_and_not_its_default() {
    let lists = |fields: &str| {
        let text = format!("(guest: Linux, memory: (size: \"1 GiB\"), {fields})");
        let machine = parse(Path::new("m.ron"), &text).unwrap().machine;
        let json = serde_json::to_string(&machine).unwrap();
        assert_eq!(serde_json::from_str::<Machine>(&json).unwrap(), machine, "{fields}");
        let lengths = (machine.networks.map(|list| list.len()), machine.handover.modules.map(|list| list.len()));
        (lengths, machine.pci.into_iter().map(|device| device.revive.map(|list| list.len())).collect::<Vec<_>>())
    };
    let none = "networks: None, handover: (modules: None), pci: [(address: \"01:00.0\", revive: None)]";
    assert_eq!(lists(none), ((Some(0), Some(0)), vec![Some(0)]));
    assert_eq!(lists(&none.replace("None", "[]")), lists(none));
    assert_eq!(lists("handover: (), pci: [(address: \"01:00.0\")]"), ((None, None), vec![None]));
    assert_eq!(lists("networks: [()], handover: (modules: [\"a\"])"), ((Some(1), Some(1)), vec![]));
}

#[test]
fn the_machines_that_we_ship_are_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("machines");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "ron") {
            continue;
        }
        let source = read(&path).unwrap_or_else(|error| panic!("{error}"));
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(source.lines.line(""), text.lines().position(|l| l == "(").map(|l| l as u32 + 1));
        names.push(source.machine.name);
    }
    // Each file with its own name, and those for installations with that of the machine they install.
    names.sort();
    assert_eq!(names.len(), 19, "{names:?}");
    assert_eq!(names.iter().filter(|name| *name == "windows11").count(), 2);
}

#[test]
fn the_schema_is_what_a_person_writes() {
    let schema = schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["required"], serde_json::json!(["guest", "memory"]));
    assert_eq!(schema["additionalProperties"], false);
    let text = schema.to_string();
    assert!(!text.contains("null"), "{text}");
    assert_eq!(schema["properties"]["shutdown_timeout"]["type"], "integer");
    assert_eq!(schema["properties"]["video"]["$ref"], "#/$defs/Video");
    assert_eq!(schema["properties"]["display"]["default"], "None");
    // Every field is documented: errors and editors show it.
    let mut fields: Vec<(&str, _)> = vec![("Machine", &schema)];
    fields.extend(schema["$defs"].as_object().unwrap().iter().map(|(name, of)| (name.as_str(), of)));
    for (name, of) in fields {
        for (field, schema) in of.get("properties").and_then(|p| p.as_object()).into_iter().flatten() {
            assert!(schema.get("description").is_some(), "{name}.{field}");
        }
    }
}

const WHOLE: &str = include_str!("../../machines/windows11.ron");

proptest! {
    #[test]
    fn any_text_is_read_or_refused_in_place(text in "(?s).{0,300}") {
        sound(&text);
    }

    #[test]
    fn a_damaged_file_is_read_or_refused_in_place(
        at in 0..WHOLE.len(), cut in 0usize..40,
        put in prop::sample::select(&["", "(", ")", "[", "]", "{", "}", "\"", ",", ":", "'", "/*", "*/", "r#\"", "x", "7", "é", "\\", "\0", "Some(", "None"][..])
    ) {
        let from = WHOLE.floor_char_boundary(at);
        let to = WHOLE.floor_char_boundary((from + cut).min(WHOLE.len()));
        sound(&format!("{}{put}{}", &WHOLE[..from], &WHOLE[to..]));
    }

    #[test]
    fn any_values_are_read_or_refused_in_place(
        parts in prop::collection::vec(prop::sample::select(&[
            "guest", "memory", "cpu", "disks", "display", "networks", "size", "pages", "Huge", "Vnc", "Linux", "file", "topology", "mac",
            "uuid", "name", "\"1 GiB\"", "\"0-3\"", "\"\"", "\"a\\n\"", "0", "4294967296", "-1", "1.5", "true", "None", "Some",
            "(", ")", "[", "]", "{", "}", ":", ":", ":", ",", ",", ",", " ", "\n", "// x\n",
        ][..]), 0..40)
    ) {
        sound(&format!("(guest: Linux, memory: (size: \"1 GiB\"), {}", parts.concat()));
    }
}

/// Reads the text; a refusal must be printable, and point into the text.
fn sound(text: &str) {
    if let Err(error) = parse(Path::new("m.ron"), text) {
        let shown = error.to_string();
        assert!(shown.starts_with("m.ron:"), "{shown}");
        let lines = text.split('\n').count();
        assert!(error.line().is_none_or(|line| (1..=lines).contains(&(line as usize))), "{shown}");
    }
}

#[test]
fn a_long_name_is_cut() {
    let name = "x".repeat(1 << 19);
    for (text, start) in [
        (format!("({name}: 1)"), "win11.ron:1:2: unknown field `xxx"),
        (format!("(guest: {name})"), "win11.ron:1:9: unknown value `xxx"),
        (format!("(shutdown_timeout: {})", "1".repeat(1 << 19)), "win11.ron:1:20: `shutdown_timeout` cannot be `111"),
        (format!("({name}-y: 1)"), "win11.ron:1:2: `xxx"),
    ] {
        let text = refused(&text);
        assert!(text.starts_with(start) && text.len() < 4000, "{:.300}", text);
    }
}

#[test]
fn every_field_is_a_subject_or_a_plain_value() {
    // A value of these needs no file of its own: what is wrong with it is in `values.rs`, if anything can be.
    const PLAIN: [&str; 21] = [
        "base",
        "name",
        "uuid",
        "guest",
        "qemu",
        "accelerator",
        "machine_type",
        "video_memory",
        "boot_menu",
        "battery",
        "watchdog",
        "panic_device",
        "sleep",
        "rtc",
        "on_reboot",
        "user",
        "shutdown_timeout",
        "extra_args",
        "virtio_input",
        "scream",
        "report",
    ];
    let schema = super::schema();
    let fields = schema["properties"].as_object().unwrap().keys().map(String::as_str);
    let missing: Vec<&str> =
        fields.filter(|field| !PLAIN.contains(field) && !Machine::SUBJECTS.contains(field)).collect();
    assert!(missing.is_empty(), "{missing:?} is in no list: `subjects!` in file.rs");
}
