//! The commands that only look, and what the program says of wrong files and arguments. Nothing here starts a guest but
//! the pasted command line.

#[path = "real_qemu/guest.rs"]
mod guest;
#[path = "real_qemu/launcher.rs"]
#[expect(dead_code, reason = "shared with tests/real_qemu.rs")]
mod launcher;
#[path = "cli/new.rs"]
mod new;
#[path = "cli/scripts.rs"]
mod scripts;
#[path = "real_qemu/talk.rs"]
#[expect(dead_code, reason = "shared with tests/real_qemu.rs")]
mod talk;
#[path = "real_qemu/terminal.rs"]
#[expect(dead_code, reason = "shared with tests/real_qemu.rs")]
mod terminal;
#[path = "real_qemu/world.rs"]
#[expect(dead_code, reason = "shared with tests/real_qemu.rs")]
mod world;

use std::process::Command;

use serde_json::Value;
use talk::{Qmp, Serial};
use world::each;

#[test]
fn what_the_program_says_fits_a_narrow_terminal_and_nothing_is_cut() {
    each(|world| {
        let machine = world.machine("disks: [(file: \"missing.qcow2\")], usb: [\"dead:beef\"], guest: Linux");
        let wrong =
            world.file("wrong.ron", "(guest: Linux, memory: (size: \"1 GiB\"), networks: [], disks: [], prt: 5900)");
        let (machine, wrong) = (machine.to_str().unwrap(), wrong.to_str().unwrap());
        for words in [
            &["check", machine][..],
            &["check", wrong],
            &["devices"],
            &["host"],
            &["recover", "nothing-like-this"],
            &["stauts"],
            &["detach", "a", "01:00.0"],
        ] {
            let whole = world.done(words);
            for columns in [80, 44] {
                let (status, shown) = terminal::shown(world.command(words), columns);
                assert_eq!(status.code(), whole.code, "{words:?}");
                let shown = anstream::adapter::strip_str(&shown).to_string();
                terminal::fits(&shown, columns);
                // A file's line has three dots where it goes on. What a host has free changes.
                let said = |text: &str| {
                    let words =
                        text.split_whitespace().filter(|word| !word.contains(|c: char| c.is_ascii_digit() || c == '…'));
                    words.map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
                };
                let (said, all) = (said(&shown), said(&format!("{}{}", whole.out, whole.err)));
                let missing: Vec<_> = all.difference(&said).collect();
                assert!(missing.is_empty() || words[1..].contains(&wrong), "{words:?}: {missing:?} not in\n{shown}");
            }
        }
    });
}

#[test]
fn check_says_go_or_why_not() {
    each(|world| {
        let machine = world.machine("serial: Socket");
        let machine = machine.to_str().unwrap();
        let go = world.done(&["check", machine]).with(0);
        assert!(go.out.contains(&format!("{} can start", world.name)), "{go:?}");
        let go = world.done(&["check", "--json", machine]).with(0);
        assert_eq!(go.json()["go"], true);
        assert_eq!(go.err, "");

        world.machine("disks: [(file: \"missing.qcow2\")]");
        let written = std::fs::read_to_string(machine).unwrap();
        let (line, text) = written.lines().enumerate().find(|(_, text)| text.contains("file: \"missing")).unwrap();
        let column = text[..text.find("file: \"missing").unwrap()].chars().count();
        let place = format!("{machine}:{}:{}: the image ", line + 1, column + 1);
        for verb in ["check", "plan", "run"] {
            let no = world.done(&[verb, machine]).with(3);
            let said = if verb == "run" { &no.err } else { &no.out };
            assert!(said.contains(&place), "{place}\n{no:?}");
            assert!(said.contains("missing.qcow2 does not exist") && said.contains("`disks[0].file` takes"), "{no:?}");
        }
        let no = world.done(&["check", "--json", machine]).with(3).json();
        assert_eq!(no["go"], false);
        let findings = no["findings"].as_array().unwrap();
        let missing = findings.iter().find(|f| f["key"] == "disk0.exists" && f["ok"] == "no").unwrap();
        assert_eq!(
            (&missing["place"]["line"], &missing["place"]["column"]),
            (&(line + 1).into(), &(column + 1).into())
        );
        assert!(!world.run_dir().exists(), "something was touched");
    });
}

