//! One thin file a verb: read, plan, then show or run.

mod agent;
mod buttons;
mod check;
mod completions;
mod console;
mod control;
mod cpus;
mod devices;
mod disk;
mod generate_units;
mod help;
mod host;
mod import;
mod man;
mod new;
mod plan;
mod qmp;
mod recover;
mod rehearse;
mod run;
mod run_report;
mod screenshot;
mod shared;
mod status;
mod top;
mod unit;
mod view;

use anyhow::Result;

use shared::wrong_argument::WrongArgument;

use crate::cli::{Cli, Command};
use crate::machine::Refused;
use crate::report;
use crate::units::exit;

/// Does what the arguments say and returns the exit code.
pub fn execute(cli: Cli) -> u8 {
    let (output, lines) = (cli.output, cli.messages().json);
    let code = dispatch(cli).unwrap_or_else(|error| match error.downcast_ref::<Refused>() {
        Some(refused) => {
            match serde_json::to_value(refused) {
                Ok(value) if lines => report::error_line("error", &refused.to_string(), "error", value),
                Ok(value) if output.json => drop(report::json(&serde_json::json!({ "error": value }))),
                _ => report::complain(&refused.to_string()),
            }
            exit::USAGE
        }
        None if error.is::<WrongArgument>() => {
            match error.downcast_ref::<WrongArgument>() {
                Some(wrong) if output.json => drop(report::json(&serde_json::json!({ "error": wrong }))),
                _ => tracing::error!(event = "error", "{error:#}"),
            }
            exit::USAGE
        }
        None => {
            tracing::error!(event = "error", "{error:#}");
            if error.is::<shared::planned::NoQemu>() { exit::REFUSED } else { exit::NOT_STARTED }
        }
    });
    match report::unwritten() {
        Some(error) => {
            tracing::error!(event = "error", "cannot write to standard output: {error}");
            code.max(exit::NOT_STARTED)
        }
        None => code,
    }
}

fn dispatch(mut cli: Cli) -> Result<u8> {
    let output = cli.output;
    for name in cli.command.machines() {
        *name = shared::machines::named(name)?;
    }
    match cli.command {
        Command::Run(args) => run::run(&args, output),
        Command::Plan(args) => plan::plan(&args, output),
        Command::Cpus(args) => cpus::cpus(&args, output),
        Command::Check(args) => check::check(&args, output),
        Command::Status(args) => status::status(&args, output),
        Command::Top(args) => top::top(&args, output),
        Command::Report(args) => run_report::report(&args, output),
        Command::Stop(args) => control::stop(&args, output),
        Command::Alive(args) => control::alive(&args, output),
        Command::Pause(args) => buttons::pause(&args, output),
        Command::Resume(args) => buttons::resume(&args, output),
        Command::Reset(args) => buttons::reset(&args, output),
        Command::Powerdown(args) => buttons::powerdown(&args, output),
        Command::SendKey(args) => buttons::send_key(&args, output),
        Command::Screenshot(args) => screenshot::screenshot(&args, output),
        Command::Console(args) => console::console(&args, output),
        Command::View(args) => view::view(&args, output),
        Command::Agent(args) => agent::agent(&args, output),
        Command::Qmp(args) => qmp::qmp(&args, output),
        Command::Attach(args) => control::attach(&args, output),
        Command::Detach(args) => control::detach(&args, output),
        Command::Cd(args) => control::cd(&args, output),
        Command::Link(args) => control::link(&args, output),
        Command::Rehearse(args) => rehearse::rehearse(&args, output),
        Command::Recover(args) => recover::recover(&args, output),
        Command::Unit(args) => unit::unit(&args, output),
        Command::Import(args) => import::import(&args, output),
        Command::Host(args) => host::host(&args, output),
        Command::New(args) => new::new(&args, output),
        Command::Devices(args) => devices::devices(&args, output),
        Command::Schema => report::json(&crate::machine::schema()).map(|()| exit::OK),
        Command::Completions { shell } => {
            report::print(completions::script(shell).as_bytes());
            Ok(exit::OK)
        }
        Command::Help(args) => help::help(&args),
        Command::WriteAttribute { path, value } => Ok(crate::change::attribute::write_here(&path, &value)),
        Command::FillMemory { parts } => Ok(if crate::fill::fill_stdin(&parts) { exit::OK } else { exit::NOT_STARTED }),
        Command::GenerateUnits { normal, .. } => generate_units::generate_units(&normal),
        Command::ReadAttributes { files } => {
            crate::change::attribute::read_here(&files);
            Ok(exit::OK)
        }
        Command::Man(args) => man::man(&args),
    }
}
