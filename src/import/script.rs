//! A shell script that starts QEMU: its command line, and what it does to the host around it.

use std::collections::BTreeMap;
use std::path::Path;

use super::account::Verdict;
use super::arguments::{self, At, Word};
use super::context::Context;
use super::domain::{NEW_TPM, possible_name};
use super::hooks::{self, Command, in_a_shell, read_shell};
use super::xml::Unreadable;
use crate::machine::{Emulated, Firmware, Machine, Tpm};
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
pub fn find(text: &str, home: Option<&Path>) -> Result<Script, Unreadable> {
    if text.len() > MAX_TEXT {
        return Err(Unreadable::NoDomain("it is larger than 256 KiB, and no script is".to_owned()));
    }
    let home = home.map(|home| ("HOME".to_owned(), home.to_string_lossy().into_owned()));
    let mut values: BTreeMap<String, String> = home.into_iter().collect();
    let mut script = read_shell(text, &mut values);
    script.commands = script.commands.into_iter().flat_map(|command| inside(command, &mut values)).collect();
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

/// The commands in a text that a command hands to a shell, if QEMU's is one of them; else the command.
fn inside(command: Command, values: &mut BTreeMap<String, String>) -> Vec<Command> {
    let text = match command.words.first().map(String::as_str) {
        Some("eval") => Some(command.words[1..].join(" ")),
        _ => in_a_shell(&command).map(str::to_owned),
    };
    let inner = text.map(|text| read_shell(&text, values).commands).unwrap_or_default();
    if !inner.iter().any(|command| program(command).is_some()) {
        return vec![command];
    }
    let of_line = |mut inner: Command| {
        inner.line = command.line;
        inner.lines.iter_mut().for_each(|line| *line = command.line);
        inner
    };
    inner.into_iter().map(of_line).collect()
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
        Some(
            "echo"
                | "printf"
                | "which"
                | "command"
                | "pgrep"
                | "pidof"
                | "killall"
                | "pkill"
                | "ps"
                | "grep"
                | "modprobe"
                | "usermod"
                | "chown"
                | "chmod"
                | "ls"
                | "[["
                | "["
                | "test"
                | "apt"
                | "apt-get"
                | "pacman"
                | "dnf"
                | "alias"
                | "cd"
                | "local"
                | "export"
        )
    ))
    .then_some(place)
}

/// A name for the machine, from the script's.
pub fn name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    possible_name(name.strip_suffix(".sh").unwrap_or(name))
}