#[test]
fn quiet_says_only_what_went_wrong() {
    each(|world| {
        // Advice: so little memory for Windows is warned of, and forbids no start.
        let machine = world.machine("guest: Windows10, firmware: Bios");
        let machine = machine.to_str().unwrap();
        let loud = world.done(&["check", machine]).with(0);
        assert!(loud.out.contains("warn") && loud.out.contains("can start"), "{loud:?}");
        let quiet = world.done(&["check", "-q", machine]).with(0);
        assert_eq!((quiet.out.as_str(), quiet.err.as_str()), ("", ""));

        world.machine("guest: Windows10, firmware: Bios, disks: [(file: \"missing.qcow2\")]");
        for verb in ["check", "run", "rehearse"] {
            let no = world.done(&[verb, "-q", machine]).with(3);
            let said = no.out.clone() + &no.err;
            assert!(said.contains("FAIL") && said.contains("missing.qcow2"), "{no:?}");
            assert!(!said.contains("warn") && !said.contains("ok  "), "{no:?}");
        }
    });
}

#[test]
fn a_captured_host_makes_the_same_plan() {
    each(|world| {
        let machine = world.machine("tpm: V2");
        let machine = machine.to_str().unwrap();
        let host = world.done(&["host", "--json"]).with(0);
        assert!(host.json()["cpus"].is_object());
        let captured = world.file("host.json", &host.out);
        let here = world.done(&["plan", "--json", machine]).with(0).json();
        let there = world.done(&["plan", "--json", "--host", captured.to_str().unwrap(), machine]).with(0).json();
        for part in ["placement", "changes", "descriptors", "paths", "account"] {
            assert_eq!(here[part], there[part], "{part}");
        }
        // Made anonymous it tells the same of what has no name, and nothing of who it is.
        let clean = world.done(&["host", "--anonymous"]).with(0);
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert!(name.trim().len() < 4 || !clean.out.contains(name.trim()), "{}", name.trim());
        let captured = world.file("anonymous.json", &clean.out);
        let there = world.done(&["plan", "--json", "--host", captured.to_str().unwrap(), machine]).with(0).json();
        assert_eq!(here["placement"], there["placement"]);
        let nonsense = world.file("nonsense.json", "[1]");
        let refused = world.done(&["plan", "--host", nonsense.to_str().unwrap(), machine]);
        assert!(refused.code != Some(0) && refused.err.contains("nonsense.json"), "{refused:?}");
    });
}

#[test]
fn cpus_are_drawn_in_the_terminal_as_svg_and_as_json() {
    each(|world| {
        let machine = world.machine("serial: Socket");
        let machine = machine.to_str().unwrap();
        let drawn = world.done(&["cpus", machine]).with(0);
        assert!(drawn.out.contains("\nCPU ") || drawn.out.contains("│ CPU "), "{drawn:?}");
        assert!(drawn.out.contains(&format!("{} (planned): ", world.name)), "{drawn:?}");
        assert!(!drawn.out.contains('\u{1b}'), "colours in a pipe: {drawn:?}");
        let json = world.done(&["cpus", "--json", machine]).with(0).json();
        assert_eq!(
            (&json["machines"][0]["name"], &json["machines"][0]["runs"]),
            (&world.name.as_str().into(), &false.into())
        );
        assert_eq!(world.done(&["cpus", "--json"]).with(0).json()["host"]["cpus"], json["host"]["cpus"]);

        let picture = world.path("cpus.svg");
        let file = picture.to_str().unwrap();
        let printed = world.done(&["cpus", "--svg", "-", machine]).with(0);
        for _ in 0..2 {
            world.done(&["cpus", "--svg", file, machine]).with(0);
            assert_eq!(std::fs::read_to_string(&picture).unwrap(), printed.out);
        }
        let before = std::fs::read(machine).unwrap();
        let refused = world.done(&["cpus", "--svg", machine]).with(1);
        assert!(refused.err.contains("holds no SVG"), "{refused:?}");
        assert_eq!(std::fs::read(machine).unwrap(), before);
        let both = world.done(&["cpus", "--json", "--svg", "-"]).with(2);
        assert!(both.out.contains("both want standard output") && both.err.is_empty(), "{both:?}");
        let host = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hosts/epyc-9754x2-512.json");
        let other = world.done(&["cpus", "--host", host]).with(0);
        assert!(other.out.contains("16 L3 caches of 16 MiB, each with 8 cores of 2 threads"), "{other:?}");
        assert!(!world.path("run/vfio-run").exists(), "something was touched");
    });
}

