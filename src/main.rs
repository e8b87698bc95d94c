//! Parses the arguments, does what they say, and ends with the exit code that tells how it went.

use std::process::ExitCode;

use vfio_run::cli::Cli;
use vfio_run::commands;
use vfio_run::report;

fn main() -> ExitCode {
    // clap exits with 2 on wrong arguments, as the exit codes promise, and with 0 on --help.
    let cli = Cli::of_this_process();
    report::install_messages(cli.messages());
    ExitCode::from(commands::execute(cli))
}
