//! Load and remove kernel modules, by the program that the kernel itself would call (`/proc/sys/kernel/modprobe`).

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use crate::change::error::ModuleError;
use crate::change::program;
use crate::child::Command;
use crate::host::Root;

/// How long a module may take to start its devices, or to stop them.
const LIMIT: Duration = Duration::from_secs(60);

/// Loads the module with those that it needs.
pub(super) fn load(root: &Root, module: &str) -> Result<(), ModuleError> {
    modprobe(root, &["--", module])
}

/// Removes the module; fails at once if something uses it.
pub(super) fn remove(root: &Root, module: &str) -> Result<(), ModuleError> {
    modprobe(root, &["-r", "--", module])?;
    match is_loaded(root, module) {
        false => Ok(()),
        true => Err(failed(module, "it is still loaded".to_owned())),
    }
}

/// Whether the module is loaded.
pub(super) fn is_loaded(root: &Root, module: &str) -> bool {
    root.path(format!("/sys/module/{}", folder_name(module))).is_dir()
}

/// A module's name as /sys has it.
pub(super) fn folder_name(module: &str) -> String {
    module.replace('-', "_")
}

fn modprobe(root: &Root, arguments: &[&str]) -> Result<(), ModuleError> {
    let program = root.text_up_to("/proc/sys/kernel/modprobe", 4096).filter(|path| !path.is_empty());
    let program = root.path(PathBuf::from(program.unwrap_or_else(|| "/sbin/modprobe".to_owned())));
    let name = arguments.last().copied().unwrap_or_default();
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null());
    program::run(command, "modprobe", LIMIT).map(drop).map_err(|why| failed(name, why))
}

fn failed(module: &str, why: String) -> ModuleError {
    ModuleError::Modprobe { module: module.to_owned(), why }
}