#[test]
fn what_is_planned_is_what_is_run() {
    each(|world| {
        let machine = world.machine("disks: [(file: \"disk.raw\", cache: Writeback, aio: Threads)]");
        world.file("disk.raw", vec![0; 1 << 20]);
        let machine_text = machine.to_str().unwrap();
        let plan = world.done(&["plan", "--json", machine_text]).with(0).json();
        let launcher = world.run(&machine);
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        let kept = std::fs::read_to_string(world.run_dir().join("plan.json")).unwrap();
        let kept: Value = serde_json::from_str(&kept).unwrap();
        for part in ["name", "uuid", "placement", "changes", "command", "descriptors", "paths"] {
            assert_eq!(plan[part], kept[part], "{part}");
        }
        let drawn = world.done(&["cpus", "--json"]).with(0).json();
        let shown = &drawn["machines"][0];
        assert_eq!((&shown["name"], &shown["runs"]), (&world.name.as_str().into(), &true.into()), "{drawn}");
        assert_eq!(shown["vcpus"], plan["placement"]["vcpus"]);
        guest.type_in("q");
        launcher.ended().with(0);
        let explained = world.done(&["plan", "--explain", machine_text]).with(0);
        assert!(explained.out.contains("-kernel") && explained.out.contains("disk.raw"), "{explained:?}");
    });
}

#[test]
fn the_printed_command_line_starts_qemu_from_a_shell() {
    each(|world| {
        let machine = world.machine("serial: Socket");
        let line = world.done(&["plan", "--argv", machine.to_str().unwrap()]).with(0);
        assert_eq!(line.out.lines().count(), 1, "{line:?}");
        let mut shell = Command::new("sh");
        world.environment(&mut shell);
        shell.arg("-c").arg(line.out.trim());
        let qemu = world.start(shell);
        let mut guest = Serial::of(world);
        guest.type_in("?").says("HERE");
        let mut qmp = Qmp::of(world);
        assert_eq!(qmp.ask("query-status")["status"], "running");
        qmp.ask("quit");
        qemu.ended().with(0);
        std::fs::remove_dir_all(world.run_dir()).unwrap();
    });
}

