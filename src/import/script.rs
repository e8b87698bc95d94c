//! A shell script that starts QEMU: its command line, and what it does to the host around it.

use std::collections::BTreeMap;
use std::path::Path;

use super::account::Verdict;
use super::arguments::{self, At, Word};
use super::around;
use super::context::Context;
use super::domain::{NEW_TPM, possible_name};
use super::hooks::{self, Command, Outcome, Taps, base, in_a_shell, read_shell, starters};
use super::xml::Unreadable;
use crate::machine::{Emulated, Firmware, Machine, Tpm};
use crate::units::{Size, Stage};

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
    /// The first line with options that a shell would have taken for a command.
    cut: Option<u32>,
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
    let cut = cut_off(&mut script.commands, qemu);
    Ok(Script { commands: script.commands, functions: script.functions, qemu, cut })
}

/// Gives QEMU the options that an end of the line has cut off; the first line of those.
fn cut_off(commands: &mut Vec<Command>, qemu: usize) -> Option<u32> {
    let is_option = |command: &&Command| {
        let option = command.words.first().and_then(|word| word.strip_prefix('-'));
        option.is_some_and(|option| option.starts_with(|c: char| c.is_ascii_alphabetic())) && !command.control
    };
    let ends = !commands[qemu].piped && commands[qemu].output.is_none();
    let count = commands[qemu + 1..].iter().take_while(is_option).take_while(|_| ends).count();
    let more: Vec<Command> = commands.drain(qemu + 1..qemu + 1 + count).collect();
    let command = &mut commands[qemu];
    // A `\` with a blank behind it is a blank.
    while command.words.last().is_some_and(|word| word.trim().is_empty()) && count > 0 {
        command.words.pop();
        command.lines.pop();
    }
    let first = more.first().map(|command| command.line);
    for other in more {
        let words = other.words.into_iter().zip(other.lines).filter(|(word, _)| !word.trim().is_empty());
        words.for_each(|(word, line)| {
            command.words.push(word);
            command.lines.push(line);
        });
    }
    first
}

/// Programs that hand a text to a shell, beside shells.
const WITH_SHELLS: [&str; 12] =
    ["tmux", "screen", "xterm", "konsole", "gnome-terminal", "script", "sg", "runuser", "su", "pkexec", "flock", "ssh"];

/// The commands in a text that a command hands to a shell, if QEMU's is one of them; else the command.
fn inside(command: Command, values: &mut BTreeMap<String, String>) -> Vec<Command> {
    let certain = command.clone().certain();
    let words: Vec<&str> = certain.words.iter().map(String::as_str).collect();
    let with_shell = words.iter().any(|word| WITH_SHELLS.contains(&base(word))) && !command.control;
    let place = words.iter().position(|word| with_shell && word.contains(char::is_whitespace));
    let text = match (words.first(), in_a_shell(&certain)) {
        (Some(&"eval"), _) => Some((1, words[1..].join(" "))),
        (_, Some(text)) => words.iter().position(|word| *word == text).map(|place| (place, text.to_owned())),
        _ => place.map(|place| (place, words[place].to_owned())),
    };
    let again = words.first() == Some(&"eval") || program(&command).is_none();
    let Some((place, text)) = text.filter(|_| again) else { return vec![command] };
    let mut inner = read_shell(&text, values).commands;
    if !inner.iter().any(|command| program(command).is_some()) {
        return vec![command];
    }
    for inner in &mut inner {
        // What has the shell run has QEMU run.
        if program(inner).is_some() {
            let starters = command.words[..place].iter().filter(|word| *word != "eval").cloned();
            inner.words.splice(0..0, starters);
        }
        inner.line = command.line;
        inner.lines = vec![command.line; inner.words.len()];
        inner.only_if.extend(certain.only_if.iter().cloned());
    }
    inner
}

/// The place of QEMU's name in a command.
fn program(command: &Command) -> Option<usize> {
    if command.control {
        return None;
    }
    let words: Vec<&str> = command.words.iter().map(String::as_str).collect();
    let (_, place) = starters(&words);
    let first = words.get(place)?;
    let whole = |word: &str| base(word).starts_with("qemu-system-") && !word.contains(char::is_whitespace);
    let long = |word: &str| whole(word) || base(word) == "qemu-kvm";
    // `$(which qemu-system-x86_64)`
    let found = |word: &str| {
        let looks = word.starts_with("$(") || word.starts_with('`');
        let mut parts = word.split_whitespace().map(|part| part.trim_matches(['$', '(', ')', '`', '"', '\'']));
        looks
            && !["pgrep", "pidof"].iter().any(|program| word.contains(program))
            && parts.any(|part| base(part) == "kvm" || long(part))
    };
    if long(first) || matches!(base(first), "kvm" | "qemu") || found(first) {
        return Some(place);
    }
    // A program that nobody knows may start QEMU; `echo qemu-system-x86_64` does not.
    let is_option = |index: usize| words.get(index + 1).is_some_and(|next| next.starts_with(['-', '$']));
    let place = (place..words.len()).find(|index| long(words[*index]) && is_option(*index))?;
    (!STARTS_NONE.contains(&base(first))).then_some(place)
}

