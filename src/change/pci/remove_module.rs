//! Load and remove kernel modules, by the program that the kernel itself would call (`/proc/sys/kernel/modprobe`).

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use crate::change::pci::bind_driver::{await_driver, await_screen, check_answers, driver, folder, has_screen, probe};
use crate::change::pci::disks::check_unused;
use crate::change::{Before, Bound, ChangeError, Undone, program};
use crate::child::Command;
use crate::host::Root;
use crate::units::PciAddress;

/// How long a module may take to start its devices, or to stop them.
const LIMIT: Duration = Duration::from_secs(60);
/// Deeper than modules stand upon each other.
const MAX_DEPTH: usize = 8;

/// Whether it is loaded.
pub(in crate::change) fn capture(root: &Root, module: &str) -> Before {
    let loaded = is_loaded(root, module);
    let functions = if loaded { functions(root, &folder_name(module)) } else { Vec::new() };
    Before::Module { loaded, functions }
}

/// The functions that the module's drivers have, and those of the modules that it stands upon: modprobe removes these
/// with it when nothing else needs them.
fn functions(root: &Root, module: &str) -> Vec<Bound> {
    let all = root.names("/sys/bus/pci/devices").into_iter().filter_map(|name| name.parse::<PciAddress>().ok());
    let bound = all.filter_map(|address| {
        let link = std::fs::read_link(root.path(folder(address).join("driver/module"))).ok()?;
        let its = link.file_name()?.to_str()?;
        let (driver, screen) = (driver(root, address)?, has_screen(root, address));
        carries(root, its, module, 0).then_some(Bound { address, driver, screen })
    });
    bound.collect()
}

/// Whether the upper module is the lower one, or stands upon it.
fn carries(root: &Root, lower: &str, upper: &str, depth: usize) -> bool {
    let holders = || root.names(format!("/sys/module/{lower}/holders"));
    lower == upper || depth < MAX_DEPTH && holders().iter().any(|holder| carries(root, holder, upper, depth + 1))
}

/// Removes the module; fails at once where something uses it, which an unbind of its driver would wait for.
pub(in crate::change) fn remove(root: &Root, module: &str, had: &[Bound]) -> Result<(), ChangeError> {
    if !is_loaded(root, module) {
        return Ok(());
    }
    for bound in had {
        check_unused(root, bound.address)?;
    }
    modprobe(root, &["-r", "--", module])?;
    match is_loaded(root, module) {
        false => Ok(()),
        true => Err(failed(module, "it is still there".to_owned())),
    }
}

/// Loads the module again and sees that its drivers take back what they had. A module whose drivers would get a dead card
/// stays away: they could take the host down with it.
pub(in crate::change) fn undo(
    root: &Root,
    module: &str,
    was_loaded: bool,
    had: &[Bound],
) -> Result<Undone, ChangeError> {
    let loaded = is_loaded(root, module);
    let missing: Vec<&Bound> = had.iter().filter(|bound| is_missing(root, bound)).collect();
    if !was_loaded || loaded && missing.is_empty() {
        return Ok(Undone::AlreadyBack);
    }
    for bound in &missing {
        check_answers(root, bound.address)?;
    }
    if !loaded {
        load(root, module)?;
    }
    for bound in missing {
        // The module came back earlier, or somebody else loaded it.
        if loaded && driver(root, bound.address).is_none() {
            probe(root, bound.address)?;
        }
        await_driver(root, bound.address, &bound.driver)?;
    }
    for bound in had.iter().filter(|bound| bound.screen && driver(root, bound.address).as_ref() == Some(&bound.driver))
    {
        await_screen(root, bound.address, &bound.driver)?;
    }
    Ok(Undone::Restored)
}

/// Whether the function is there without its driver, and nobody has given it to another of the host's meanwhile.
fn is_missing(root: &Root, bound: &Bound) -> bool {
    let now = driver(root, bound.address);
    root.path(folder(bound.address)).exists()
        && now.as_ref() != Some(&bound.driver)
        && now.is_none_or(|driver| driver == "vfio-pci")
}

/// Loads the module with what it stands upon.
pub(in crate::change) fn load(root: &Root, module: &str) -> Result<(), ChangeError> {
    modprobe(root, &["--", module])
}

fn is_loaded(root: &Root, module: &str) -> bool {
    root.path(format!("/sys/module/{}", folder_name(module))).is_dir()
}

/// A module's name as /sys has it.
fn folder_name(module: &str) -> String {
    module.replace('-', "_")
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