#[test]
fn a_bad_file_is_told_by_line_and_column_and_nothing_is_touched() {
    each(|world| {
        for (text, place, words) in [
            ("(guest: Linux, memory: (size: \"1 GiB\"), cpu: (vcpu: 2))", ":1:47:", "did you mean `vcpus`"),
            ("(\n  guest: Linux,\n  memory: (size: \"lots\"),\n)", ":3:18:", "lots"),
            ("(\n  guest: Linux,\n  memory: (size: \"1 GiB\"\n)", ":", "machine.ron"),
            ("", ":1:1:", "is empty"),
        ] {
            let machine = world.file("machine.ron", text);
            for verb in ["run", "plan", "check", "unit"] {
                let ended = world.done(&[verb, machine.to_str().unwrap()]).with(2);
                let first = ended.err.lines().next().unwrap();
                assert!(first.contains(&format!("machine.ron{place}")), "{ended:?}");
                assert!(ended.err.contains(words), "{ended:?}");
            }
            let json = world.done(&["check", "--json", machine.to_str().unwrap()]).with(2).json();
            assert!(json["error"]["message"].is_string(), "{json}");
            let run = world.done(&["run", "--json", machine.to_str().unwrap()]).with(2);
            let [line] = &lines(&run)[..] else { panic!("{run:?}") };
            assert_eq!((&line["event"], &line["level"]), (&"error".into(), &"error".into()));
            assert_eq!((&line["error"], run.err.as_str()), (&json["error"], ""));
        }
        world.done(&["run", "/nonexistent/machine.ron"]).with(2);
        for wrong in [&["frobnicate", "a", "b"][..], &["run"], &["recover", "--adopt"], &["-v", "-q", "status"]] {
            world.done(wrong).with(2);
        }
        assert!(!world.path("run/vfio-run").exists(), "something was touched");
    });
}

/// Standard output, each line of it a JSON object.
fn lines(ended: &launcher::Ended) -> Vec<Value> {
    ended.out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {ended:?}"))).collect()
}

#[test]
fn a_refused_start_is_told_in_json_lines_and_a_refused_rehearsal_as_a_value() {
    each(|world| {
        let machine = world.machine("disks: [(file: \"missing.qcow2\")]");
        let machine = machine.to_str().unwrap();
        let refused = world.done(&[machine, "--json"]).with(3);
        let [line] = &lines(&refused)[..] else { panic!("{refused:?}") };
        assert_eq!((&line["event"], &line["level"]), (&"refused".into(), &"error".into()));
        assert!(line["message"].as_str().unwrap().contains("nothing was touched"), "{line}");
        let check = world.done(&["check", "--json", machine]).with(3).json();
        // Others tell how much memory is free, which changes.
        let missing = |json: &Value| {
            let mut findings = json["findings"].as_array().unwrap().iter();
            findings.find(|finding| finding["key"] == "disk0.exists").unwrap().clone()
        };
        assert_eq!(missing(line), missing(&check));
        assert_eq!(refused.err, "");
        let rehearsal = world.done(&["rehearse", "--json", machine]).with(3);
        assert_eq!(missing(&rehearsal.json()), missing(&check));
        assert!(rehearsal.err.contains("nothing was touched"), "{rehearsal:?}");

        // What cannot be planned at all is a line too.
        let machine = world.machine("qemu: \"/nonexistent/qemu\"");
        let failed = world.done(&["run", "--json", machine.to_str().unwrap()]).with(3);
        let [line] = &lines(&failed)[..] else { panic!("{failed:?}") };
        assert_eq!(line["event"], "error");
        // A value's messages stay beside it.
        let recovered = world.done(&["recover", "--json", "nobody"]).with(0);
        assert_eq!(recovered.json()[0]["result"], "nothing");
        assert!(recovered.err.contains("nobody left nothing behind"), "{recovered:?}");
    });
}

#[test]
fn what_cannot_be_written_is_an_error() {
    each(|world| {
        let machine = world.machine("serial: Socket");
        let machine = machine.to_str().unwrap();
        let host = ["host", "--json"];
        for asked in [&["plan", machine][..], &["check", machine], &["unit", machine], &host, &["schema"], &["man"]] {
            let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
            let mut command = world.command(asked);
            let ended = command.stdout(full).stderr(std::process::Stdio::piped()).output().unwrap();
            let said = String::from_utf8_lossy(&ended.stderr);
            assert_eq!(ended.status.code(), Some(1), "{asked:?}: {said}");
            assert!(said.contains("No space left on device"), "{asked:?}: {said}");
        }
    });
}