/// Programs that are told QEMU's name, and start none.
const STARTS_NONE: [&str; 34] = [
    "echo", "printf", "which", "type", "command", "pgrep", "pidof", "killall", "pkill", "ps", "grep", "modprobe",
    "usermod", "chown", "chmod", "setcap", "ls", "cp", "mv", "ln", "rm", "[[", "[", "test", "apt", "apt-get", "pacman",
    "dnf", "yum", "man", "alias", "cd", "local", "export",
];

/// A name for the machine, from the script's.
pub fn name(file: &str) -> String {
    let name = base(file);
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
    let qemu = &script.commands[script.qemu].clone().certain();
    hooks::only_if(cx, file, qemu);
    let place = program(qemu).unwrap_or_default();
    starts(cx, file, qemu, place);
    let words = qemu.words.iter().zip(&qemu.lines).skip(place + 1);
    let words =
        words.map(|(word, line)| Word { text: word.clone(), at: At::Line(file.to_owned(), *line) }).collect::<Vec<_>>();
    arguments::read(cx, &words, BTreeMap::new());
    super::domain::cards(cx);
    memory(cx, &qemu.words[place + 1..]);
    if let Some(line) = script.cut {
        let words = "the line above lacks `\\` at its end, or a comment or blanks behind the `\\` end the command there: a shell takes this line \
                     for a command; the machine has it and those below as QEMU's options";
        cx.account.line(Verdict::Improved, file, line, "-…", words);
    }
    let taps = Taps::of(cx, &script.commands);
    let mut tpm_is_told = false;
    for (index, command) in script.commands.iter().enumerate().filter(|(index, _)| *index != script.qemu) {
        if program(command).is_some() {
            let words = "QEMU is started in more than one way; this file is for the longest: a script with this command line alone is another";
            cx.account.line(Verdict::LeftOut, file, command.line, &command.shown(), words);
            continue;
        }
        if command.never.is_none()
            && let Some((verdict, words)) = swtpm(cx, command)
        {
            cx.account.line(verdict, file, command.line, &command.shown(), &words);
            tpm_is_told = true;
            continue;
        }
        if taps.makes(command) {
            let words = "vfio-run makes a tap device for the run, puts it onto the bridge, and needs no cleaning up";
            cx.account.line(Verdict::DoneByItself, file, command.line, &command.shown(), words);
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

/// Enters the words before QEMU's name.
fn starts(cx: &mut Context, file: &str, qemu: &Command, place: usize) {
    let words: Vec<&str> = qemu.words[..place].iter().map(String::as_str).collect();
    let (mut starters, end) = starters(&words);
    starters.push(end..place);
    let environment = qemu.environment.iter().map(|set| (qemu.line, vec![set.as_str()]));
    let line = |place: usize| qemu.lines.get(place).copied().unwrap_or(qemu.line);
    let starters = starters.into_iter().filter(|starter| !starter.is_empty());
    for (line, words) in environment.chain(starters.map(|starter| (line(starter.start), words[starter].to_vec()))) {
        let words = &words[..];
        let Outcome(verdict, why) = around::of(cx, words).unwrap_or_else(|| {
            let why = "vfio-run starts QEMU itself, without what these words do; a program that starts QEMU with them can be its name: \
                       `qemu: \"/usr/local/bin/SCRIPT\"`";
            Outcome(Verdict::NeedsYou, why.to_owned())
        });
        cx.account.line(verdict, file, line, &words.join(" "), &why);
    }
}

/// Says so if nobody has said how much memory the guest has.
fn memory(cx: &mut Context, words: &[String]) {
    if cx.machine.memory.size != Size::bytes(MEMORY) {
        return;
    }
    let computed = |word: &String| word.contains(['$', '`']) && word != "$@" && word != "$*";
    if words.iter().any(computed) {
        let why = "the guest's memory is not known, and 128 MiB, QEMU's own, is only in its place: write `memory: (size: \"8 GiB\")`";
        cx.account.remark(Verdict::NeedsYou, why);
        cx.comment("memory", "Not known: 128 MiB is only in its place.");
    } else if !words.iter().any(|word| word == "-m") {
        cx.comment("memory", "The script does not say how much; this is what QEMU gives a guest then.");
    }
}

/// What becomes of a command that starts swtpm for a machine whose TPM it emulates; `None` for any other.
fn swtpm(cx: &mut Context, command: &Command) -> Option<(Verdict, String)> {
    let Tpm::V2(Emulated { state }) = &mut cx.machine.tpm else { return None };
    // A `pkill swtpm` starts none.
    let starts = |pair: &[String]| base(&pair[0]) == Tpm::PROGRAM && ["socket", "chardev", "cuse"].contains(&&*pair[1]);
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
