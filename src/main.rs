//! Parses the arguments, does what they say, and ends with the exit code that tells how it went.

use std::process::ExitCode;

use vfio_run::cli::Cli;
use vfio_run::commands;
use vfio_run::report;

fn main() -> ExitCode {
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(wrong) if wrong.use_stderr() => {
            // clap wraps its help, and no errors. It has 2 for them, as the exit codes promise.
            report::complain(wrong.render().ansi().to_string().trim_end());
            return ExitCode::from(wrong.exit_code() as u8);
        }
        Err(help) => help.exit(),
    };
    report::install_messages(cli.messages());
    ExitCode::from(commands::execute(cli))
}