#[test]
#[ignore = "needs systemd-analyze"]
fn systemd_takes_the_unit() {
    each(|world| {
        let machine = world.machine("shutdown_timeout: 33");
        let unit = world.done(&["unit", machine.to_str().unwrap()]).with(0);
        let name = format!("vfio-run-{}.service", world.name);
        let path = world.file(&name, &unit.out);
        let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output();
        let output = output.expect("systemd-analyze is installed");
        let said = String::from_utf8_lossy(&output.stderr);
        // It also complains about other units of the host.
        let ours: Vec<&str> = said.lines().filter(|l| l.contains(&name)).collect();
        assert!(ours.is_empty(), "{said}");
        let template = world.done(&["unit", "--template"]).with(0);
        let path = world.file("vfio-run@.service", &template.out);
        let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("vfio-run@"), "{said}");
    });
}

#[test]
fn a_unit_is_printed_and_installed() {
    each(|world| {
        let machine = world.machine("shutdown_timeout: 33");
        let unit = world.done(&["unit", machine.to_str().unwrap()]).with(0);
        assert!(unit.out.contains("Type=notify") && unit.out.contains("TimeoutStopSec=123s"), "{unit:?}");
        let name = format!("vfio-run-{}.service", world.name);
        let json = world.done(&["unit", "--json", machine.to_str().unwrap()]).with(0).json();
        assert_eq!(json["unit"], name.as_str());
        let template = world.done(&["unit", "--template", "--json"]).with(0).json();
        assert_eq!(template["unit"], "vfio-run@.service");
        assert!(template["text"].as_str().unwrap().contains(" run /etc/vfio-run/%i.ron\n"), "{template}");
        for wrong in
            [&["unit"][..], &["unit", "--template", "--install"], &["unit", "--template", machine.to_str().unwrap()]]
        {
            world.done(wrong).with(2);
        }
        let file = world.path(".config/systemd/user").join(&name);
        if !std::path::Path::new("/run/systemd/system").exists() {
            let refused = world.done(&["unit", "--install", machine.to_str().unwrap()]).with(1);
            assert!(refused.err.contains("this host does not run systemd") && !file.exists(), "{refused:?}");
            return;
        }
        let installed = world.done(&["unit", "--install", machine.to_str().unwrap()]).with(0);
        assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), unit.out.trim(), "{installed:?}");
        let json = world.done(&["unit", "--install", "--json", machine.to_str().unwrap()]).with(0).json();
        assert_eq!((&json["unit"], &json["path"]), (&name.as_str().into(), &file.to_str().unwrap().into()));
    });
}

#[test]
fn a_desktop_entry_starts_the_unit_that_is_there() {
    each(|world| {
        let machine = world.machine("guest: Other");
        let machine = machine.to_str().unwrap();
        let none = world.done(&["unit", "--desktop", machine]).with(1);
        assert!(none.err.contains("`vfio-run unit --install "), "{none:?}");
        let unit = world.done(&["unit", machine]).with(0).out;
        let name = format!("vfio-run-{}", world.name);
        std::fs::create_dir_all(world.path(".config/systemd/user")).unwrap();
        world.file(&format!(".config/systemd/user/{name}.service"), unit);
        let entry = world.done(&["unit", "--desktop", machine]).with(0).out;
        assert!(entry.contains(&format!("\nName=Start {}\n", world.name)), "{entry}");
        assert!(entry.contains(&format!("\nExec=systemctl --user start {name}.service\n")), "{entry}");
        let installed = world.done(&["unit", "--desktop", "--install", "--json", machine]).with(0).json();
        let file = world.path(&format!(".local/share/applications/{name}.desktop"));
        assert_eq!(installed["path"], file.to_str().unwrap());
        assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), entry.trim());
        // Where desktop-file-utils is not installed, nobody is asked.
        if let Ok(said) = Command::new("desktop-file-validate").arg(&file).output() {
            assert!(said.status.success() && said.stdout.is_empty() && said.stderr.is_empty(), "{said:?}");
        }
    });
}

