//! The manual, the README and the completions against the program: what they name is there, what is there they name, and
//! what they propose is taken.

#[path = "golden/input.rs"]
mod input;
#[path = "manual/markdown.rs"]
mod markdown;
#[path = "manual/source.rs"]
mod source;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anstyle_svg::Term;
use vfio_run::cli::{self, Cli};
use vfio_run::run::HOOK_OUTCOMES;
use vfio_run::units::{Stage, exit, machine_state};
use vfio_run::{machine, manual, report};

/// The README and the pages, by name.
fn texts() -> Vec<(String, String)> {
    let read =
        |path: PathBuf| std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let pages = manual::TOPICS
        .iter()
        .map(|topic| (topic.name.to_owned(), input::root().join(format!("src/manual/{}.md", topic.name))));
    pages
        .chain([("README".to_owned(), input::root().join("README.md"))])
        .map(|(name, path)| (name, read(path)))
        .collect()
}

fn page(name: &str) -> String {
    texts().into_iter().find(|(known, _)| known == name).unwrap().1
}

/// The names in the first column of all tables of a page whose first heading is this.
fn column(page: &str, head: &str) -> BTreeSet<String> {
    let tables = markdown::tables(page);
    let rows = tables.iter().filter(|table| table[0][0].plain() == head).flat_map(|table| &table[1..]);
    let names: BTreeSet<String> = rows.flat_map(|row| row[0].names()).collect();
    assert!(!names.is_empty(), "no table with {head}");
    names
}

fn set<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

