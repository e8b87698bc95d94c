//! `vfio-run man [PAGE]`.

use std::path::Path;

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;

use super::shared::pages::{unknown, verb_help, visible_verb};
use crate::cli::{Cli, ManArgs, pages};
use crate::units::exit;
use crate::{manual, report};

/// Shows a page, or writes all man pages into a folder.
pub fn man(args: &ManArgs) -> Result<u8> {
    if let Some(folder) = &args.dir {
        write_all(folder)?;
        return Ok(exit::OK);
    }
    if args.roff {
        let Some(source) = roff(args.page.as_deref())? else { return Ok(no_page(args)) };
        report::print(&source);
        return Ok(exit::OK);
    }
    let text = match args.page.as_deref() {
        None => Some(program_page()),
        Some(name) => {
            verb_help(name).or_else(|| manual::topic(name).map(|topic| topic.page().for_terminal(report::text_width())))
        }
    };
    let Some(text) = text else { return Ok(no_page(args)) };
    report::page(&text);
    Ok(exit::OK)
}

fn no_page(args: &ManArgs) -> u8 {
    let list = "`vfio-run man` lists the commands and the other pages";
    unknown(args.page.as_deref().unwrap_or_default(), "page", &pages(), list);
    exit::USAGE
}

/// The program's help, and the topics.
fn program_page() -> String {
    let topics = manual::TOPICS.iter().map(|topic| format!("  vfio-run man {:<16}{}\n", topic.name, topic.about()));
    format!("{}\nMore pages:\n{}", Cli::command().render_long_help().ansi(), topics.collect::<String>())
}

/// The source of a man page; `None` if there is no such page.
fn roff(page: Option<&str>) -> Result<Option<Vec<u8>>> {
    let command = match page {
        None => {
            let mut program = Cli::command();
            program.build();
            program
        }
        Some(name) => match (visible_verb(name), manual::topic(name)) {
            (Some(verb), _) => verb,
            (None, Some(topic)) => return Ok(Some(topic.roff().into_bytes())),
            (None, None) => return Ok(None),
        },
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(command).render(&mut text)?;
    Ok(Some(text))
}

/// Writes all pages into the sections of a folder with man pages. The folder of a section itself, `…/man1`, stands for the
/// one that it is in.
fn write_all(folder: &Path) -> Result<()> {
    let folder = match (folder.file_name(), folder.parent()) {
        (Some(name), Some(parent)) if name == "man1" => parent,
        _ => folder,
    };
    let section = |number: u8| {
        let folder = folder.join(format!("man{number}"));
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))
            .map(|()| folder)
    };
    let commands = section(1)?;
    // Made from the same definition as the help, hidden commands left out.
    clap_mangen::generate_to(Cli::command(), &commands)
        .with_context(|| format!("cannot write the pages into {}", commands.display()))?;
    for topic in manual::TOPICS {
        let file = section(topic.section)?.join(format!("vfio-run-{}.{}", topic.name, topic.section));
        std::fs::write(&file, topic.roff()).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(page: Option<&str>) -> String {
        String::from_utf8(roff(page).unwrap().unwrap()).unwrap()
    }

    #[test]
    fn each_command_and_topic_has_a_page_and_hidden_commands_have_none() {
        assert!(source(None).contains("Exit codes"), "{}", source(None));
        assert!(!source(None).contains("attribute"), "{}", source(None));
        for name in pages() {
            assert!(source(Some(&name)).contains(&format!("vfio-run-{name} ")), "{}", source(Some(&name)));
            assert!(!source(Some(&name)).contains("write-attribute"), "{name}");
        }
        for name in ["write-attribute", "nonsense"] {
            assert!(roff(Some(name)).unwrap().is_none() && verb_help(name).is_none(), "{name}");
        }
        // A page of the manual does not hide behind a command.
        let verbs = crate::cli::verbs();
        assert!(manual::TOPICS.iter().all(|topic| !verbs.contains(&topic.name.to_owned())));
    }

    #[test]
    fn all_pages_are_written_into_the_sections_of_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        // Made if it is missing, as /usr/local/share/man/man1 may be.
        for (share, dir) in [("whole", "whole"), ("section", "section/man1")] {
            let (share, dir) = (folder.path().join(share), folder.path().join(dir));
            man(&ManArgs { page: None, roff: false, dir: Some(dir) }).unwrap();
            for name in [
                "man1/vfio-run.1",
                "man1/vfio-run-recover.1",
                "man5/vfio-run-machine.5",
                "man7/vfio-run-troubleshooting.7",
            ] {
                assert!(share.join(name).exists(), "{name}");
            }
            assert!(!share.join("man1/vfio-run-write-attribute.1").exists());
        }
    }
}