#[test]
fn nothing_runs_and_nothing_was_left() {
    each(|world| {
        assert_eq!(world.done(&["status", "--json"]).with(0).json(), Value::Array(Vec::new()));
        assert!(world.done(&["status"]).with(0).out.contains("no machine runs"));
        world.done(&["status", "nobody"]).with(1);
        world.done(&["stop", "nobody"]).with(1);
        assert_eq!(world.done(&["top", "--once", "--interval", "0.1"]).with(0).out, "no machine runs\n");
        let told = world.done(&["top", "--once", "--interval", "0.1", "--json"]).with(0).json();
        assert_eq!(told["machines"], Value::Array(Vec::new()));
        assert!(world.done(&["top", "--interval", "0"]).with(2).err.contains("a number from 0.1 to 3600"));
        for verb in ["stop", "status", "pause", "top"] {
            let by_file = world.done(&[verb, "nobody.ron"]).with(1);
            assert!(
                by_file.err.contains("there is no file nobody.ron, and no machine of that name runs"),
                "{by_file:?}"
            );
            let by_file = world.done(&[verb, world.machine("guest: Other").to_str().unwrap()]).with(1);
            let said = by_file.out.clone() + &by_file.err;
            assert!(said.contains(&format!("{} does not run", world.name)), "{by_file:?}");
        }
        let forgotten = world.done(&["recover", "--forget", "nobody"]).with(1);
        assert!(forgotten.err.contains("no start is known that failed"), "{forgotten:?}");
        world.done(&["recover", "nobody"]).with(0);
        assert_eq!(world.done(&["recover", "--json"]).with(0).json(), Value::Array(Vec::new()));
        world.done(&["recover", "--adopt", "nobody"]).with(1);
        for name in ["../x", "", "a/b", ".", "./missing.ron"] {
            assert_ne!(world.done(&["recover", name]).code, Some(0), "{name}");
        }
        assert!(!world.path("run/vfio-run").exists(), "looking made something");
    });
}

#[test]
fn the_schema_and_the_help_are_there() {
    each(|world| {
        let schema = world.done(&["schema"]).with(0).json();
        assert!(schema["properties"]["memory"].is_object());
        let help = world.done(&["--help"]).with(0);
        for code in 0..=5 {
            assert!(help.out.contains(&format!("\n  {code}  ")), "{help:?}");
        }
        assert!(world.done(&["man", "--roff"]).with(0).out.contains(".TH"));
        let page = world.done(&["man"]).with(0).out;
        assert!(page.contains("vfio-run") && !page.contains(".TH"), "{page}");
        assert!(world.done(&["completions", "bash"]).with(0).out.contains("vfio-run"));
        for asked in [&["completions", "bash"][..], &["man"], &["schema"]] {
            let mut unread = world.command(asked);
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            let ended = unread.stdout(writer).stderr(std::process::Stdio::piped()).output().unwrap();
            assert!(ended.status.success() && ended.stderr.is_empty(), "{asked:?}: {ended:?}");
        }
    });
}

