//! What `help` and `man` share.

use clap::CommandFactory as _;

use crate::cli::Cli;
use crate::machine::nearest;

/// The help of a command, with styles; `None` if there is no such command.
pub fn verb_help(verb: &str) -> Option<String> {
    Some(visible_verb(verb)?.render_long_help().ansi().to_string().trim_end().to_owned())
}

/// A command that is not hidden, with the program's name before its own and the global options.
pub fn visible_verb(verb: &str) -> Option<clap::Command> {
    let mut program = Cli::command();
    program.build();
    program.find_subcommand(verb).filter(|command| !command.is_hide_set()).cloned()
}

/// Says which name was probably meant, or else what lists them.
pub fn unknown(name: &str, what: &str, known: &[String], list: &str) {
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let guess = nearest(name, &known).map_or_else(|| list.to_owned(), |near| format!("did you mean `{near}`?"));
    tracing::error!("there is no {what} `{name}`; {guess}");
}
