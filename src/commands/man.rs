//! `vfio-run man`.

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;

use super::exit;
use crate::cli::{Cli, ManArgs};
use crate::report;

/// Prints a man page, or writes all of them into a folder.
pub fn man(args: &ManArgs) -> Result<u8> {
    if let Some(folder) = &args.dir {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        // Made from the same definition as the help, hidden verbs left out.
        clap_mangen::generate_to(Cli::command(), folder)
            .with_context(|| format!("cannot write the pages into {}", folder.display()))?;
        return Ok(exit::OK);
    }
    let Some(page) = page(args.command.as_deref())? else {
        let verb = args.command.as_deref().unwrap_or_default();
        tracing::error!("there is no command `{verb}`; `vfio-run --help` lists them");
        return Ok(exit::USAGE);
    };
    report::print(&page);
    Ok(exit::OK)
}

/// The page of a verb, or of the program; nothing where there is no such verb.
fn page(verb: Option<&str>) -> Result<Option<Vec<u8>>> {
    let mut program = Cli::command();
    // Names the verbs in full (`vfio-run-plan`), hands the global options down.
    program.build();
    let command = match verb {
        None => program,
        Some(verb) => match program.find_subcommand(verb).filter(|command| !command.is_hide_set()) {
            Some(command) => command.clone(),
            None => return Ok(None),
        },
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(command).render(&mut text)?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(verb: Option<&str>) -> String {
        String::from_utf8(page(verb).unwrap().unwrap()).unwrap()
    }

    #[test]
    fn each_command_has_a_page_and_hidden_ones_have_none() {
        assert!(text(None).contains("Exit codes"), "{}", text(None));
        let plan = text(Some("plan"));
        assert!(plan.contains(".TH vfio-run-plan 1") && plan.contains("explain"), "{plan}");
        assert!(page(Some("write-attribute")).unwrap().is_none() && page(Some("nonsense")).unwrap().is_none());
    }

    #[test]
    fn all_pages_are_written_into_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        // Made where it is missing, as /usr/local/share/man/man1 may be.
        let folder = folder.path().join("share/man1");
        man(&ManArgs { command: None, dir: Some(folder.clone()) }).unwrap();
        for name in ["vfio-run.1", "vfio-run-recover.1"] {
            assert!(folder.join(name).exists(), "{name}");
        }
        assert!(!folder.join("vfio-run-write-attribute.1").exists());
    }
}