/// Has the paths of images and firmware start from the folder of the script, where it is usually started.
pub fn from_folder(machine: &mut Machine, folder: &Path, home: Option<&Path>) {
    let whole = |path: &Path| match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => folder.join(path.strip_prefix(".").unwrap_or(path)),
    };
    let disks = machine.disks.iter_mut().filter_map(|disk| disk.file.as_mut());
    let firmware = match &mut machine.firmware {
        Firmware::Uefi(uefi) => [uefi.code.as_mut(), uefi.vars.as_mut()],
        _ => [None, None],
    };
    let kernel = machine.kernel.iter_mut().flat_map(|kernel| [Some(&mut kernel.image), kernel.initrd.as_mut()]);
    let roms = machine.pci.iter_mut().filter_map(|device| device.rom.as_mut());
    let tables = machine.acpi_tables.0.iter_mut();
    let state = match &mut machine.tpm {
        Tpm::V2(Emulated { state }) => state.as_mut(),
        _ => None,
    };
    let shares = machine.shares.iter_mut().map(|share| &mut share.folder);
    for pair in 0..machine.extra_args.len().saturating_sub(1) {
        let members =
            arguments::Members::parse(&machine.extra_args[pair + 1]).filter(|_| machine.extra_args[pair] == "-drive");
        if let Some(members) = members
            && let Some(file) = members.get("file").filter(|file| !file.starts_with('/') && !file.contains(':'))
        {
            machine.extra_args[pair + 1] = members.with("file", &whole(Path::new(file)).to_string_lossy());
        }
    }
    for path in disks
        .chain(shares)
        .chain(roms)
        .chain(tables)
        .chain(state)
        .chain(firmware.into_iter().flatten())
        .chain(kernel.flatten())
    {
        if path.is_relative() && !path.as_os_str().is_empty() {
            *path = whole(path);
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
    super::domain::cards(cx);
    let mut tpm_is_told = false;
    for (index, command) in script.commands.iter().enumerate().filter(|(index, _)| *index != script.qemu) {
        if program(command).is_some() {
            let words = "QEMU is started in more than one way; this file is for the longest: a script with this command line alone is another";
            cx.account.line(Verdict::LeftOut, file, command.line, &command.shown(), words);
            continue;
        }
        if let Some((verdict, words)) = swtpm(cx, command) {
            cx.account.line(verdict, file, command.line, &command.shown(), &words);
            tpm_is_told = true;
            continue;
        }
        let stage = if index < script.qemu { Stage::Before } else { Stage::Restored };
        hooks::enter(cx, file, command, &script.functions, stage);
    }
    if let Firmware::Uefi(uefi) = &cx.machine.firmware
        && uefi.vars.as_ref().is_some_and(|vars| vars.to_string_lossy().contains('$'))
    {
        let words = "the shell computes the variable store's name when the script runs: write the name of the file that it is a copy of, \
                     `firmware: Uefi(code: \"/…\", vars: \"/…\")`";
        cx.account.remark(Verdict::NeedsYou, words);
    }
    if !tpm_is_told && cx.machine.tpm == Tpm::V2(Emulated::default()) {
        let words = format!(
            "nothing here starts swtpm, so where the TPM's state is is not known: `tpm: V2(state: \"/…\")` takes it over, else there is none, \
             {NEW_TPM}"
        );
        cx.account.remark(Verdict::NeedsYou, &words);
    }
}

/// What becomes of a command that starts swtpm for a machine whose TPM it emulates; `None` for any other.
fn swtpm(cx: &mut Context, command: &Command) -> Option<(Verdict, String)> {
    let Tpm::V2(Emulated { state }) = &mut cx.machine.tpm else { return None };
    // A `pkill swtpm` starts none.
    let starts = |pair: &[String]| {
        pair[0].rsplit('/').next() == Some(Tpm::PROGRAM) && ["socket", "chardev", "cuse"].contains(&&*pair[1])
    };
    let place = command.words.windows(2).position(starts)?;
    let words = &command.words[place..];
    let value = |option: &str| {
        words.iter().enumerate().find_map(|(at, word)| match word.strip_prefix(option)? {
            "" => words.get(at + 1).map(String::as_str),
            joined => joined.strip_prefix('='),
        })
    };
    let member = |name: &str| value("--tpmstate")?.split(',').find_map(|member| member.strip_prefix(name));
    let uri = member("backend-uri=");
    let folder = member("dir=").or_else(|| uri?.strip_prefix("dir://")).unwrap_or_default();
    let lost = if !words.iter().any(|word| word == "--tpm2") {
        "this is a TPM 1.2, whose state is of no use to a TPM 2.0"
    } else if value("--key").is_some() {
        "the state is encrypted, and vfio-run has no key"
    } else if uri.is_some_and(|uri| uri.starts_with("file:")) {
        "swtpm keeps this state in a single file, which vfio-run does not copy"
    } else if folder.contains("mktemp") {
        return Some((
            Verdict::DoneByItself,
            "vfio-run starts swtpm, with a new TPM, as each start of the script had; it keeps its state".to_owned(),
        ));
    } else if folder.is_empty() || folder.contains(['$', '`']) {
        "what the script calls the folder of the state is known only when it runs (`tpm: V2(state: \"/…\")` names it)"
    } else {
        *state = Some(folder.into());
        cx.comment("tpm", "The TPM's state so far: vfio-run copies it once, and leaves it as it is.");
        return Some((
            Verdict::TakenOver,
            "vfio-run starts swtpm, and copies its state once (BitLocker, PIN)".to_owned(),
        ));
    };
    Some((Verdict::NeedsYou, format!("{lost}, {NEW_TPM}")))
}