#[test]
fn a_domain_becomes_a_machine_file_that_is_planned() {
    each(|world| {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        let domain = folder.join("domains/desk.xml");
        let (domain, ron) = (domain.to_str().unwrap(), world.path("desk.ron"));
        let (ron_text, host) = (ron.to_str().unwrap(), folder.join("hosts/ryzen-7950x3d.json"));
        let done = world.done(&["import", "--strict", "-o", ron_text, domain]).with(0);
        assert!(done.out.contains("nothing needs you") && done.out.contains("vfio-run check"), "{done:?}");
        // The images and cards of that machine are not this host's.
        let plan = world.done(&["plan", "--host", host.to_str().unwrap(), ron_text]).with(3);
        assert!(plan.out.contains("desk"), "{plan:?}");

        // What exists is not overwritten.
        let before = std::fs::read_to_string(&ron).unwrap();
        let again = world.done(&["import", "-o", ron_text, domain]).with(1);
        assert!(again.err.contains("exists already"), "{again:?}");
        assert_eq!(std::fs::read_to_string(&ron).unwrap(), before);

        // Without a file to write, the machine is on standard output and the report is not.
        let hooks = folder.join("domains/hooks");
        let printed = world.done(&["import", "--hooks", hooks.to_str().unwrap(), domain]).with(0);
        assert!(printed.out.starts_with("(\n    name: \"desk\"") && printed.out.ends_with(")\n"), "{printed:?}");
        assert!(printed.err.contains("needs you") && printed.err.contains("ddcutil"), "{printed:?}");

        let strict = world.path("strict.ron");
        let refused = world.done(&[
            "import",
            "--strict",
            "-q",
            "-o",
            strict.to_str().unwrap(),
            "--hooks",
            hooks.to_str().unwrap(),
            domain,
        ]);
        assert!(
            refused.code == Some(3) && refused.out.contains("ddcutil") && !refused.out.contains("done by itself"),
            "{refused:?}"
        );
        assert!(!strict.exists());
        let json = world.done(&["import", "--json", domain]).with(0).json();
        assert_eq!((&json["name"], &json["needs_you"]), (&"desk".into(), &false.into()));
        assert!(json["entries"].as_array().unwrap().iter().any(|entry| entry["verdict"] == "done-by-itself"));

        let wrong = world.file("wrong.xml", "<domain>\n<a></b></domain>");
        let wrong = world.done(&["import", wrong.to_str().unwrap()]).with(2);
        assert!(wrong.err.contains("wrong.xml: line 2, column "), "{wrong:?}");
    });
}

#[test]
fn a_check_can_try_the_command_line_and_makes_nothing() {
    each(|world| {
        let machine =
            world.machine("disks: [(file: \"new.qcow2\", create: \"64 GiB\"), (file: \"new.raw\", create: \"8 GiB\")]");
        let tried = world.done(&["check", "--try", machine.to_str().unwrap()]).with(0);
        assert!(tried.out.contains("QEMU accepts the machine's command line [qemu.accepts]"), "{tried:?}");
        assert!(!world.path("new.qcow2").exists() && !world.path("new.raw").exists() && !world.state_dir().exists());
        let wrong = world.machine("extra_args: [\"-device\", \"nonsense\"]");
        let wrong = wrong.to_str().unwrap();
        world.done(&["check", wrong]).with(0);
        let tried = world.done(&["check", "--try", "--json", wrong]).with(3).json();
        let found = tried["findings"].as_array().unwrap().iter().find(|finding| finding["key"] == "qemu.accepts");
        assert!(found.unwrap()["detail"].as_str().unwrap().contains("nonsense"), "{tried:#}");
        assert_eq!(tried["go"], false);
        // Logs are of starts.
        assert_eq!(world.log(), "");
    });
}

#[test]
fn an_interrupted_check_says_so_and_not_that_the_machine_cannot_start() {
    each(|world| {
        let tries = world.path("tries");
        let script = format!(
            "#!/bin/sh\ncase \" $* \" in *id=qmp-tools*) echo > {}; exec tail -f /dev/null;; esac\nexec {} \"$@\"\n",
            tries.display(),
            world.qemu().display()
        );
        let slow = world.file("qemu-system-x86_64", script);
        std::fs::set_permissions(&slow, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        world.file("tries", "");
        let machine = world.machine(&format!("serial: Socket, qemu: {slow:?}"));
        let check = world.start(world.command(&["check", "--try", machine.to_str().unwrap()]));
        launcher::wait_for("the trial", || std::fs::read(&tries).is_ok_and(|text| !text.is_empty()).then_some(()));
        check.signal(nix::sys::signal::Signal::SIGINT);
        let ended = check.ended().with(1);
        assert!(ended.err.contains("the check was interrupted: SIGINT came"), "{ended:?}");
        assert!(!ended.out.contains("cannot start") && !world.run_dir().exists(), "{ended:?}");
    });
}
