//! `vfio-run help [NAME]`.

use anyhow::Result;
use clap::CommandFactory as _;

use super::shared::pages;
use crate::cli::{Cli, HelpArgs, helped};
use crate::units::exit;
use crate::{manual, report};

/// Explains a command or a field; both, if both have this name; a topic of the manual, if nothing else has it.
pub fn help(args: &HelpArgs) -> Result<u8> {
    let Some(name) = &args.name else {
        report::page(&Cli::command().render_long_help().ansi().to_string());
        return Ok(exit::OK);
    };
    let width = report::text_width();
    let field = manual::field(name).map(|page| page.for_terminal(width));
    let topic = || manual::topic(name).map(|topic| topic.page().for_terminal(width));
    let parts: Vec<String> = [pages::verb_help(name), field].into_iter().flatten().collect();
    let Some(text) = (!parts.is_empty()).then(|| parts.join("\n\n")).or_else(topic) else {
        let list = "`vfio-run --help` lists the commands, `vfio-run man machine` the fields";
        pages::unknown(name, "command or field", &helped(), list);
        return Ok(exit::USAGE);
    };
    report::page(&text);
    Ok(exit::OK)
}
