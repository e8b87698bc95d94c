//! Words on the command line that completions know.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};

/// Takes any text, and tells completions which are known. The command itself says what is near one that is not.
#[derive(Clone)]
pub(super) struct Known(pub(super) fn() -> Vec<String>);

impl TypedValueParser for Known {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new((self.0)().into_iter().map(PossibleValue::new)))
    }
}

/// What a completion script has in place of the machines' names, which are known when a shell asks.
pub const MACHINE_NAMES: &str = "MACHINE_NAMES";

/// Takes the name of a machine.
pub(super) fn machine_name() -> Known {
    Known(|| vec![MACHINE_NAMES.to_owned()])
}
