//! The user's own programs.

use std::path::{Component, Path, PathBuf};

use super::Problems;
use crate::machine::Machine;
use crate::units::Stage;

/// More than anybody wants to wait for.
const MAX_HOOKS: usize = 32;
const MAX_TIMEOUT: u32 = 3600;

/// Makes the programs' relative paths start from this folder.
pub(super) fn resolve(machine: &mut Machine, folder: &Path) {
    for stage in Stage::ALL {
        for hook in machine.hooks.of_mut(stage) {
            if let Some(program) = hook.argv.first_mut().filter(|p| p.contains('/') && !p.starts_with('~')) {
                let relative: PathBuf = Path::new(&*program).components().filter(|c| *c != Component::CurDir).collect();
                *program = folder.join(relative).to_string_lossy().into_owned();
            }
        }
    }
}

pub(super) fn check(machine: &Machine, problems: &mut Problems) {
    for stage in Stage::ALL {
        let hooks = machine.hooks.of(stage);
        if hooks.len() > MAX_HOOKS {
            problems
                .add(format!("hooks.{stage}[{MAX_HOOKS}]"), format!("{} hooks are too many", hooks.len()))
                .allowed(format!("at most {MAX_HOOKS} for a stage"));
        }
        for (i, hook) in hooks.iter().enumerate() {
            let field = format!("hooks.{stage}[{i}]");
            match hook.argv.first().map(String::as_str) {
                None | Some("") => {
                    problems
                        .add(&field, format!("`{field}` names no program"))
                        .allowed("a program and its arguments, such as [\"/usr/local/bin/lights\", \"off\"]");
                }
                Some(program) if program.starts_with('~') => {
                    problems
                        .add(&field, format!("`{field}`: `~` is not your home folder here"))
                        .allowed("an absolute path, or one that starts from the machine file's folder");
                }
                Some(program) if !program.contains('/') => {
                    problems
                        .add(&field, format!("`{field}`: {program:?} is no path"))
                        .allowed(format!("an absolute path, or `./{program}` for one in the machine file's folder"))
                        .help("hooks are not looked up in PATH, so that only one program can be meant");
                }
                Some(_) => {}
            }
            if let Some(seconds) = hook.timeout.filter(|seconds| !(1..=MAX_TIMEOUT).contains(seconds)) {
                problems
                    .add(format!("{field}.timeout"), format!("`timeout` cannot be {seconds}"))
                    .allowed(format!("1 to {MAX_TIMEOUT} seconds"));
            }
        }
    }
}
