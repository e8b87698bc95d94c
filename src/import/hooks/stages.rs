//! When each command of a hook runs: by the operation that a test or a label names, and in functions by where they are called.

use std::collections::BTreeMap;

use super::command::Script;
use super::find::{stage_of, stage_of_function};
use crate::units::Stage;

/// The stage of each command. `usual`: what the script's place says.
pub fn of(script: &Script, usual: Stage) -> Vec<Stage> {
    let mut called: BTreeMap<&str, Stage> = BTreeMap::new();
    let mut stages = Vec::new();
    // A function may be called by another, and that only below it.
    for _ in 0..3 {
        stages = walk(script, usual, &mut called);
    }
    stages
}

fn walk<'s>(script: &'s Script, usual: Stage, called: &mut BTreeMap<&'s str, Stage>) -> Vec<Stage> {
    let mut outside = usual;
    let mut inside: (Option<&str>, Stage) = (None, usual);
    let mut stages = Vec::with_capacity(script.commands.len());
    for command in &script.commands {
        let function = command.function.as_deref();
        if function != inside.0 {
            let by_name = |name: &str| called.get(name).copied().or_else(|| stage_of_function(name));
            inside = (function, function.and_then(by_name).unwrap_or(usual));
        }
        let stage = if function.is_some() { &mut inside.1 } else { &mut outside };
        if command.control && !command.words.iter().any(|word| word.ends_with("()")) {
            *stage = stage_of(&command.words.join(" ")).unwrap_or(*stage);
        }
        stages.push(*stage);
        if let Some(word) = command.words.first().filter(|word| script.functions.contains(word)) {
            called.entry(word).or_insert(*stage);
        }
    }
    stages
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::hooks::shell::read;

    #[test]
    fn a_function_belongs_to_where_it_is_called() {
        let text = "back() {\n  echo ondemand\n}\nfunction forth {\n  echo performance\n}\ncleanup() { echo bye; }\necho main\n\
                    if [ \"$2\" = release ]; then\n  back\nelif [ \"$2\" = prepare ]; then\n  forth\nfi\n";
        let script = read(text, &mut BTreeMap::new());
        let stages = of(&script, Stage::Before);
        let stage = |said: &str| {
            let at = script.commands.iter().position(|command| command.shown() == said).unwrap();
            stages[at]
        };
        assert_eq!(stage("echo ondemand"), Stage::Restored);
        assert_eq!(stage("echo performance"), Stage::Before);
        assert_eq!(stage("echo bye"), Stage::Restored);
        assert_eq!(stage("echo main"), Stage::Before);
    }
}
