//! What `vfio-run new` asks, refuses, writes and says.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::terminal::Terminal;
use crate::world::{World, each};

/// What is given to the program on standard input.
fn answered(world: &World, arguments: &[&str], answers: &str) -> Output {
    use std::io::Write as _;
    let mut command = world.command(arguments);
    command.current_dir(world.path("")).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A wrong argument ends it before it reads.
    drop(child.stdin.take().unwrap().write_all(answers.as_bytes()));
    child.wait_with_output().unwrap()
}

/// The program in a terminal of its own, as a login has it: there Ctrl-C is a signal.
fn in_a_terminal(world: &World, arguments: &[&str]) -> Terminal {
    Terminal::with(world.wrapped(&["setsid", "--ctty", "env", "--default-signal=INT"], arguments))
}

#[test]
fn at_a_terminal_questions_are_answered_and_ctrl_c_or_ctrl_d_leave_nothing() {
    each(|world| {
        let (host, file) = (captured(), world.path("box.ron"));
        let asked = || {
            let mut terminal = in_a_terminal(world, &["new", "--host", &host]);
            terminal.shows("An empty answer is what stands in brackets; Ctrl-C ends this");
            terminal.shows("Guest (windows11, windows10, linux, other) [windows11]: ");
            terminal.types("linux\n");
            terminal.shows("Name [linux]: ");
            terminal.types("box\n");
            terminal.shows("Card for the guest");
            terminal
        };
        for (keys, code) in [("\u{3}", None), ("\u{4}", Some(1))] {
            let mut terminal = asked();
            terminal.types(keys);
            assert_eq!(terminal.code(), code, "{}", terminal.shown);
            let written = std::fs::read_dir(world.path("")).unwrap().flatten();
            let written: Vec<_> = written.filter(|entry| entry.file_name().to_string_lossy().contains("box")).collect();
            assert!(written.is_empty(), "{written:?}");
        }
        let mut terminal = asked();
        terminal.types("none\n");
        terminal.shows("ISO of the installation, or none [none]: ");
        terminal.types("\n");
        terminal.shows("Disk: the size of a new image");
        terminal.types("8G\n");
        assert_eq!(terminal.code(), Some(0), "{}", terminal.shown);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains("guest: Linux") && text.contains("create: \"8 GiB\""), "{text}");
    });
}

/// The code, and what was said on both ways.
fn said(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    (output.status.code(), text.concat())
}

fn captured() -> String {
    format!("{}/tests/hosts/core-i7-13700k.json", env!("CARGO_MANIFEST_DIR"))
}

/// A machine without a card, and without questions.
const PLAIN: [&str; 7] = ["new", "--guest", "linux", "--gpu", "none", "--disk", "8G"];

#[test]
fn the_commands_that_come_next_can_be_pasted() {
    each(|world| {
        std::fs::create_dir(world.path("my vms")).unwrap();
        std::fs::set_permissions(world.path("my vms"), std::fs::Permissions::from_mode(0o777)).unwrap();
        world.file("setup.iso", "");
        for (file, pasted, name) in [
            ("my vms/it's.ron", r"'my vms/it'\''s.ron'", r"'it'\''s.ron'"),
            ("-x.ron", "./-x.ron", "./-x.ron"),
            ("check", "./check", "./check"),
        ] {
            let made = answered(world, &[&PLAIN[..], &["--name", "box", &format!("-o{file}")]].concat(), "");
            let (code, text) = said(&made);
            assert_eq!(code, Some(0), "{text}");
            assert!(text.contains(&format!("  vfio-run check {pasted}\n  vfio-run {pasted}\n")), "{text}");
            let written = std::fs::read_to_string(world.path(file)).unwrap();
            assert!(written.contains(&format!("`vfio-run check {name}`")), "{written}");
        }
        let installed = [&PLAIN[..], &["--name", "box", "--iso", "setup.iso", "-o", "my vms/b.ron"]].concat();
        assert_eq!(answered(world, &installed, "").status.code(), Some(0));
        // A long command is whole, and nothing is said for this host about another.
        let long = format!("{}.ron", "l".repeat(60));
        let made = answered(world, &[&PLAIN[..], &["--name", "box", "-o", &long]].concat(), "");
        assert!(said(&made).1.contains(&format!("  vfio-run check {long}\n")), "{made:?}");
        let other = answered(world, &[&PLAIN[..], &["--name", "other", "--host", &captured()]].concat(), "");
        let (code, text) = said(&other);
        assert!(code == Some(0) && !text.contains("Next,") && !text.contains("vfio-run check"), "{text}");
    });
}