#[test]
fn each_exit_code_is_on_its_page_and_in_the_help() {
    let known: BTreeSet<String> = exit::ALL.iter().map(u8::to_string).collect();
    assert_eq!(column(&page("exit-codes"), "code"), known);
    let help = source::text("src/cli.rs");
    let listed = help.split("Exit codes:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let codes = listed.lines().filter_map(|line| line.strip_prefix("  ")?.split("  ").next()?.parse::<u8>().ok());
    assert_eq!(codes.map(|code| code.to_string()).collect::<BTreeSet<_>>(), known);
}

#[test]
fn each_event_is_on_the_page_of_the_json_output() {
    assert_eq!(column(&page("json"), "event"), source::events());
}

#[test]
fn each_state_is_on_the_page_of_the_json_output() {
    assert_eq!(column(&page("json"), "state"), set(machine_state::ALL));
}

#[test]
fn each_variable_stage_and_outcome_is_on_the_page_of_the_hooks() {
    let page = page("hooks");
    assert_eq!(column(&page, "variable"), source::literals("VFIO_RUN_"));
    assert_eq!(column(&page, "stage"), set(Stage::ALL.iter().map(|stage| stage.name())));
    let rows = markdown::tables(&page).into_iter().flatten();
    let outcome = rows.filter(|row| row[0].plain() == "VFIO_RUN_OUTCOME").flat_map(|row| row[2].names());
    assert_eq!(outcome.collect::<BTreeSet<_>>(), set(HOOK_OUTCOMES));
}

#[test]
fn commands_in_the_texts_are_taken() {
    let mut seen = 0;
    for (name, text) in texts() {
        for command in markdown::commands(&text) {
            let words: Vec<&str> = command
                .split_whitespace()
                .map(|word| word.trim_matches(['[', ']']))
                .map(|word| if word == "SHELL" { "bash" } else { word })
                .collect();
            // A command that the text only names has no arguments.
            if let [_, verb] = words[..]
                && cli::verbs().contains(&verb.to_owned())
            {
                continue;
            }
            let read = Cli::read(words.iter().map(OsString::from));
            let read = read.unwrap_or_else(|error| panic!("{name}: {command}\n{error}"));
            let unknown = |word: &Option<String>, known: Vec<String>| {
                word.clone().filter(|word| !word.starts_with(char::is_uppercase) && !known.contains(word))
            };
            let unknown = match read.command {
                cli::Command::Man(args) => unknown(&args.page, cli::pages()),
                cli::Command::Help(args) => unknown(&args.name, cli::helped()),
                _ => None,
            };
            assert_eq!(unknown, None, "{name}: {command}");
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen}");
}

#[test]
fn machine_files_in_the_texts_are_taken() {
    let mut seen = 0;
    for (name, text) in texts() {
        for code in markdown::code(&text, "ron") {
            let must =
                [("guest", "guest: Linux,"), ("memory", "memory: (size: \"16 GiB\"),"), ("pci", "pci: [\"01:00.*\"],")];
            let whole = code.trim_start().starts_with('(');
            let missing = must.iter().filter(|(field, _)| !code.contains(&format!("{field}: ")));
            let missing: String = missing.map(|(_, text)| *text).collect();
            let text = if whole { code.clone() } else { format!("({missing}\n{code}\n)") };
            // What a text calls a base is any machine.
            let base = |_: &Path| Ok("(guest: Windows11, memory: (size: \"16 GiB\"), disks: [], pci: [])".to_owned());
            if let Err(refused) = machine::parse_with(Path::new("/m/win11.ron"), &text, &base) {
                panic!("{name}: {refused}");
            }
            seen += 1;
        }
    }
    assert!(seen >= 6, "{seen}");
}

#[test]
fn the_error_on_the_page_of_the_machine_file_is_the_programs_own() {
    let blocks = markdown::code(&page("machine"), "");
    let shown = blocks.iter().find(|block| block.starts_with("linux.ron:")).unwrap();
    let line = shown.lines().find_map(|line| line.strip_prefix("1 | ")).unwrap();
    let refused = machine::parse(Path::new("linux.ron"), line).unwrap_err();
    assert_eq!(refused.to_string().trim_end(), shown.trim_end());
}

#[test]
fn fields_in_the_texts_exist() {
    let fields = machine::Fields::of_machine();
    for (name, text) in texts() {
        // `memory.pages`, but no file names and no commands.
        for span in markdown::spans(&text) {
            let is_path = |span: &str| {
                let mut parts = span.split('.');
                parts.next().is_some_and(|top| fields.field(top).is_some() && top != "name" && top != "kernel")
                    && span.contains('.')
                    && parts.all(|part| part.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
            };
            // The key of a finding.
            let is_key = matches!(span.as_str(), "cpu.siblings" | "host.boot");
            if !is_key && is_path(&span) && ![".json", ".lock", ".sock"].iter().any(|end| span.ends_with(end)) {
                assert!(fields.field(&span).is_some(), "{name}: there is no field {span}");
            }
        }
    }
}

#[test]
fn the_readme_is_short_and_leads_to_every_page_and_command() {
    let readme = page("README");
    assert!(readme.lines().count() <= 220, "{} lines", readme.lines().count());
    for topic in manual::TOPICS {
        assert!(readme.contains(&format!("](src/manual/{}.md)", topic.name)), "{}", topic.name);
    }
    let listed = markdown::commands(&readme);
    for verb in cli::verbs() {
        assert!(listed.iter().any(|command| command.split(' ').nth(1) == Some(verb.as_str())), "{verb}");
    }
    for (name, text) in texts() {
        let folder = if name == "README" { input::root() } else { input::root().join("src/manual") };
        for link in markdown::links(&text).iter().filter(|link| !link.starts_with("http")) {
            assert!(folder.join(link).exists(), "{name} leads to {link}");
        }
    }
}

#[test]
fn each_script_is_one_to_its_shell_and_the_packages_have_the_programs_version() {
    let mut read = 0;
    for folder in ["scripts", "scripts/packaging"] {
        for entry in std::fs::read_dir(input::root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let shell = match text.lines().next() {
                Some("#!/bin/sh") => "sh",
                Some("#!/bin/bash" | "#!/usr/bin/env bash") => "bash",
                _ if path.ends_with("PKGBUILD") => "bash",
                _ => continue,
            };
            let output = Command::new(shell).arg("-n").arg(&path).output().unwrap();
            assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
            read += 1;
        }
    }
    assert!(read > 15, "{read}");
    let version = format!("\npkgver={}\n", env!("CARGO_PKG_VERSION"));
    assert!(source::text("scripts/packaging/PKGBUILD").contains(&version), "{version}");
}

/// What bash proposes for a line, whose last word is being typed.
fn bash(line: &str) -> BTreeSet<String> {
    let program = env!("CARGO_BIN_EXE_vfio-run");
    let script = r#"
        script=$("$1" completions bash) && eval "$script"
        # What `status --names` would print on a host with these machines.
        vfio-run() { [ "$*" = "status --names" ] && printf 'win11\nserver\n'; }
        read -ra COMP_WORDS <<<"$2"
        [[ $2 == *' ' ]] && COMP_WORDS+=("")
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        compopt() { :; }
        complete=$(complete -p vfio-run) && complete=${complete#*-F }
        ${complete%% *} vfio-run "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let output = Command::new("bash").args(["-c", script, "bash", program, line]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let proposed = String::from_utf8(output.stdout).unwrap();
    proposed.lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_machines_and_pages_but_nothing_hidden() {
    let all = bash("vfio-run ");
    assert!(cli::verbs().iter().all(|verb| all.contains(verb)), "{all:?}");
    assert!(!all.iter().any(|word| word.contains("attribute")), "{all:?}");
    assert_eq!(bash("vfio-run st"), set(["status", "stop"]));
    for verb in ["stop", "alive", "recover", "status"] {
        assert_eq!(bash(&format!("vfio-run {verb} w")), set(["win11"]), "{verb}");
    }
    assert_eq!(bash("vfio-run man trou"), set(["troubleshooting"]));
    assert_eq!(bash("vfio-run help disks.ca"), set(["disks.cache"]));
}

/// The picture in the README: a plan, as a terminal shows it. `INSTA_UPDATE=always` draws it anew, as for golden plans.
#[test]
fn the_picture_is_what_plan_shows() {
    let plan = input::Inputs::new("only-gpu", "debian13-desktop", "10.0").plan();
    let text = report::summary(&plan, usize::MAX);
    // What comes after this is for the few who debug a start, and as long again.
    let text = text.split("\nQEMU's account\n").next().unwrap();
    let text = format!("$ vfio-run plan only-gpu.ron\n{text}\n  …");
    is_kept("plan.svg", &Term::new().render_svg(&text));
}

/// The other picture in the README.
#[test]
fn the_picture_of_cpus_is_what_cpus_draws() {
    let host = input::host("ryzen-7950x3d");
    let plan = input::Inputs::new("windows11-auto", "ryzen-7950x3d", "10.0").plan();
    let card = report::cpus::Device {
        address: "0000:01:00.*".to_owned(),
        name: "GeForce RTX 4090".to_owned(),
        node: Some(0),
        machine: Some(plan.name.clone()),
    };
    let machines = vec![report::cpus::Shown::of(&plan.name, false, &plan.placement)];
    let map = report::cpus::map(&host.cpus, &host.memory, machines, vec![card]);
    is_kept("cpus.svg", &report::cpus::svg(&map));
}

/// Holds a picture of the manual against what is drawn now.
fn is_kept(name: &str, drawn: &str) {
    let path = input::root().join("src/manual").join(name);
    if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
        std::fs::write(&path, drawn).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == drawn, "{} is not what is shown; INSTA_UPDATE=always draws it anew", path.display());
}
