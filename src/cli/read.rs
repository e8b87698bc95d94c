//! Reads a command line: puts the verb in that a user may leave out, and words what clap cannot know.

use std::ffi::OsString;
use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, FromArgMatches as _};

use super::{Cli, GENERATOR_VERB, shown, words};

/// The program's name as a generator of systemd's (systemd.generator(7)), which is started with three folders and no verb.
const GENERATOR: &str = "vfio-run-generator";

impl Cli {
    /// Reads a command line, the program's name first; the error is help that was asked for, or what is wrong.
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        // Made once: that takes longer than all else about the arguments.
        let mut command = Self::command();
        let arguments = with_verb(arguments.into_iter().collect(), &command)?;
        let verb = arguments.iter().skip(1).find_map(|word| word.to_str().filter(|word| !word.starts_with('-')));
        let is_new = verb == Some("new");
        // What is behind a verb that the agent does not have is not what is wrong.
        let agent = (verb == Some("agent")).then(|| up_to_word(&arguments, 3));
        let unknown_verb = || {
            let error = agent.and_then(|arguments| Self::command().try_get_matches_from(arguments).err());
            error.filter(|error| error.kind() == ErrorKind::InvalidValue)
        };
        let matches = command.try_get_matches_from_mut(arguments);
        let read = matches.and_then(|mut matches| {
            Self::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
        });
        read.map_err(|error| match error.kind() {
            // clap's own text lists the hidden commands too.
            ErrorKind::MissingSubcommand => {
                Self::command().error(error.kind(), "a machine file or a command is missing")
            }
            ErrorKind::UnknownArgument => match error.get(ContextKind::InvalidArg) {
                Some(ContextValue::String(word)) => words::in_place_of_option(word)
                    .or_else(|| if is_new { words::file_for_new(word) } else { None })
                    .map(|text| Self::command().error(ErrorKind::UnknownArgument, text))
                    .or_else(unknown_verb)
                    .unwrap_or(error),
                _ => error,
            },
            _ => error,
        })
    }
}

/// The arguments, the program's name first, up to this word that is no option.
fn up_to_word(arguments: &[OsString], word: usize) -> Vec<OsString> {
    let is_word = |argument: &OsString| !argument.as_encoded_bytes().starts_with(b"-");
    let mut words = 0;
    let kept = arguments.iter().enumerate().take_while(|(at, argument)| {
        let taken = words < word;
        words += usize::from(*at > 0 && is_word(argument));
        taken
    });
    kept.map(|(_, argument)| argument.clone()).collect()
}

/// Puts `run` before a first word that is no verb, and refuses one that is a misspelt verb. None of the options before it
/// takes a value, so the first word is the first argument without a dash.
fn with_verb(mut arguments: Vec<OsString>, command: &clap::Command) -> Result<Vec<OsString>, clap::Error> {
    if arguments.first().is_some_and(|program| Path::new(program).file_name() == Some(GENERATOR.as_ref())) {
        arguments.insert(1, GENERATOR_VERB.into());
    }
    let dashed = |argument: &OsString| argument.as_encoded_bytes().starts_with(b"-");
    let first = arguments.iter().skip(1).position(|argument| !dashed(argument)).map(|index| index + 1);
    if let Some(first) = first {
        let is_verb = |word: &str| command.find_subcommand(word).is_some();
        if !arguments[first].to_str().is_some_and(is_verb) {
            let behind: Vec<_> = arguments.iter().skip(first + 1).filter(|argument| !dashed(argument)).collect();
            let behind: Vec<_> = behind.iter().map(|argument| argument.to_str().unwrap_or_default()).collect();
            let refused = |word: &str| words::refused(word, &behind, &shown(command));
            if let Some(text) = arguments[first].to_str().and_then(refused) {
                return Err(Cli::command().error(ErrorKind::InvalidSubcommand, text));
            }
            arguments.insert(first, "run".into());
        }
    }
    Ok(arguments)
}
