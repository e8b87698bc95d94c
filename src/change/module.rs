//! Load and remove kernel modules, by the program that the kernel itself would call (`/proc/sys/kernel/modprobe`).

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use super::{Before, ChangeError, Undone, program};
use crate::child::Command;
use crate::host::Root;

/// How long a module may take to start its devices, or to stop them.
const LIMIT: Duration = Duration::from_secs(60);

/// Whether it is loaded.
pub(super) fn capture(root: &Root, module: &str) -> Before {
    Before::Exists(is_loaded(root, module))
}

/// Removes the module; fails at once where something uses it, which an unbind of its driver would wait for.
pub(super) fn remove(root: &Root, module: &str) -> Result<(), ChangeError> {
    if !is_loaded(root, module) {
        return Ok(());
    }
    modprobe(root, &["-r", "--", module])?;
    match is_loaded(root, module) {
        false => Ok(()),
        true => Err(failed(module, "it is still there".to_owned())),
    }
}

/// Loads it again, where it was loaded.
pub(super) fn undo(root: &Root, module: &str, was_loaded: bool) -> Result<Undone, ChangeError> {
    if is_loaded(root, module) == was_loaded || !was_loaded {
        return Ok(Undone::AlreadyBack);
    }
    load(root, module)?;
    Ok(Undone::Restored)
}

/// Loads the module with what it stands upon.
pub(super) fn load(root: &Root, module: &str) -> Result<(), ChangeError> {
    modprobe(root, &["--", module])
}

fn is_loaded(root: &Root, module: &str) -> bool {
    root.path(format!("/sys/module/{}", module.replace('-', "_"))).is_dir()
}

fn modprobe(root: &Root, arguments: &[&str]) -> Result<(), ChangeError> {
    let program = root.text_up_to("/proc/sys/kernel/modprobe", 4096).filter(|path| !path.is_empty());
    let program = root.path(PathBuf::from(program.unwrap_or_else(|| "/sbin/modprobe".to_owned())));
    let name = arguments.last().copied().unwrap_or_default();
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null());
    program::run(command, "modprobe", LIMIT).map(drop).map_err(|why| failed(name, why))
}

fn failed(module: &str, why: String) -> ChangeError {
    ChangeError::Module { module: module.to_owned(), why }
}
