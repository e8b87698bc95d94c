//! A shell script that starts QEMU: its command line, and what it does to the host around it.

use std::collections::BTreeMap;
use std::path::Path;

use super::arguments::{self, At, Word};
use super::context::Context;
use super::domain::possible_name;
use super::hooks::{self, Command, read_shell};
use super::xml::Unreadable;
use crate::machine::{Firmware, Machine};
use crate::units::Stage;

/// What QEMU gives a guest if nobody says it, in bytes.
pub const MEMORY: u64 = 128 << 20;
/// Larger than any script.
const MAX_TEXT: usize = 256 << 10;

/// A script that was read.
pub struct Script {
    commands: Vec<Command>,
    functions: Vec<String>,
    /// Which of the commands is QEMU's.
    qemu: usize,
}

/// Finds QEMU's command line in a script.
pub fn find(text: &str) -> Result<Script, Unreadable> {
    if text.len() > MAX_TEXT {
        return Err(Unreadable::NoDomain("it is larger than 256 KiB, and no script is".to_owned()));
    }
    let script = read_shell(text, &mut BTreeMap::new());
    // The longest, since a script may ask QEMU for its version first.
    let found = script.commands.iter().enumerate().filter(|(_, command)| program(command).is_some());
    let qemu = found.max_by_key(|(_, command)| command.words.len()).map(|(index, _)| index);
    let qemu = qemu.ok_or_else(|| {
        Unreadable::NoDomain(
            "no command in it starts QEMU by its name (qemu-system-x86_64, qemu-kvm, kvm); write the name where it is in a variable"
                .to_owned(),
        )
    })?;
    Ok(Script { commands: script.commands, functions: script.functions, qemu })
}

/// The place of QEMU's name in a command.
fn program(command: &Command) -> Option<usize> {
    if command.control {
        return None;
    }
    let is_qemu = |word: &String| {
        let name = word.rsplit('/').next().unwrap_or(word);
        matches!(name, "qemu-kvm" | "kvm" | "qemu") || name.starts_with("qemu-system-")
    };
    let place = command.words.iter().position(is_qemu)?;
    // `echo qemu-system-x86_64` starts none.
    let before = &command.words[..place];
    (!matches!(
        before.first().map(String::as_str),
        Some("echo" | "printf" | "which" | "command" | "pgrep" | "killall" | "pkill")
    ))
    .then_some(place)
}

/// A name for the machine, from the script's.
pub fn name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    possible_name(name.strip_suffix(".sh").unwrap_or(name))
}

/// Has the paths of images and firmware start from the folder of the script, where it is usually started.
pub fn from_folder(machine: &mut Machine, folder: &Path) {
    let disks = machine.disks.iter_mut().filter_map(|disk| disk.file.as_mut());
    let firmware = match &mut machine.firmware {
        Firmware::Uefi(uefi) => [uefi.code.as_mut(), uefi.vars.as_mut()],
        _ => [None, None],
    };
    let kernel = machine.kernel.iter_mut().flat_map(|kernel| [Some(&mut kernel.image), kernel.initrd.as_mut()]);
    for path in disks.chain(firmware.into_iter().flatten()).chain(kernel.flatten()) {
        if path.is_relative() && !path.as_os_str().is_empty() {
            *path = folder.join(path.strip_prefix(".").unwrap_or(path));
        }
    }
}

/// Reads the command line into the machine, and all other commands as hooks.
pub fn read(cx: &mut Context, file: &str, script: &Script) {
    let qemu = &script.commands[script.qemu];
    let place = program(qemu).unwrap_or_default();
    let words = qemu.words.iter().zip(&qemu.lines).skip(place + 1);
    let words =
        words.map(|(word, line)| Word { text: word.clone(), at: At::Line(file.to_owned(), *line) }).collect::<Vec<_>>();
    arguments::read(cx, &words, BTreeMap::new());
    for (index, command) in script.commands.iter().enumerate().filter(|(index, _)| *index != script.qemu) {
        let stage = if index < script.qemu { Stage::Before } else { Stage::Restored };
        hooks::enter(cx, file, command, &script.functions, stage);
    }
}