#[test]
fn a_wrong_argument_is_named_and_makes_nothing() {
    each(|world| {
        let file = world.path("box.ron");
        world.file("setup.iso", "");
        world.file("there.qcow2", "x");
        for (arguments, words) in [
            (&["--guest", "beos"][..], "--guest: \"beos\" is no guest"),
            (&["--guest", "linux", "--name=-x"], "--name: \"-x\" cannot be a machine's name; allowed: letters, digits"),
            (&["--guest", "linux", "--name", "."], "not beginning with `-` or `.`"),
            (&["--guest", "linux", "--gpu", "77:00"], "--gpu: \"77:00\" is no graphics card"),
            (&["--guest", "linux", "--iso", "nowhere.iso"], "--iso: cannot look at nowhere.iso"),
            (&["--guest", "linux", "--disk", "128Gi"], "--disk: \"128Gi\" is neither a size"),
            (&["--guest", "linux", "--disk", "16EiB"], "is neither a size"),
            (&["--guest", "linux", "--disk", "10.5G"], "1 MiB to 64 TiB"),
            (&["--guest", "linux", "--disk", "65T"], "1 MiB to 64 TiB"),
            (&["--guest", "linux", "--disk", "0"], "is neither a size"),
            (&["--guest", "linux", "--disk", ""], "is neither a size"),
            (&["--guest", "linux", "--name", "there", "--disk", "8G"], "there.qcow2 is there already"),
            (&["--guest", "linux", "--virtio-iso", "setup.iso"], "--virtio-iso: only Windows"),
            (&["--guest", "windows11", "--virtio-iso", "setup.iso"], "--virtio-iso: it takes `--iso`"),
            (
                &["--guest", "windows11", "--iso", "setup.iso", "--virtio-iso", "./setup.iso"],
                "the same file as `--iso`",
            ),
            (&["--guest", "linux", "-o", "a\nb.ron"], "-o: "),
        ] {
            let named = if arguments.iter().any(|word| word.starts_with("--name") || *word == "-o") {
                &[][..]
            } else {
                &["--name", "box"]
            };
            let host = captured();
            let all = [&["new", "--host", &host][..], arguments, named].concat();
            let (code, text) = said(&answered(world, &all, ""));
            assert!(code == Some(2) && text.contains(words) && !file.exists(), "{arguments:?}: {code:?} {text}");
            let json = answered(world, &[&all[..], &["--json"]].concat(), "");
            let value: Value =
                serde_json::from_slice(&json.stdout).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {json:?}"));
            assert!(value["error"]["message"].is_string() && json.status.code() == Some(2), "{json:?}");
        }
        // What the plan finds is told of the option, not of a file that is not there.
        let (code, text) = said(&answered(
            world,
            &["new", "--guest", "linux", "--name", "box", "--gpu", "none", "-o", "no/box.ron"],
            "",
        ));
        assert!(code == Some(3) && text.contains("-o: ") && !text.contains("box.ron:"), "{text}");
    });
}

#[test]
fn at_a_question_a_path_is_as_people_paste_it_and_what_exists_is_told_at_once() {
    each(|world| {
        world.file("a b.iso", "");
        world.file("old.ron", "()");
        let host = captured();
        let made = answered(world, &["new", "--host", &host], "linux\nold\nbox\nnone\n\"a b.iso\"\n8G\n");
        let (code, text) = said(&made);
        assert!(code == Some(0) && text.contains("old.ron exists already"), "{text}");
        let beside = std::fs::read_to_string(world.path("box-install.ron")).unwrap();
        assert!(beside.contains("a b.iso\""), "{beside}");
        // Before any question.
        let early = answered(world, &["new", "--host", &host, "-o", "old.ron"], "linux\n");
        let (code, text) = said(&early);
        assert!(code == Some(2) && text.contains("exists already") && !text.contains("Guest ("), "{text}");
    });
}

#[test]
fn a_new_machine_is_asked_for_and_written_once() {
    each(|world| {
        let host = captured();
        let host = host.as_str();
        world.file("setup.iso", "");
        let (file, beside) = (world.path("box.ron"), world.path("box-install.ron"));
        // Answers that end, or are none, make nothing.
        let ended = answered(world, &["new", "--host", host], "linux\nbox\n");
        assert_eq!((ended.status.code(), file.exists()), (Some(1), false), "{ended:?}");
        let made = answered(world, &["new", "--host", host], "linux\nbox\n7\n1\nsetup.iso\n8G\n");
        let said = String::from_utf8_lossy(&made.stdout).into_owned();
        assert_eq!(made.status.code(), Some(0), "{made:?}");
        assert!(said.contains("Guest (windows11, windows10, linux, other) [windows11]: "), "{said}");
        assert!(said.contains("\"7\" is no graphics card of this host"), "{said}");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains("create: \"8 GiB\"") && text.contains("expect: \"10de:2684\""), "{text}");
        assert!(std::fs::read_to_string(&beside).unwrap().contains("base: \"box.ron\""));
        let captured = world.done(&["plan", "--host", host, file.to_str().unwrap()]);
        assert!(matches!(captured.code, Some(0 | 3)), "{captured:?}");
        // What is there stays, also if it is only the second file.
        std::fs::remove_file(&file).unwrap();
        let arguments = ["new", "--guest", "linux", "--name", "box", "--gpu", "none", "--host", host];
        let again = answered(world, &[&arguments[..], &["--iso", "setup.iso"]].concat(), "");
        assert!(again.status.code() == Some(2) && !file.exists(), "{again:?}");
        assert!(String::from_utf8_lossy(&again.stderr).contains("is not overwritten"), "{again:?}");
        // Options alone, and what cannot be planned is not written.
        let plain = answered(world, &[&arguments[..], &["--disk", "8G", "--json"]].concat(), "");
        let json: Value = serde_json::from_slice(&plain.stdout).unwrap();
        assert_eq!(json["written"].as_array().map(Vec::len), Some(1), "{json}");
        let into = world.path("no/folder.ron");
        let refused = answered(world, &[&arguments[..], &["-o", into.to_str().unwrap()]].concat(), "");
        assert_eq!(refused.status.code(), Some(3), "{refused:?}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains("[disk0.folder]"), "{refused:?}");
    });
}
